"""What a service refuses to read, write, import or start, against what the kernel says of where a path leads."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin import service
from hefjoin.artifacts import Ref
from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.metrics import own
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.sources.find import find
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.stages import fetch
from hefjoin.stages.confine import require_allowed
from tests.tiny import classifier, images, pair, write_model


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A service that allows one folder of sources, one prefix, one package, two stores and one metric."""
    (tmp_path / "nets").mkdir()
    monkeypatch.setenv(service.SERVICE, "1")
    monkeypatch.setenv(service.SOURCES, f"{tmp_path}/nets s3://nets/trained/ package://hefjoin")
    monkeypatch.setenv(service.STORES, f"{tmp_path}/store s3://builds/hef")
    monkeypatch.setenv(service.METRICS, "ours.metrics:f1")
    return monkeypatch


def make_spec(folder: Path, **changes: Any) -> BuildSpec:
    raw = pair(calibration={"source": f"{folder}/images.npy", "count": 4}, **changes)
    for model in raw["models"]:
        model["source"] = f"{folder}/{model['source']}"
    return validate_spec(raw)


def problems(spec: BuildSpec, store: str) -> dict[str, str]:
    try:
        require_allowed(spec, store)
    except SpecError as error:
        return {problem.path: problem.message for problem in error.problems}
    return {}


