"""Hashes all that a build names, and says what is missing or damaged and what has to be built again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from hefjoin.artifacts import Record, Ref, file_sha256, named_refs
from hefjoin.builds.find import LOST, read_manifest
from hefjoin.builds.rows import build_key, read, row_of
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Manifest, Published
from hefjoin.stores import Store, os_errors

THREADS = 2
PUBLISH = "publish"

OnHashed = Callable[[int, int], None]
"""Called with the bytes that are hashed by now, and those of all."""


class Finding(Record):
    """Something that is not as the build left it."""

    kind: Literal["artifact", "record"]
    uses: tuple[str, ...]
    """What it is for: its paths in the manifest (`quantized.har`), or `manifest`, `report`, `hef`; a record's key."""
    uri: str
    problem: Literal["missing", "damaged"]
    expected: str
    """Its sha256; of a record, what it should be."""
    found: str
    """As `expected`; empty where it is missing."""
    stages: tuple[str, ...]
    """What a build of the same spec does again because of it."""


class Verified(Record):
    """What became of looking at a build."""

    build_id: str
    artifacts: int
    records: int
    size_bytes: int
    """Of all artifacts."""
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...] = ()
    """What could not be looked at, and why."""


def verify(store: Store, published: Published, on_hashed: OnHashed | None = None) -> Verified:
    """Hash every artifact and read every record that belongs to a build.

    Args:
        store: Where it lies.
        published: The build.
        on_hashed: For progress.

    Raises:
        InputError: The manifest was written by another version of hefjoin.
        StoreError: The store cannot be read.
    """
    named = {"manifest": published.manifest, "report": published.report, "hef": published.hef}
    records = [build_key(published), *_row_records(store, published)]
    unchecked: tuple[str, ...] = ()
    try:
        manifest = read_manifest(store, published)
    except StoreError as error:
        if error.reason not in LOST:
            raise
        unchecked = ("what the manifest names, because the manifest is lost",)
    else:
        named |= dict(named_refs(manifest))
        records += dict.fromkeys(f"reuse/{run.stage}/{run.key}" for run in manifest.stages)
    uses: dict[Ref, list[str]] = {}
    for path, ref in named.items():
        uses.setdefault(ref.model_copy(update={"uri": ""}), []).append(path)
    findings = [*_look_at(store, uses, on_hashed), *_damaged_records(store, records)]
    return Verified(
        build_id=published.build_id,
        artifacts=len(uses),
        records=len(records),
        size_bytes=sum(ref.size_bytes for ref in uses),
        findings=tuple(findings),
        unchecked=unchecked,
    )


def verify_folder(folder: Path, manifest: Manifest, published: Published | None) -> Verified:
    """Hash the files that a build laid out: the HEF against the manifest, all against the store's record of it.

    Args:
        folder: Where HEF, report and manifest lie.
        manifest: The one that lies there.
        published: The build's record; None where the store has none.
    """
    name = f"{manifest.spec.name}.{manifest.compiled.hef.media}"
    wanted = {"hef": (folder / name, manifest.compiled.hef)}
    unchecked: tuple[str, ...] = ()
    if published is None:
        unchecked = ("report.html and manifest.json, because the store has no record of this build",)
    else:
        wanted["report"] = folder / "report.html", published.report
        wanted["manifest"] = folder / "manifest.json", published.manifest
    findings = [_file_finding(use, path, ref) for use, (path, ref) in wanted.items()]
    return Verified(
        build_id=manifest.build_id,
        artifacts=len(wanted),
        records=0,
        size_bytes=sum(ref.size_bytes for _, ref in wanted.values()),
        findings=tuple(finding for finding in findings if finding is not None),
        unchecked=unchecked,
    )


def _look_at(store: Store, uses: dict[Ref, list[str]], on_hashed: OnHashed | None) -> Iterator[Finding]:
    done, total = 0, sum(ref.size_bytes for ref in uses)
    with ThreadPoolExecutor(THREADS) as pool:
        for ref, finding in zip(uses, pool.map(lambda item: _finding(store, *item), uses.items()), strict=True):
            done += ref.size_bytes
            if on_hashed:
                on_hashed(done, total)
            if finding is not None:
                yield finding


def _finding(store: Store, ref: Ref, uses: list[str]) -> Finding | None:
    if store.is_intact(ref):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            store.get(ref, Path(folder) / "object")
        except StoreError as error:
            if error.reason not in LOST:
                raise
            stages = tuple(dict.fromkeys(stage for use in uses if (stage := stage_of(use))))
            return Finding(
                kind="artifact",
                uses=tuple(uses),
                uri=error.uri,
                problem="missing" if error.reason == "missing" else "damaged",
                expected=ref.sha256,
                found=error.attributes.get("found_sha256", ""),
                stages=stages,
            )
    return None  # it was put back meanwhile


def _file_finding(use: str, path: Path, ref: Ref) -> Finding | None:
    with os_errors(f"read {path}", str(path)):
        found = file_sha256(path) if path.is_file() else ""
    if found == ref.sha256:
        return None
    problem: Literal["missing", "damaged"] = "damaged" if found else "missing"
    return Finding(
        kind="artifact", uses=(use,), uri=str(path), problem=problem, expected=ref.sha256, found=found, stages=()
    )


def stage_of(path: str) -> str:
    """Return the stage, with its model, that makes an artifact again; empty where none does, as of a source.

    Args:
        path: Of the artifact in the manifest: `models.digit.har`.
    """
    first, _, rest = path.partition(".")
    if first == "models":
        return f"parse {rest.rpartition('.')[0]}"
    made_by = {"check": "check", "joined": "join", "quantized": "quantize", "compiled": "compile", "hef": "compile",
               "measured": "benchmark", "fetched": "fetch"}  # fmt: skip
    return made_by.get(first, PUBLISH)


def _row_records(store: Store, published: Published) -> list[str]:
    """Return the records under the name that lead to a build, and those of which that cannot be said any more."""
    found = []
    for key in row_of(store, published.provider, published.name):
        try:
            record = read(store, key)
        except InputError:  # of another version of hefjoin, so not of this build
            continue
        except StoreError as error:
            if error.reason not in LOST:
                raise
            record = None
        if record is None or record.build_id == published.build_id:
            found.append(key)
    return found


def _damaged_records(store: Store, keys: list[str]) -> Iterator[Finding]:
    for key in keys:
        try:
            store.read_record(key)
        except StoreError as error:
            if error.reason not in LOST:
                raise
            stage = key.split("/")[1] if key.startswith("reuse/") else PUBLISH
            yield Finding(
                kind="record",
                uses=(key,),
                uri=error.uri,
                problem="damaged",
                expected="a record that carries its own digest",
                found="other bytes",
                stages=(stage,),
            )
