"""`hefjoin calibration`: from a spec to figures, page, subset and proof; figures against all values in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper
from PIL import ExifTags, Image

from flows.cli import main
from hefjoin.results.checked import JoinCheck
from hefjoin.results.covered import Covered
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain, resolve
from hefjoin.spec_file import read_spec
from hefjoin.stages.contract import Workplace
from hefjoin.stages.cover import CoverStage, known
from hefjoin.stages.fetch import fetch
from hefjoin.stores import open_store
from tests import tiny
from tests.unit.test_report import parse

LAYERS = {"conv1": "2", "avgpool1": "3", "fc1": "scores"}
"""Of `tiny.classifier`: what each layer hands on."""
Floats = npt.NDArray[np.float32]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibration", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))


def covered(*arguments: object) -> Covered:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return Covered.model_validate(json.loads(done.stdout)["covered"])


def activations(path: Path, frames: npt.NDArray[Any], spec: Mapping[str, Any]) -> list[Floats]:
    """Return all values of every layer that has ranges, by the original file: (frames, channels, places) each."""
    model = onnx.load(path)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in list(LAYERS.values())[:-1]
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = (frames - np.float32(spec["mean"])) / np.float32(spec["std"])
    image = given.transpose(0, 3, 1, 2).astype(np.float32)
    found = [session.run(list(LAYERS.values()), {"image": image[i : i + 1]}) for i in range(len(image))]
    return [np.concatenate(values).reshape(len(frames), values[0].shape[1], -1) for values in zip(*found, strict=True)]


def reach(values: list[Floats]) -> Floats:
    """Return what each frame reaches: (frames, 2, channels)."""
    low = np.concatenate([each.min(axis=2) for each in values], axis=1)
    high = np.concatenate([each.max(axis=2) for each in values], axis=1)
    return np.stack([np.maximum(-low, 0), np.maximum(high, 0)], axis=1)


def assert_known(path: Path, found: Covered) -> None:
    """Check that a build by any compiler finds what was measured."""
    spec, store, emulator = read_spec(path), open_store("artifacts"), resolve("emulator")
    other = Toolchain(sdk=Sdk(provider="dfc", version="3.33.0"), python="python")
    place = Workplace(store, path.parent / "work", other)
    fetched = fetch(spec, place.put, path.parent / "cache")
    records = [store.read_record(key) for key in store.list_records("reuse/check")]
    (checked,) = [JoinCheck.model_validate(record["result"]) for record in records if record]
    outcome = known(CoverStage.of(spec, fetched, checked, emulator.sdk), place)
    assert outcome is not None
    assert outcome.value == found
    assert outcome.run.is_reused
    assert outcome.run.reason.startswith("measured by hefjoin calibration on ")
    assert known(CoverStage.of(spec, fetched, checked, emulator.sdk, loss=0.2), place) is None


def test_figures_are_those_of_all_values_kept(tmp_path: Path) -> None:
    spec = tiny.pair()
    found = covered(tiny.write_pair(tmp_path, spec))
    records = sorted((tmp_path / "artifacts").rglob("*.json"))
    assert covered(tmp_path / "tiny.yaml") == found
    assert sorted((tmp_path / "artifacts").rglob("*.json")) == records
    assert_known(tmp_path / "tiny.yaml", found)
    frames = tiny.images(32)
    assert (found.frames, found.judged, found.judged_on) == (16, 16, "evaluation frames")
    for index, model in enumerate(found.models):
        path = tmp_path / f"{model.model}.onnx"
        calibration, judged = (activations(path, part, spec["models"][index]) for part in (frames[:16], frames[16:]))
        reached = reach(calibration)
        whole = reached.max(axis=0)
        width = whole.sum(axis=0)
        chosen = reached[list(found.subset.frames)].max(axis=0).sum(axis=0)
        assert model.channels == whole.shape[1] == 16 + tiny.CLASSES[model.model]
        assert model.dead == (width == 0).sum()
        shares = (chosen[width > 0] / width[width > 0]).astype(float)
        assert found.subset.coverage[model.model] == pytest.approx(shares.mean(), rel=1e-4)
        assert shares.mean() >= 0.99 - 1e-4
        others = np.stack([np.delete(reached, frame, axis=0).max(axis=0).sum(axis=0) for frame in range(16)])
        needs = 1 - (others[:, width > 0] / width[width > 0]).mean(axis=1)
        for each in found.needed:
            assert each.needs[model.model] == pytest.approx(needs[each.frame], abs=1e-4)
        wanted = {frame for frame in range(16) if needs[frame] >= found.need + 1e-4}
        assert wanted <= {each.frame for each in found.needed if each.only in ("", model.model)}
        begin, outside = 0, []
        for each in judged:
            part = whole[:, begin : begin + each.shape[1], np.newaxis]
            outside.append(((each < -part[0]) | (each > part[1])).mean(axis=(0, 2)))
            begin += each.shape[1]
        clipped = np.concatenate(outside)
        assert model.clipped_share == pytest.approx(clipped.mean(), abs=1e-4)
        assert [row.share for row in model.worst] == pytest.approx(np.sort(clipped)[::-1][: len(model.worst)], abs=2e-4)
        assert {row.layer.split("/")[1] for row in model.worst} <= set(LAYERS)


def test_without_held_out_frames_the_set_is_judged_by_turns(tmp_path: Path) -> None:
    spec = tiny.pair()
    found = covered(tiny.write_pair(tmp_path, spec, count=16))
    assert (found.judged, found.judged_on) == (16, "left-out frames")
    values = activations(tmp_path / "left.onnx", tiny.images(16), spec["models"][0])
    reached, outside = reach(values), []
    for frame in range(16):
        whole = reached[[other for other in range(16) if other % 5 != frame % 5]].max(axis=0)
        flat = [each[frame] for each in values]
        begins = np.cumsum([0, *(len(each) for each in flat)])
        for begin, each in zip(begins, flat, strict=False):
            low, high = whole[:, begin : begin + len(each), np.newaxis]
            outside.append(((each < -low) | (each > high)).mean(axis=1))
    assert found.models[0].clipped_share == pytest.approx(np.concatenate(outside).mean(), abs=1e-4)
    done = run(tmp_path / "tiny.yaml", "--prove")
    assert done.exit_code == 2
    assert "no evaluation frames are held out" in done.stderr


def test_the_table_the_page_the_proof_and_the_subset(tmp_path: Path) -> None:
    path = tiny.write_pair(tmp_path)
    done = run(path, "--prove", "--loss", 10, "--write-subset", "fewer.npy", "--out", "pages/set.html")
    assert done.exit_code == 0, done.stderr
    beside = json.loads((tmp_path / "pages" / "set.json").read_text("utf-8"))
    Draft202012Validator(json.loads(CliRunner().invoke(main, ["schema", "calibration"]).output)).validate(beside)
    found = Covered.model_validate(beside["covered"])
    count = len(found.subset.frames)
    assert 0 < count < 16
    assert beside["proof"]["source"] == "emulator"
    assert set(beside["proof"]["subset_snr_db"]) == set(tiny.CLASSES)
    text = " ".join(done.stdout.split())
    assert f"{count} of 16 frames give both models at least 90.0 %".replace(" %", "\u202f%") in text.replace(
        " %", "\u202f%"
    )
    assert f"count: {count}" in done.stdout
    written, images = np.load(tmp_path / "fewer.npy"), tiny.images(32)
    assert np.array_equal(written, np.concatenate([images[sorted(found.subset.frames)], images[16:]]))
    page = (tmp_path / "pages" / "set.html").read_text("utf-8")
    assert len(page) < 3 << 20
    elements = parse(page)
    assert not {"script", "link", "iframe"} & {element.tag for element in elements.elements}
    addresses = [element.attributes.get(name) for element in elements.elements for name in ("src", "href")]
    assert all(address.startswith(("data:", "#")) for address in addresses if address)
    assert "Quantized with the subset and with the whole set" in page

    spec = tiny.pair(calibration={"source": "fewer.npy", "count": count})
    again = covered(tiny.write_pair(tmp_path, spec))
    assert (again.frames, again.judged, again.judged_on) == (count, 16, "evaluation frames")


def folder_of_images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, frame in enumerate(tiny.images(24)):
        Image.fromarray(frame).save(folder / f"{index:02d}.png")
    Image.fromarray(tiny.images(24)[0]).save(folder / "03.png")
    Image.new("RGB", (16, 16), (9, 9, 9)).save(folder / "05.png")
    small = Image.fromarray(tiny.images(24)[7]).resize((32, 8))
    small.getexif()[ExifTags.Base.Orientation] = 6
    small.save(folder / "07.png", exif=small.getexif())
    return tiny.write_pair(tmp_path, tiny.pair(calibration={"source": "images", "count": 16}, evaluation={"count": 8}))


def test_copies_blanks_and_enlarged_images_are_named(tmp_path: Path) -> None:
    path = folder_of_images(tmp_path)
    found = covered(path, "--write-subset", "names.txt")
    assert [(each.frame, each.of, each.kind) for each in found.copies] == [(3, 0, "exact")]
    assert {each.frame: each.why for each in found.odd} == {
        5: ("blank: 9 everywhere",),
        7: ("upscaled 2.0 times: its image is smaller than the input",),
    }
    lines = (tmp_path / "names.txt").read_text("utf-8").splitlines()
    assert lines == [f"{frame}\t{frame:02d}.png" for frame in sorted(found.subset.frames)]
    assert not {0, 3} <= set(found.subset.frames)
    page = (tmp_path / "tiny-calibration.html").read_text("utf-8")
    assert "the same, bit for bit" in page
    is_needed = bool({5, 7} & {each.frame for each in found.needed})
    assert ("Take out what looks odd and stretches ranges" in page) == is_needed
    assert ("Look at the odd frames; they stretch no range" in page) == (not is_needed)
    assert page.count("<img") >= len(found.subset.frames) + 4


def test_a_network_that_overflows_is_named_with_its_layer(tmp_path: Path) -> None:
    path = tiny.write_pair(tmp_path)
    model = onnx.load(tmp_path / "right.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1e38), "w"))
    onnx.save(model, tmp_path / "right.onnx")
    done = run(path)
    assert done.exit_code == 2
    assert "frame 0 of the calibration set gives values that are not finite in right/conv1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["no.yaml"], "no.yaml"),
        (["tiny.yaml", "--loss", "100"], "--loss"),
        (["tiny.yaml", "--out", "page.pdf"], "ends in .html"),
        (["tiny.yaml", "--write-subset", "fewer.npz"], "a name ends in .npy, for frames, or .txt"),
        (["gone.yaml"], "calibration.source"),
    ],
)
def test_mistakes_end_in_a_sentence(tmp_path: Path, arguments: list[str], text: str) -> None:
    path = tiny.write_pair(tmp_path)
    text_of_spec = path.read_text("utf-8").replace("images.npy", "nowhere.npy")
    path.with_name("gone.yaml").write_text(text_of_spec, "utf-8")
    done = run(*arguments)
    assert done.exit_code == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.html"))
