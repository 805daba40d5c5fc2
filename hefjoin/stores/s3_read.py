"""Reads an object of S3 in order: several parts at a time, each asked for again by itself where its bytes break off.

The rule: a bounded number of parts is in memory, whatever the size; the reader of them can hash and write as they come.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

PART_BYTES = 8 << 20
THREADS = 4
WINDOW = 6
"""Parts that are read or wait to be taken: 48 MiB."""
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2


def parts(client: Any, bucket: str, key: str, size_bytes: int) -> Iterator[bytearray]:
    """Yield an object's bytes, in order.

    Args:
        client: Of boto3, for several threads.
        bucket: Where the object lies.
        key: The object.
        size_bytes: Of the object.

    Raises:
        BotoCoreError, ClientError: The object cannot be read.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        waiting: deque[Future[bytearray]] = deque()
        try:
            for start in range(0, size_bytes, PART_BYTES):
                end = min(start + PART_BYTES, size_bytes)
                waiting.append(threads.submit(_part, client, bucket, key, start, end))
                if len(waiting) == WINDOW:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def copy(client: Any, bucket: str, key: str, size_bytes: int, path: Path) -> str:
    """Write an object to a file and return the sha256 of what was written; raises as `parts` does."""
    digest = hashlib.sha256()
    with path.open("wb") as writer:
        for part in parts(client, bucket, key, size_bytes):
            digest.update(part)
            writer.write(part)
    return digest.hexdigest()


def _part(client: Any, bucket: str, key: str, start: int, end: int) -> bytearray:
    """Return the bytes from `start` to before `end`; an answer that breaks off is asked for again, as requests are."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{end - 1}"}
    for attempt in range(ATTEMPTS):
        try:
            return _read(client.get_object(**wanted)["Body"], end - start)
        except (HTTPClientError, IncompleteReadError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")


def _read(body: Any, size_bytes: int) -> bytearray:
    """Return all bytes of an answer, without a second copy of them."""
    part = bytearray(size_bytes)
    at = 0
    for chunk in body.iter_chunks(1 << 18):
        part[at : at + len(chunk)] = chunk
        at += len(chunk)
    del part[at:]
    return part
