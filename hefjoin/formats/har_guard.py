"""The stream between a HAR and `tarfile`: what only a damaged or hostile archive asks for is refused.

The one rule: headers are small, and a compressed archive is not unpacked further than it may reasonably grow.
`tarfile` reads extended headers of any size, in older Pythons in time quadratic in it (CVE-2024-6232), and seeks over
a member of any size, which in a compressed archive means to unpack it.
"""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import IO, Any

GZIP_MAGIC = b"\x1f\x8b"
HEADER_LIMIT_BYTES = 2048
"""An extended header holds a name and times."""
ALL_HEADERS_LIMIT_BYTES = 1 << 19
COMPRESSION_LIMIT = 100
"""Times that a compressed archive may grow; JSON grows about twentyfold, weights hardly."""
SMALL_BYTES = 1 << 20
"""A compressed archive may always grow to this."""


class GuardedStream:
    """A readable, seekable stream over a tar or tar.gz, for `tarfile.open(fileobj=…, mode="r:")`.

    Its methods raise `tarfile.ReadError` for what is refused.
    """

    def __init__(self, path: Path, plain: IO[bytes]) -> None:
        self.is_compressed = plain.read(2) == GZIP_MAGIC
        plain.seek(0)
        size_bytes = path.stat().st_size
        self._stream: Any = gzip.GzipFile(fileobj=plain) if self.is_compressed else plain
        self._end = max(size_bytes * COMPRESSION_LIMIT, SMALL_BYTES) if self.is_compressed else size_bytes
        self._header_bytes: int | None = 0

    def expect_contents(self) -> None:
        """Say that all headers are known: from now on members are read."""
        self._header_bytes = None

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        if size < 0:
            raise tarfile.ReadError(f"a header asks for {size} bytes")
        if self._header_bytes is not None:
            self._header_bytes += size
            if size > HEADER_LIMIT_BYTES or self._header_bytes > ALL_HEADERS_LIMIT_BYTES:
                raise tarfile.ReadError(
                    f"a header of {size:,} bytes, {self._header_bytes:,} in all so far; at most "
                    f"{HEADER_LIMIT_BYTES:,} and {ALL_HEADERS_LIMIT_BYTES:,} are read"
                )
        content: bytes = self._stream.read(size)
        return content

    def seek(self, offset: int) -> int:
        """Go to a byte of the unpacked archive."""
        if offset > self._end:
            raise tarfile.ReadError(f"a member ends at byte {offset:,}, the archive at {self._end:,} or before")
        place: int = self._stream.seek(offset)
        return place

    def tell(self) -> int:
        """Return the place in the unpacked archive."""
        place: int = self._stream.tell()
        return place
