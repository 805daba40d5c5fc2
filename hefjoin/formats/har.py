"""Reads and writes a HAR, the archive in which the compiler keeps a network between its steps.

A HAR (Hailo Archive) is a tar; all members are `<model name><suffix>`: `.metadata.json` says the state and names
the HN member, `.hn` is the graph as JSON (shapes NHWC, batch -1; layers `<scope>/<layer>`), `.npz` and others hold
the weights. Layout taken from a HAR of DFC 3.33. The one rule: nothing in an archive decides where we write or how
much we read.
"""

from __future__ import annotations

import io
import json
import tarfile
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from hefjoin.artifacts import CHUNK_BYTES
from hefjoin.errors import InputError, StoreError
from hefjoin.formats.har_guard import GuardedStream
from hefjoin.formats.har_layers import HarLayer, Names
from hefjoin.formats.hef_emulated import EMULATOR_SUFFIX

__all__ = ["Chunked", "Har", "HarLayer", "member_place", "read", "read_member", "write"]

METADATA_SUFFIX, HN_SUFFIX = ".metadata.json", ".hn"
TEXT_LIMIT_BYTES = 64 << 20
GRAPH_LIMIT_BYTES = 16 << 20
"""The graphs of large networks take a few MiB; parsed JSON takes up to thirty times its size."""
LAYERS_LIMIT = 20_000
MEMBERS_LIMIT = 1000
MEMBER_LIMIT_BYTES = 4 << 30
WEIGHTS_SUFFIX = ".weights"
"""Ends the member of an emulator's HAR that is used where it lies and never read as a whole."""
WEIGHTS_LIMIT_BYTES = 64 << 30

PARSE_AGAIN = "parse the model again to get a whole HAR"

