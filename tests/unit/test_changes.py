"""What changed between two builds, in words; and two builds side by side."""

from __future__ import annotations

from typing import Any

import pytest

from hefjoin.builds.changes import changes
from hefjoin.builds.diff import diff
from hefjoin.manifest import Manifest
from hefjoin.spec import BuildSpec
from tests.builds import device_manifest, labelled_manifest, make_manifest, ref

BUILD = make_manifest()


def with_spec(**changed: Any) -> Manifest:
    spec = BuildSpec.model_validate(BUILD.spec.model_dump() | changed)
    return BUILD.model_copy(update={"spec": spec})


def with_fetched(**changed: Any) -> Manifest:
    return BUILD.model_copy(update={"fetched": BUILD.fetched.model_copy(update=changed)})


def model(index: int, **changed: Any) -> list[dict[str, Any]]:
    models = BUILD.spec.model_dump()["models"]
    models[index] |= changed
    return models


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (BUILD, []),
        (BUILD.model_copy(update={"build_id": "other", "created_at": "2026-01-01T00:00:00Z", "seconds": 1.0}), []),
        (with_fetched(models={**BUILD.fetched.models, "resnet_b": ref("trained again")}), ["resnet_b's model"]),
        (with_spec(calibration={**BUILD.spec.calibration.model_dump(), "count": 128}), ["calibration.count 64 → 128"]),
        (with_spec(calibration={**BUILD.spec.calibration.model_dump(), "source": "/moved"}), []),
        (with_spec(script="a_script_that_is_long_enough(x)\nand_so_on()"), ["script"]),
        (with_spec(models=model(1, mean=[1.0, 2.0, 3.5])), ["resnet_b.mean [1, 2, 3] → [1, 2, 3.5]"]),
        (with_spec(models=model(0, source="renamed.onnx")), []),
        (with_spec(models=model(0)[::-1]), ["order of models resnet_a, resnet_b → resnet_b, resnet_a"]),
        (BUILD.model_copy(update={"versions": {**BUILD.versions, "numpy": "2.4.0"}}), ["numpy 2.3.1 → 2.4.0"]),
        (BUILD.model_copy(update={"versions": {"hefjoin": "0.1.0"}}), ["numpy is gone", "onnx is gone",
                                                                       "onnxruntime is gone"]),
        (BUILD.model_copy(update={"code_sha256": "d" * 64}), ["hefjoin's own code"]),
        (BUILD.model_copy(update={"machine": BUILD.machine.model_copy(update={"cores": 8})}), ["cores 2 → 8"]),
    ],
)  # fmt: skip
def test_what_changed_is_said_in_the_words_of_the_spec(later: Manifest, words: list[str]) -> None:
    found = [change.text for change in changes(BUILD, later)]
    assert found == words


def test_files_that_moved_without_their_content_changing_are_no_change() -> None:
    moved = {name: each.model_copy(update={"uri": "s3://elsewhere"}) for name, each in BUILD.fetched.models.items()}
    assert changes(BUILD, with_fetched(models=moved)) == ()


class TestDiff:
    def test_a_build_and_itself(self) -> None:
        found = diff(BUILD, BUILD)
        assert found.is_empty
        assert {pair.difference for pair in found.figures} == {0.0}

    def test_figures_of_a_device_are_not_subtracted_from_those_of_the_emulator(self) -> None:
        found = {pair.name: pair for pair in diff(BUILD, device_manifest()).figures}
        for name in ("throughput at batch 1", "contexts", "SNR of resnet_a/fc1"):
            assert found[name].difference is None
            assert not found[name].is_equal
        assert found["size of HEF"].difference == 0

    def test_a_figure_that_one_has_alone_has_no_difference(self) -> None:
        found = {pair.name: pair for pair in diff(BUILD, labelled_manifest()).figures}
        pair = found["top-1 of resnet_a, as run"]
        assert pair.earlier is None
        assert pair.difference is None
        assert pair.later is not None
        assert (pair.later.value, pair.later.unit, pair.later.source) == (95.1, "%", "emulator")

    def test_the_layers_whose_noise_changed_most_come_first(self) -> None:
        noise = list(BUILD.quantized.layer_noise)
        for index, change in ((3, -4.0), (5, 9.0), (7, 0.01)):
            noise[index] = noise[index].model_copy(update={"snr_db": noise[index].snr_db + change})
        quantized = BUILD.quantized.model_copy(update={"layer_noise": tuple(noise)})
        found = diff(BUILD, BUILD.model_copy(update={"quantized": quantized})).noise
        assert [each.layer for each in found] == [noise[5].layer, noise[3].layer]

    def test_stages_with_other_keys_are_named(self) -> None:
        runs = tuple(
            run.model_copy(update={"key": "1" * 64}) if run.stage in ("parse", "compile") else run
            for run in BUILD.stages
        )
        found = diff(BUILD, BUILD.model_copy(update={"stages": runs}))
        assert found.stages == ("parse resnet_a", "parse resnet_b", "compile")
        assert not found.is_empty
