"""One bit flipped in whatever a build left: `verify` names it, who reads it refuses it, the next build mends it.

Each in a copy of the store of one build. The stages run as in a build, called by a plain script.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hefjoin.artifacts import named_refs
from hefjoin.builds.find import Build, latest_build
from hefjoin.builds.verify import verify
from hefjoin.errors import StoreError
from hefjoin.stores import object_name, open_store
from hefjoin.stores.local import LocalStore
from tests.benchmarks import plain
from tests.e2e.conftest import Desk
from tests.tiny import write_pair

STAGES = (
    *("parse left", "parse right", "check", "forecast", "join", "quantize", "repair", "couple"),
    *("compile", "benchmark", "score"),
)
ARTIFACTS = {
    "fetched.models.left": ("fetch", "parse left"),
    "fetched.models.right": ("fetch", "parse right"),
    "models.left.har": ("parse left", "join"),
    "models.right.har": ("parse right", "join"),
    "check.calibration.npy": ("check", "join"),
    "check.evaluation.npy": ("check", "quantize"),
    "joined.network.har": ("join", "quantize"),
    "quantized.har": ("quantize", "compile"),
    "quantized.outputs": ("quantize", "benchmark"),
    "compiled.hef": ("compile", "benchmark"),
    "compiled.attempts[0].log": ("compile", ""),
    "compiled.auto_script": ("compile", ""),
    "measured.outputs": ("benchmark", ""),
    "manifest": ("publish", ""),
    "report": ("publish", ""),
}
"""By an artifact's name in the manifest: the stage that makes it, and the first that reads it, if any does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec, and the store of its one build."""
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        rebuilt(folder, folder / "store")
        yield folder


@pytest.fixture(scope="module")
def build(folder: Path) -> Build:
    return latest(folder / "store")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "store", tmp_path / "store"))


def rebuilt(folder: Path, store: Path) -> list[str]:
    """Build; return the stages that were done."""
    is_reused = plain.build(str(folder / "tiny.yaml"), str(store))
    return [stage for stage, reused in zip(STAGES, is_reused, strict=True) if not reused]


def latest(store: Path) -> Build:
    found = latest_build(open_store(str(store)), "emulator", "tiny")
    assert found is not None
    return found


def files(build: Build) -> dict[str, str]:
    """Return the names of all artifacts of a build, relative to the store, by their first name in the manifest."""
    published = build.published
    refs = {**dict(named_refs(build.manifest)), "manifest": published.manifest, "report": published.report}
    return {name: object_name(ref.sha256, ref.media) for name, ref in refs.items()}


def flip(path: Path) -> None:
    """Flip the lowest bit of the byte in the middle."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(body)


def test_nothing_is_left_out(folder: Path, build: Build) -> None:
    store = open_store(str(folder / "store"))
    assert list(files(build)) == list(ARTIFACTS)
    assert {each.name for each in store.objects()} == set(files(build).values())
    assert verify(store, build.published).findings == ()


@pytest.mark.parametrize("name", ARTIFACTS)
def test_in_an_artifact(name: str, folder: Path, build: Build, copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    maker, _ = ARTIFACTS[name]
    flip(copy / files(build)[name])
    (finding,) = verify(open_store(str(copy)), build.published).findings
    assert (finding.kind, finding.problem, finding.stages) == ("artifact", "damaged", (maker,))
    assert name in finding.uses
    assert rebuilt(folder, copy) == ([maker] if maker in STAGES else [])
    if maker in STAGES:
        assert [line for line in caplog.messages if line.startswith(f"{maker}: built, because its ")]
    mended = latest(copy)
    assert verify(open_store(str(copy)), mended.published).findings == ()
    assert open_store(str(copy)).read_record(f"builds/emulator/tiny/{mended.manifest.build_id}") is not None


@pytest.mark.parametrize("name", [name for name, (_, reader) in ARTIFACTS.items() if reader])
def test_after_it_was_looked_at(
    name: str, folder: Path, build: Build, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken for whole, and what its reader made of it is not known, so that this has to read it."""
    _, reader = ARTIFACTS[name]
    monkeypatch.setattr(LocalStore, "_is_intact", lambda self, ref: True)
    for stage in (reader.partition(" ")[0], *(["try"] if reader == "compile" else [])):
        shutil.rmtree(copy / "reuse" / stage)
    flip(copy / files(build)[name])
    with pytest.raises(StoreError) as caught:
        rebuilt(folder, copy)
    assert (caught.value.reason, caught.value.exit_code) == ("damaged", 5)
    assert files(build)[name] in caught.value.message
    assert "--force" in caught.value.message
    assert [path for path in (folder / "work").rglob("*") if path.is_file()] == []


def records(folder: Path) -> list[str]:
    found = (path.relative_to(folder / "store") for path in (folder / "store").rglob("*.json"))
    return sorted(path.as_posix() for path in found if path.parts[0] != "objects")


def test_in_a_record(folder: Path, build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen: dict[str, Any] = {}
    for name in records(folder):
        copy = Path(shutil.copytree(folder / "store", tmp_path / name.replace("/", "-")))
        store, key = open_store(str(copy)), name.removesuffix(".json")
        stage = next((run for run in build.manifest.stages if run.key == Path(name).stem), None)
        flip(copy / name)
        findings = verify(store, build.published).findings
        if name.startswith(("auto/", "reuse/try/")):  # of attempts to compile, which are no part of a build
            assert (findings, rebuilt(folder, copy)) == ((), [])
            continue
        (finding,) = findings
        assert (finding.kind, finding.uses, finding.problem) == ("record", (key,), "damaged")
        caplog.clear()
        title = f"{stage.stage} {stage.subject}".rstrip() if stage else "publish"
        assert finding.stages == (stage.stage if stage else "publish",)
        assert rebuilt(folder, copy) == ([title] if stage else [])
        if stage:
            assert f"{title}: built, because its record is damaged" in caplog.messages
        assert verify(store, latest(copy).published).findings == ()
        assert len(store.list_records("names")) == len(store.list_records("builds"))
        seen[name.split("/")[0]] = title
    assert set(seen) == {"builds", "names", "reuse"}


def test_in_records_of_attempts(folder: Path, copy: Path) -> None:
    """They are read only where the attempt is to be made again."""
    for name in records(folder):
        if name.startswith(("auto/", "reuse/try/")):
            flip(copy / name)
    shutil.rmtree(copy / "reuse" / "compile")
    assert rebuilt(folder, copy) == ["compile"]
    store = open_store(str(copy))
    assert all(store.read_record(key) for folder in ("auto", "reuse") for key in store.list_records(folder))


def test_the_command_says_what_is_damaged(folder: Path, build: Build, copy: Path, desk: Desk) -> None:
    flip(copy / files(build)["compiled.hef"])
    done = desk.run("verify", "tiny", "--store", str(copy))
    assert done.returncode == 5
    assert "compiled.hef" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
