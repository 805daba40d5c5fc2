"""What makes a spec due, told of one real build: sources on this machine and in S3, spec, compiler, artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hefjoin.artifacts import to_json
from hefjoin.builds.find import latest_build
from hefjoin.builds.rollback import roll_back
from hefjoin.builds.rows import add_build, add_to_row
from hefjoin.catalogue.content import Content
from hefjoin.catalogue.due import Due, due
from hefjoin.catalogue.seen import Seen
from hefjoin.catalogue.survey import Entry, read_all, survey
from hefjoin.errors import SpecError
from hefjoin.manifest import Manifest, Published
from hefjoin.sdk.toolchain import Toolchain, resolve
from hefjoin.sources.bucket import Server, Version
from hefjoin.sources.cache import Cache
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.spec_file import read_spec
from hefjoin.stages.check import Check
from hefjoin.stores import Store, open_store
from tests.benchmarks import plain
from tests.kept import FAILED, object_path, put
from tests.moto_server import client_of, moto_server
from tests.tiny import CLASSES, images, pair, write_model, write_pair

EMULATOR = resolve("emulator")


class Desk(NamedTuple):
    """A pair and a store in which it is built."""

    folder: Path
    store: Store

    @property
    def spec(self) -> BuildSpec:
        return read_spec(self.folder / "tiny.yaml")

    def due(self, spec: BuildSpec | None = None, toolchain: Toolchain | None = EMULATOR) -> Due:
        return due(spec or self.spec, toolchain, self.store, content(self.folder))

    def manifest(self) -> Manifest:
        build = latest_build(self.store, "emulator", "tiny")
        assert build is not None
        return build.manifest


def content(folder: Path) -> Content:
    return Content(Seen(folder / "seen"), Cache(folder / "cache"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair and the store `store` in which it was built once, for real."""
    folder = tmp_path_factory.mktemp("built")
    spec = write_pair(folder)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEFJOIN_WORK", str(tmp_path_factory.mktemp("work")))
        plain.build(str(spec), str(folder / "store"))
    return folder