# What tarfile, gzip and zlib are known to raise on damaged archives (fuzzed in tests/fuzz).
_DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, LookupError, RecursionError)

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Har:
    """What a HAR says about its network; weights are not read."""

    model_name: str
    state: str
    """`hailo_model`, `fp_optimized_model`, `quantized_model` or `compiled_model`."""
    hw_arch: str
    sdk_version: str
    is_emulated: bool
    scopes: tuple[str, ...]
    layers: tuple[HarLayer, ...]
    """In file order."""
    members: tuple[str, ...]

    @property
    def inputs(self) -> tuple[HarLayer, ...]:
        """The layers the host feeds."""
        return tuple(layer for layer in self.layers if layer.type == "input_layer")

    @property
    def outputs(self) -> tuple[HarLayer, ...]:
        """The layers the host reads."""
        return tuple(layer for layer in self.layers if layer.type == "output_layer")

    @property
    def layer_counts(self) -> dict[str, int]:
        """How many layers there are of each type, the most frequent first."""
        return dict(Counter(layer.type for layer in self.layers).most_common())

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers with a kernel, see `HarLayer.parameters`."""
        return sum(layer.parameters for layer in self.layers)


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    state: str
    model_name: str | None = None
    sdk_version: str = ""
    hw_arch: str = ""
    hn: str | None = None


class _NetParams(BaseModel):
    model_config = ConfigDict(extra="ignore")

    net_scopes: Names = ()


class _Hn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    net_params: _NetParams = _NetParams()
    layers: tuple[HarLayer, ...]

    @field_validator("layers", mode="before")
    @classmethod
    def _named(cls, layers: Any) -> Any:
        """Move the keys of the layers into them."""
        if not isinstance(layers, dict):
            return layers
        if len(layers) > LAYERS_LIMIT:
            raise ValueError(f"{len(layers):,} layers, at most {LAYERS_LIMIT:,} are read")
        return [{**layer, "name": name} if isinstance(layer, dict) else layer for name, layer in layers.items()]

    @field_validator("layers")
    @classmethod
    def _whole(cls, layers: tuple[HarLayer, ...]) -> tuple[HarLayer, ...]:
        """Refuse layers without what inputs, outputs and work are counted by."""
        problems = [layer.problem for layer in layers if layer.problem]
        if problems:
            more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise ValueError(f"{'; '.join(problems[:10])}{more}")
        return layers


def read(path: Path | str) -> Har:
    """Read metadata and graph of a HAR (tar or tar.gz).

    Raises:
        InputError: the file is missing or no archive, a member is a link, a device or lies outside, metadata or
            graph is missing, larger than `GRAPH_LIMIT_BYTES`, no JSON or not of the expected form; or an input, an
            output or a layer with weights has no shape.
    """
    path = Path(path)
    with _open(path) as archive:
        prefix = archive.prefix
        metadata = _parsed(_Metadata, archive, f"{prefix}{METADATA_SUFFIX}")
        hn = _parsed(_Hn, archive, metadata.hn or f"{prefix}{HN_SUFFIX}")
    return Har(
        model_name=metadata.model_name or prefix,
        state=metadata.state,
        hw_arch=metadata.hw_arch,
        sdk_version=metadata.sdk_version,
        is_emulated=metadata.sdk_version.endswith(EMULATOR_SUFFIX),
        scopes=hn.net_params.net_scopes or tuple(dict.fromkeys(layer.scope for layer in hn.layers)),
        layers=hn.layers,
        members=tuple(archive.members),
    )


def read_member(path: Path | str, suffix: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """Return the member `<model name><suffix>`.

    Raises:
        InputError: as `read`; or there is no such member, or it is larger than `limit_bytes`.
    """
    with _open(Path(path)) as archive:
        return archive.read(f"{archive.prefix}{suffix}", limit_bytes)


def member_place(path: Path | str, suffix: str) -> tuple[int, int]:
    """Return where in the file the member `<model name><suffix>` begins, and how many bytes it takes.

    Raises:
        InputError: as `read_member`; or the archive is compressed, so that it lies nowhere.
    """
    with _open(Path(path)) as archive:
        entry = archive.entry(f"{archive.prefix}{suffix}")
        if archive.is_compressed:
            raise InputError(f"{path}: {entry.name} is used where it lies, but the archive is compressed; unpack it")
        return entry.offset_data, entry.size


class Chunked(NamedTuple):
    """A member that is never in memory as a whole."""

    size_bytes: int
    chunks: Iterable[bytes]


def write(
    path: Path,
    *,
    model_name: str,
    metadata: Mapping[str, Any],
    hn: Mapping[str, Any],
    members: Mapping[str, bytes | Path | Chunked],
) -> None:
    """Write a HAR; equal content gives equal bytes (no times, no owners, members sorted).

    Args:
        path: replaced at once when the archive is whole.
        model_name: the start of every member's name; a plain file name.
        metadata: at least `state`, `sdk_version` and `hw_arch`; `model_name` and `hn` are added.
        hn: the graph; the order of its layers is kept.
        members: suffix with its dot, to bytes, to a file or to chunks.

    Raises:
        StoreError: the archive cannot be written; an older one is left as it was.
        ValueError: the model name is no plain file name, or a suffix is taken.
    """
    taken = {METADATA_SUFFIX, HN_SUFFIX} & members.keys()
    if not model_name or PurePosixPath(model_name).name != model_name or taken:
        raise ValueError(f"model name {model_name!r} must be a plain file name; suffixes taken: {sorted(taken)}")
    full = {**metadata, "model_name": model_name, "hn": f"{model_name}{HN_SUFFIX}"}
    texts = {
        METADATA_SUFFIX: json.dumps(full, sort_keys=True, allow_nan=False).encode(),
        HN_SUFFIX: json.dumps(hn, indent=1, allow_nan=False).encode(),
    }
    with (
        _replacing(path) as stream,
        tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK_BYTES) as archive,
    ):
        contents: dict[str, bytes | Path | Chunked] = {**texts, **members}
        for suffix in sorted(contents):
            _add(archive, f"{model_name}{suffix}", contents[suffix])


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path | Chunked) -> None:
    entry = tarfile.TarInfo(name)
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as stream:
            archive.addfile(entry, stream)
    elif isinstance(content, Chunked):
        entry.size = content.size_bytes
        archive.addfile(entry, io.BufferedReader(_Joined(content.chunks), CHUNK_BYTES))
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


class _Joined(io.RawIOBase):
    """Chunks, one behind the other, as a stream to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if not (chunk := next(self._chunks, b"")):
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@dataclass(frozen=True)
class _Archive:
    path: Path
    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]
    prefix: str
    """The name of the metadata member without its suffix."""
    is_compressed: bool

    def entry(self, name: str) -> tarfile.TarInfo:
        """Return the header of one member."""
        if name not in self.members:
            known = ", ".join(sorted(self.members))
            raise InputError(f"{self.path}: no member {name!r}, it has {known}; {PARSE_AGAIN}")
        return self.members[name]

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of one member."""
        entry = self.entry(name)
        with _reading(self.path):
            stream = self.tar.extractfile(entry)
        assert stream is not None, "only links and directories have no content, and they were refused"
        while True:
            with _reading(self.path):
                chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    def read(self, name: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
        """Return one member that is not larger than `limit_bytes`."""
        if name in self.members and self.members[name].size > limit_bytes:
            raise InputError(
                f"{self.path}: member {name!r} takes {self.members[name].size:,} bytes, at most {limit_bytes:,} "
                f"are read; {PARSE_AGAIN}"
            )
        return b"".join(self.chunks(name))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged archive into an `InputError`."""
    try:
        yield
    except _DAMAGED as error:
        raise InputError(f"{path}: no tar archive, or a damaged one ({error}); {PARSE_AGAIN}") from error