class TestASpec:
    def test_what_is_listed_is_allowed(self, tmp_path: Path) -> None:
        assert problems(make_spec(tmp_path / "nets"), f"{tmp_path}/store/team") == {}

    def test_nothing_is_refused_to_who_builds_for_himself(self, served: pytest.MonkeyPatch) -> None:
        served.setenv(service.SERVICE, "0")
        assert problems(make_spec(Path("/etc"), dfc_python="/bin/sh"), "/") == {}

    def test_where_nothing_is_listed_nothing_is_allowed(self, served: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for variable in (service.SOURCES, service.STORES, service.METRICS):
            served.delenv(variable)
        found = problems(make_spec(tmp_path / "nets"), f"{tmp_path}/store")
        assert list(found) == ["store", "models[0].source", "models[1].source", "calibration.source"]

    def test_all_that_is_refused_is_told_at_once(self, tmp_path: Path) -> None:
        raw = make_spec(tmp_path / "nets").model_dump(mode="json")
        raw["models"][1] |= {
            "source": "/etc/passwd.onnx",
            "metric": "os:system",
            "script": f'nms_postprocess("{tmp_path}/nets/../secret.json", meta_arch=yolov8)',
        }
        raw["calibration"]["source"] = "s3://nets/trained/1.png\ns3://payroll/2.png\n/etc/hosts"
        raw["evaluation"]["source"] = "package://numpy/images"
        raw["script"] = 'nms_postprocess("a.json", config_path="/etc/b.json", meta_arch=yolov8)'
        raw["compile"]["attempts"] = ['allocator_param(strategy="/root/x")']
        raw["dfc_python"] = "/tmp/python"
        found = problems(validate_spec(raw), "s3://builds/other")
        assert list(found) == [
            "store", "models[1].source", "calibration.source[1]", "calibration.source[2]", "evaluation.source",
            "models[1].metric", "models[1].script:1:1", "script:1:1", "compile.attempts[0]:1:1", "dfc_python",
        ]  # fmt: skip

    def test_no_interpreter_is_started_but_the_machines_own(self, served: pytest.MonkeyPatch, tmp_path: Path) -> None:
        spec = make_spec(tmp_path / "nets", dfc_python="/opt/dfc/bin/python")
        assert list(problems(spec, f"{tmp_path}/store")) == ["dfc_python"]
        served.setenv(DFC_PYTHON, "/opt/dfc/bin/python")
        assert problems(spec, f"{tmp_path}/store") == {}

    def test_a_link_in_a_folder_of_images_leads_nowhere_else(self, tmp_path: Path) -> None:
        folder = tmp_path / "nets" / "photos"
        folder.mkdir()
        (tmp_path / "secret.png").touch()
        (folder / "1.png").symlink_to(tmp_path / "secret.png")
        (folder / "2.png").touch()
        (folder / "3.png").symlink_to(folder / "2.png")
        spec = make_spec(tmp_path / "nets", evaluation={"source": str(folder)})
        found = problems(spec, f"{tmp_path}/store")
        assert list(found) == ["evaluation.source"]
        assert str(tmp_path / "secret.png") in found["evaluation.source"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a file `x` each, inside `root` and beside it, with links both ways and in circles."""
    top = tmp_path_factory.mktemp("tree")
    for folder in ("root", "root/a", "root/a/b", "rooted", "beside", "beside/c"):
        (top / folder).mkdir()
        (top / folder / "x").touch()
    links = {"root/out": "../beside", "root/a/up": "..", "beside/in": "../root/a", "root/loop": "loop"}
    for link, target in {**links, "root/y": "../beside/x"}.items():
        (top / link).symlink_to(target)
    return top


PARTS = ["a", "b", "c", "x", "y", "out", "in", "up", "loop", "root", "rooted", "beside", "..", ".", "~", "x\0"]


@given(st.lists(st.sampled_from([*PARTS, ""]), max_size=8), st.sampled_from(["root", "rooted", "", "beside"]))
def test_a_path_is_allowed_only_where_the_kernel_finds_it_below_the_folder(
    tree: Path, parts: list[str], begin: str
) -> None:
    place = "/".join((str(tree), begin, *parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(service.SERVICE, "1")
        patch.setenv(service.SOURCES, str(tree / "root"))
        is_allowed = not service.source_refusal(place)
    with suppress(OSError, ValueError):
        opened = os.open(place, os.O_PATH)
        found = Path(f"/proc/self/fd/{opened}").readlink()
        os.close(opened)
        assert is_allowed == found.is_relative_to(tree / "root")


@given(st.lists(st.sampled_from(["trained", "trained2", "nets", "..", ".", "", "%2e%2e", "a.onnx"]), max_size=6))
def test_an_object_is_allowed_only_below_the_prefix_however_a_server_reads_its_key(parts: list[str]) -> None:
    place = "s3://" + "/".join(["nets", *parts])
    if not service.source_refusal(place):
        key = place.removeprefix("s3://").removesuffix("/")
        assert posixpath.normpath(key) == key
        assert f"{key}/".startswith("nets/trained/")


@pytest.mark.parametrize(
    "place",
    [
        "s3://nets/trained2/a.onnx", "s3://nets", "S3://nets/trained/a.onnx", "s3://nets/trained/../../etc/a.onnx",
        "s3:/nets/trained/a.onnx", "package://hefjoin.examples/x.onnx", "package://numpy/x.onnx", "package://../etc/x",
        "file:///etc/passwd", "http://127.0.0.1/a.onnx", "~root/a.onnx", "~nobody-of-that-name/a.onnx", "a\0b",
        "a" * 5000, "/proc/self/environ", "relative.onnx", "..", "",
    ],
)  # fmt: skip
def test_a_source_that_is_not_listed_is_refused(place: str) -> None:
    assert re.search("HEFJOIN_SERVICE_SOURCES of this machine|does not follow", service.source_refusal(place))


@pytest.mark.parametrize(
    "place", ["{}/store", "{}/store/", "file://{}/store/a%62", "{}/x/../store", "s3://builds/hef", "S3://builds/hef/x"]
)
def test_a_store_that_is_listed_is_allowed(place: str, tmp_path: Path) -> None:
    assert service.store_refusal(place.format(tmp_path)) == ""


@pytest.mark.parametrize(
    "place",
    [
        "{}", "{}/store/..", "{}/store2", "file://{}/store/%2e%2e/x", "file:/etc", "s3://builds", "s3://builds/hef2",
        "gs://x", "",
    ],
)  # fmt: skip
def test_a_store_that_is_not_listed_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="store: "):
        service.require_store(place.format(tmp_path))


def test_a_metric_that_is_not_listed_is_not_even_imported(served: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\ndef f1(a, b): ...\n"
    (tmp_path / "theirs.py").write_text(code)
    served.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="theirs:f1 is none of the functions"):
        own.load("theirs:f1")
    assert not (tmp_path / "ran").exists()
    served.setenv(service.METRICS, "theirs:f2 theirs:f1")
    assert own.load("theirs:f1").__name__ == "f1"
    del sys.modules["theirs"]


class NoServer:
    """A server that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def test_a_list_names_nothing_outside_and_the_server_is_not_asked(tmp_path: Path) -> None:
    lines = ("s3://nets/trained/a.png", "s3://payroll/b.png", "s3://nets/trained/../c.png")
    (tmp_path / "nets" / "list.txt").write_text("\n".join(lines))
    found: list[Problem] = []
    server: Any = NoServer()
    assert find("calibration.source", f"{tmp_path}/nets/list.txt", server, found, with_entries=False) is None
    assert [problem.message.partition(": ")[0] for problem in found] == ["list.txt line 2", "list.txt line 3"]


class TestWeightsBesideAModel:
    @pytest.fixture
    def spec(self, tmp_path: Path) -> BuildSpec:
        folder = tmp_path / "nets"
        write_model(folder / "left.onnx", seed=1, classes=4)
        outside: dict[str, Any] = {"save_as_external_data": True, "location": "right.bin", "size_threshold": 0}
        onnx.save(classifier(2, 6), folder / "right.onnx", **outside)
        np.save(folder / "images.npy", images(4))
        return make_spec(folder)

    @staticmethod
    def fetched(spec: BuildSpec, folder: Path) -> Any:
        def put(path: Path, media: str) -> Ref:
            return Ref(uri=str(path), sha256="0" * 64, size_bytes=path.stat().st_size, media=media)

        return fetch.fetch(spec, put, folder / "cache")

    def test_a_link_in_their_place_leads_nowhere_else(self, spec: BuildSpec, tmp_path: Path) -> None:
        (tmp_path / "nets" / "right.bin").rename(tmp_path / "secret.bin")
        (tmp_path / "nets" / "right.bin").symlink_to(tmp_path / "secret.bin")
        with pytest.raises(SpecError, match=r"right\.bin beside .*right\.onnx leads out of its folder"):
            self.fetched(spec, tmp_path)

    def test_a_link_to_what_is_listed_is_followed(self, spec: BuildSpec, tmp_path: Path) -> None:
        (tmp_path / "nets" / "blobs").mkdir()
        (tmp_path / "nets" / "right.bin").rename(tmp_path / "nets" / "blobs" / "0")
        (tmp_path / "nets" / "right.bin").symlink_to("blobs/0")
        assert list(self.fetched(spec, tmp_path).weights["right"]) == ["right.bin"]