@pytest.fixture
def desk(built: Path, tmp_path: Path) -> Desk:
    """A copy of both: the pair lies elsewhere than where it was built."""
    folder = shutil.copytree(built, tmp_path / "desk")
    return Desk(folder, open_store(str(folder / "store")))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of moto with the bucket `nets`; the environment points to it."""
    with moto_server() as address, client_of(address) as client:
        client.create_bucket(Bucket="nets")
        yield client


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(spec: BuildSpec, **sections: Any) -> BuildSpec:
    return validate_spec(spec.model_dump(mode="json") | sections)


def test_what_was_built_from_the_same_is_not_due_wherever_it_lies_and_looking_writes_nothing(desk: Desk) -> None:
    before = files(desk.folder / "store")
    found = desk.due()
    assert found.reasons == ()
    assert found.since == desk.manifest().build_id
    assert found.unknown == ()
    assert files(desk.folder / "store") == before


def test_a_name_that_was_not_built_is_due(desk: Desk) -> None:
    assert desk.due(changed(desk.spec, name="other")).reasons == ("no build of other by the emulator yet",)


def test_a_source_is_due_by_its_content_and_named(desk: Desk) -> None:
    write_model(desk.folder / "right.onnx", seed=9, classes=CLASSES["right"])
    assert desk.due().reasons == ("right's model",)
    np.save(desk.folder / "images.npy", images(32, seed=5))
    assert desk.due().reasons == ("right's model", "calibration set")


def test_a_field_of_the_spec_is_named_with_both_values(desk: Desk) -> None:
    spec = changed(desk.spec, calibration={**desk.spec.calibration.model_dump(), "count": 8}, gates={"min_snr_db": 3})
    assert desk.due(spec).reasons == ("calibration.count 16 → 8", "gates.min_snr_db 0 → 3")


def test_another_compiler_is_named(desk: Desk) -> None:
    other = EMULATOR.model_copy(update={"sdk": EMULATOR.sdk.model_copy(update={"version": "9.9"})})
    (reason,) = desk.due(toolchain=other).reasons
    assert reason == f"compiler emulator {EMULATOR.sdk.version} → emulator 9.9"


def test_a_stage_of_hefjoin_that_does_other_work_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Check, "version", Check.version + 1)
    assert desk.due().reasons == ("check: the stage itself changed",)


@pytest.mark.parametrize("use", ["models.left.har", "compiled.hef", "fetched.models.right"])
def test_an_artifact_that_is_gone_is_named(desk: Desk, use: str) -> None:
    build = desk.manifest()
    refs = {"models.left.har": build.models["left"].har, "compiled.hef": build.compiled.hef,
            "fetched.models.right": build.fetched.models["right"]}  # fmt: skip
    object_path(desk.store, refs[use]).unlink()
    assert desk.due().reasons == (f"{use} of build {build.build_id} is missing in {desk.store.uri}",)


def test_a_lost_manifest_is_a_reason(desk: Desk) -> None:
    build = latest_build(desk.store, "emulator", "tiny")
    assert build is not None
    object_path(desk.store, build.published.manifest).unlink()
    (reason,) = desk.due().reasons
    assert "is missing" in reason


def like(desk: Desk, build_id: str, spec: BuildSpec, **changes: Any) -> Published:
    """Leave a build like the one that is there, of another spec; it is the latest unless a gate failed."""
    moment = "2999-01-01T00:00:00Z"
    build = desk.manifest().model_copy(update={"build_id": build_id, "created_at": moment, "spec": spec, **changes})
    published = Published(
        build_id=build_id, provider="emulator", name="tiny", created_at=moment, host="here", hef_name="tiny.hef",
        manifest=put(desk.store, desk.folder, to_json(build.model_dump(mode="json")), "json"),
        report=put(desk.store, desk.folder, "report", "html"), hef=build.compiled.hef, record="",
    )  # fmt: skip
    add_build(desk.store, published)
    return add_to_row(desk.store, published) if build.is_promotable else published


def test_a_build_whose_gates_failed_is_not_due_again_and_neither_is_the_latest(desk: Desk) -> None:
    before, strict = desk.spec, changed(desk.spec, gates={"max_accuracy_drop": 0.5})
    like(desk, "29990101-000000-failed", strict, gates=(FAILED,))
    assert desk.due(strict).reasons == ()
    assert desk.due(before).reasons == ()


def test_what_was_rolled_back_is_not_due(desk: Desk) -> None:
    newer = changed(desk.spec, dfc_python="/elsewhere/python")
    like(desk, "29990101-000000-newer", newer)
    assert desk.due(newer).reasons == ()
    roll_back(desk.store, "tiny", "emulator")
    assert desk.due(newer).reasons == ()
    assert desk.due().reasons == ()


def test_sources_that_are_not_there_are_all_told(desk: Desk) -> None:
    for name in ("left.onnx", "images.npy"):
        (desk.folder / name).unlink()
    with pytest.raises(SpecError) as caught:
        desk.due()
    assert [problem.path for problem in caught.value.problems] == ["models[0].source", "calibration.source"]


def test_the_key_says_what_made_it_due(desk: Desk) -> None:
    write_model(desk.folder / "right.onnx", seed=9, classes=CLASSES["right"])
    first = desk.due().key
    assert desk.due().key == first
    write_model(desk.folder / "right.onnx", seed=10, classes=CLASSES["right"])
    assert desk.due().key != first


def test_a_dfc_of_which_nothing_is_known_here_is_not_taken_for_another(desk: Desk) -> None:
    sdk = desk.manifest().sdk.model_copy(update={"provider": "dfc"})
    published = like(desk, "29990101-000000-dfc", desk.spec, sdk=sdk).model_copy(
        update={"provider": "dfc", "record": ""}
    )
    add_build(desk.store, published)
    add_to_row(desk.store, published)
    found = desk.due(toolchain=None)
    assert [reason for reason in found.reasons if "compiler" in reason] == []
    assert "whether the compiler is still DFC" in found.unknown[0]


class TestSurvey:
    def test_one_that_is_broken_stops_no_other(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(desk.folder / "home"))
        specs = desk.folder / "specs"
        specs.mkdir()
        text = (desk.folder / "tiny.yaml").read_text().replace(": left.onnx", ": ../left.onnx")
        text = text.replace(": right.onnx", ": ../right.onnx").replace(": images.npy", ": ../images.npy")
        (specs / "a.yaml").write_text(text)
        (specs / "b.yaml").write_text("name: [")
        (specs / "c.yaml").write_text("name: UPPER\nmodels: []\nsurplus: 1\n")
        (specs / "d.yaml").write_text(text.replace("name: tiny", "name: other").replace("../left.onnx", "gone.onnx"))
        (specs / "e.yml").write_text(text)
        entries = read_all([str(path) for path in sorted(specs.iterdir())])
        found = {Path(entry.uri).name: entry for entry in survey(entries, desk.store, "emulator")}
        assert found["a.yaml"].due is not None
        assert found["a.yaml"].due.reasons == ()
        assert "is not YAML" in found["b.yaml"].problem
        assert "has 4 problems" in found["c.yaml"].problem
        assert "gone.onnx does not exist" in found["d.yaml"].problem
        assert "has the name of" in found["e.yml"].problem

    def test_only_what_uses_a_source(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(desk.folder / "home"))
        entries = [Entry(uri="tiny.yaml", spec=desk.spec)]
        assert survey(entries, desk.store, "emulator", str(desk.folder / "left.onnx"))
        assert survey(entries, desk.store, "emulator", str(desk.folder / "another.onnx")) == []


class TestS3:
    @pytest.fixture
    def afar(self, desk: Desk, client: Any) -> BuildSpec:
        """The spec with its sources in S3."""
        for name in ("left.onnx", "right.onnx", "images.npy"):
            client.upload_file(str(desk.folder / name), "nets", name)
        models = [{**model, "source": f"s3://nets/{model['name']}.onnx"} for model in pair()["models"]]
        return validate_spec(pair(models=models, calibration={"source": "s3://nets/images.npy", "count": 16}))

    @pytest.fixture
    def downloads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []
        real: Callable[[Server, Version, Path], str] = Server.download

        def download(self: Server, version: Version, path: Path) -> str:
            seen.append(version.uri)
            return real(self, version, path)

        monkeypatch.setattr(Server, "download", download)
        return seen

    def test_an_object_is_downloaded_only_where_its_version_is_not_known(
        self, desk: Desk, afar: BuildSpec, client: Any, downloads: list[str]
    ) -> None:
        assert desk.due(afar).reasons == ()
        assert sorted(downloads) == ["s3://nets/images.npy", "s3://nets/left.onnx", "s3://nets/right.onnx"]
        downloads.clear()
        assert desk.due(afar).reasons == ()
        assert downloads == []
        write_model(desk.folder / "other.onnx", seed=9, classes=CLASSES["right"])
        client.upload_file(str(desk.folder / "other.onnx"), "nets", "right.onnx")
        assert desk.due(afar).reasons == ("right's model",)
        assert downloads == ["s3://nets/right.onnx"]

    def test_what_is_not_there_is_told(self, desk: Desk, afar: BuildSpec, client: Any) -> None:
        client.delete_object(Bucket="nets", Key="left.onnx")
        with pytest.raises(SpecError, match=r"s3://nets/left.onnx does not exist"):
            desk.due(afar)