@contextmanager
def _open(path: Path) -> Iterator[_Archive]:
    """Open a HAR and look at all member headers first."""
    with ExitStack() as stack:
        with _reading(path):
            if not path.is_file():
                raise InputError(f"{path}: no file there; give the path of a HAR")
            plain: IO[bytes] = stack.enter_context(path.open("rb"))
            stream = GuardedStream(path, plain)
            tar = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:"))
            members = _members(path, tar)
            stream.expect_contents()
        yield _Archive(path, tar, members, _prefix(path, members), stream.is_compressed)


def _members(path: Path, tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for entry in tar:
        name = PurePosixPath(entry.name)
        if not entry.isreg() or entry.issparse() or entry.size < 0 or name.is_absolute() or ".." in name.parts:
            raise InputError(
                f"{path}: member {entry.name!r} is no plain file inside the archive (but a link, a device, a "
                "directory or a path that leads out); a HAR holds none: do not trust this one"
            )
        if len(members) == MEMBERS_LIMIT:
            raise InputError(f"{path}: more than {MEMBERS_LIMIT} members, a HAR has about ten; {PARSE_AGAIN}")
        limit_bytes = WEIGHTS_LIMIT_BYTES if entry.name.endswith(WEIGHTS_SUFFIX) else MEMBER_LIMIT_BYTES
        if entry.size > limit_bytes:
            raise InputError(
                f"{path}: member {entry.name!r} takes {entry.size:,} bytes, a HAR holds members of at most "
                f"{limit_bytes:,}; {PARSE_AGAIN}"
            )
        members[entry.name] = entry
    return members


def _prefix(path: Path, members: Mapping[str, Any]) -> str:
    found = [name for name in members if name.endswith(METADATA_SUFFIX)]
    if len(found) != 1:
        known = ", ".join(sorted(members)) or "nothing"
        raise InputError(
            f"{path}: {len(found)} members end in {METADATA_SUFFIX}, a HAR has one (the archive holds {known}); "
            f"{PARSE_AGAIN}"
        )
    return found[0].removesuffix(METADATA_SUFFIX)


def _parsed(model: type[Model], archive: _Archive, name: str) -> Model:
    """Return a JSON member as `model`."""
    text = archive.read(name, GRAPH_LIMIT_BYTES)
    try:
        return model.model_validate(json.loads(text))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(
            f"{archive.path}: {name} is not what a HAR holds there: {'; '.join(problems[:10])}{more}; {PARSE_AGAIN}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{archive.path}: {name} is no JSON ({error}); {PARSE_AGAIN}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write under a temporary name beside `path`, then rename; leave nothing behind on an error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; free space or choose another directory"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
