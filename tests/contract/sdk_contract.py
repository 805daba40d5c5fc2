"""What every compiler promises behind `run_step`. A class that inherits `SdkContract` runs all of it on one provider.

The reference for what networks compute is ONNX Runtime on the files the models came from.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import strict_calls

from hefjoin.errors import CalibrationError, CompileError, FitError, InputError, SpecError, UnsupportedOpError
from hefjoin.formats import har as har_file
from hefjoin.formats import hef as hef_file
from hefjoin.formats import model_script
from hefjoin.sdk.process import run_step
from hefjoin.sdk.step import PACKAGES
from hefjoin.sdk.toolchain import Toolchain
from tests.tiny import CLASSES, images, write_model, write_pair

MEAN, STD = [120.0, 115.0, 105.0], [60.0, 58.0, 57.0]
SINGLE = "context_switch_param(mode=disabled)\n"
TOLERANCE = 1e-4
"""Relative to the largest value, between two engines in float32."""
LEAST_SNR_DB = 20.0
LAYERS_OF_NO_CONTEXT = 140
"""More than a Hailo-8 has layer controllers."""


class Desk(NamedTuple):
    """A provider, a folder to work in, and the answers of the steps that were run there."""

    toolchain: Toolchain
    work: Path
    answers: dict[str, dict[str, Any]]

    def run(self, action: str, **arguments: Any) -> dict[str, Any]:
        return run_step(self.toolchain, action, arguments, self.work, model="tiny").result

    def parse(self, model: str, name: str, **changes: Any) -> dict[str, Any]:
        arguments = {"hw_arch": "hailo8", "start_nodes": [], "end_nodes": [], "input_shapes": {}, **changes}
        return self.run("parse", model=str(self.work / model), name=name, har=self.path(f"{name}.har"), **arguments)

    def join(self, *names: str) -> dict[str, Any]:
        return self.run(
            "join",
            hars=[self.path(f"{name}.har") for name in names],
            scopes=[{name: name} for name in names],
            har=self.path("joined.har"),
            frames=self.path("images.npy"),
            mean=MEAN,
            std=STD,
            outputs_file=self.path("together.npz"),
        )

    def quantize(self, har: str, script: str, calibration: str = "images.npy") -> dict[str, Any]:
        return self.run(
            "quantize",
            har=self.path(har),
            script=script,
            calibration=self.path(calibration),
            evaluation=self.path(calibration),
            quantized_har=self.path("quantized.har"),
            outputs=self.path("outputs.npz"),
            noise_frames=4,
            native_scopes=["right"],
            mean=MEAN,
            std=STD,
        )

    def compile(self, script: str, har: str = "quantized.har", hef: str = "joined.hef") -> dict[str, Any]:
        return self.run(
            "compile",
            har=self.path(har),
            script=script,
            hef=self.path(hef),
            compiled_har=self.path("compiled.har"),
            auto_script=self.path("auto.alls"),
        )

    def path(self, name: str) -> str:
        return str(self.work / name)


def normalization(input_layer: str) -> str:
    return f"{input_layer.split('/')[0]}/normalization1 = normalization({MEAN}, {STD}, {input_layer})\n"


def chain(path: Path, layers: int) -> None:
    """Write a network of as many convolutions, one behind the other."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w")
    names = ["image", *(f"t{index}" for index in range(1, layers)), "result"]
    nodes = [
        helper.make_node("Conv", [source, "w"], [target], f"conv_{target}")
        for source, target in itertools.pairwise(names)
    ]
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in ("image", "result")]
    graph = helper.make_graph(nodes, "chain", border[:1], border[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class SdkContract:
    """Override the fixture `toolchain`."""

    is_emulated: bool

    @pytest.fixture(scope="class")
    @classmethod
    def toolchain(cls, tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Desk:
        """The tiny pair after all four steps; its files lie in the folder of the desk."""
        desk = Desk(toolchain, tmp_path_factory.mktemp("built"), {})
        write_pair(desk.work)
        for name in CLASSES:
            desk.answers[name] = desk.parse(f"{name}.onnx", name)
        desk.answers["join"] = desk.join(*CLASSES)
        (input_layer,) = desk.answers["join"]["inputs"]
        desk.answers["quantize"] = desk.quantize("joined.har", normalization(input_layer))
        desk.answers["compile"] = desk.compile(SINGLE)
        return desk

    @pytest.fixture
    def desk(self, built: Desk, tmp_path: Path) -> Desk:
        """A folder of its own, with a model, its HAR and the images."""
        for name in ("left.onnx", "left.har", "images.npy"):
            (tmp_path / name).symlink_to(built.work / name)
        return Desk(built.toolchain, tmp_path, {})

    @pytest.fixture(scope="class")
    @classmethod
    def large(cls, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Desk:
        """A quantized network that fits no context."""
        desk = Desk(toolchain, tmp_path_factory.mktemp("large"), {})
        np.save(desk.path("images.npy"), images(1))
        chain(desk.work / "chain.onnx", LAYERS_OF_NO_CONTEXT)
        desk.parse("chain.onnx", "chain")
        desk.quantize("chain.har", "")
        return desk

    def test_every_answer_names_the_sdk(self, built: Desk) -> None:
        versions = {answer["sdk_version"] for answer in built.answers.values()}
        assert len(versions) == 1
        assert versions.pop().endswith("-emulator") == self.is_emulated

    @pytest.mark.parametrize("name", CLASSES)
    def test_a_parsed_har_is_one_scope_of_the_models_name(self, built: Desk, name: str) -> None:
        har = har_file.read(built.path(f"{name}.har"))
        assert (har.state, har.hw_arch, har.model_name) == ("hailo_model", "hailo8", name)
        assert har.scopes == (name,)
        assert har.is_emulated == self.is_emulated
        assert [layer.name for layer in har.inputs] == [f"{name}/input_layer1"]

    @pytest.mark.parametrize("name", CLASSES)
    def test_a_parsed_har_keeps_shapes_original_names_and_weights(self, built: Desk, name: str) -> None:
        har = har_file.read(built.path(f"{name}.har"))
        assert [(layer.original_names, layer.output_shapes) for layer in har.inputs] == [
            (("image",), ((-1, 16, 16, 3),))
        ]
        assert [(layer.original_names, layer.output_shapes) for layer in har.outputs] == [
            (("scores",), ((-1, CLASSES[name]),))
        ]
        assert {"conv", "relu", "dense"} <= {node for layer in har.layers for node in layer.original_names}
        assert har.parameters == (3 * 3 * 3 * 8 + 8) + (8 * CLASSES[name] + CLASSES[name])

    def test_the_join_leaves_one_input_and_the_outputs_of_both_in_order(self, built: Desk) -> None:
        har, answer = har_file.read(built.path("joined.har")), built.answers["join"]
        assert har.state == "hailo_model"
        assert har.model_name == answer["name"] == "joined_left_right"
        assert har.scopes == tuple(CLASSES)
        assert [layer.name for layer in har.inputs] == answer["inputs"]
        assert len(answer["inputs"]) == 1
        assert [layer.inputs[0] for layer in har.outputs] == answer["outputs"]
        assert [name.split("/")[0] for name in answer["outputs"]] == list(CLASSES)

    def test_joined_outputs_equal_each_model_alone(self, built: Desk) -> None:
        rows = built.answers["join"]["equality"]
        assert [row["layer"] for row in rows] == built.answers["join"]["outputs"]
        for row in rows:
            assert row["frames"] == 32
            assert row["max_abs_difference"] <= TOLERANCE * row["largest_value"]

    def test_native_and_float_outputs_are_those_of_the_onnx_files_on_normalized_frames(self, built: Desk) -> None:
        frames = (np.load(built.path("images.npy")) - np.array(MEAN)) / np.array(STD)
        feeds = [frame[None] for frame in frames.transpose(0, 3, 1, 2).astype(np.float32)]
        with np.load(built.path("outputs.npz")) as arrays:
            for index, name in enumerate(CLASSES):
                session = onnxruntime.InferenceSession(built.path(f"{name}.onnx"))
                exact = np.concatenate([session.run(None, {"image": feed})[0] for feed in feeds])
                np.testing.assert_allclose(arrays[f"float_{index}"], exact, atol=TOLERANCE * np.abs(exact).max())
                if name == "right":  # the scope that was asked for
                    np.testing.assert_allclose(arrays[f"native_{index}"], exact, atol=TOLERANCE * np.abs(exact).max())
            assert [key for key in arrays if key.startswith("native")] == ["native_1"]

    def test_quantized_outputs_differ_and_resemble(self, built: Desk) -> None:
        with np.load(built.path("outputs.npz")) as arrays:
            for index in range(len(CLASSES)):
                exact, rough = arrays[f"float_{index}"], arrays[f"quantized_{index}"]
                assert exact.dtype == rough.dtype == np.float32
                noise = np.sum((exact - rough) ** 2)
                assert noise > 0
                assert 10 * np.log10(np.sum(exact**2) / noise) > LEAST_SNR_DB

    def test_noise_is_told_for_the_layers_of_every_model(self, built: Desk) -> None:
        noise = built.answers["quantize"]["noise"]
        assert set(built.answers["join"]["outputs"]) <= noise.keys()
        assert all(figures["snr_db"] > LEAST_SNR_DB for figures in noise.values())

    def test_what_a_layer_makes_alone_is_told_by_the_emulator_only(self, built: Desk) -> None:
        noise = built.answers["quantize"]["noise"]
        known = {"snr_db"}
        if built.toolchain.sdk.provider == "emulator":
            known |= {"cosine", "own_snr_db", "own_cosine"}
        assert all(figures.keys() == known for figures in noise.values())

    def test_the_scripts_come_back_as_they_were_obeyed(self, built: Desk) -> None:
        (input_layer,) = built.answers["join"]["inputs"]
        given = model_script.parse(normalization(input_layer))
        assert model_script.parse(built.answers["quantize"]["script"]) == given
        assert model_script.parse(built.answers["compile"]["script"]) == model_script.parse(SINGLE)
        assert har_file.read(built.path("quantized.har")).state == "quantized_model"
        assert har_file.read(built.path("compiled.har")).state == "compiled_model"

    def test_the_hef_is_whole_and_has_the_joined_networks_streams(self, built: Desk) -> None:
        hef = hef_file.read(built.path("joined.hef"), verify=True)
        assert hef.is_emulated == self.is_emulated
        assert hef.sdk_version == built.answers["compile"]["sdk_version"]
        (group,) = hef.groups
        assert (group.name, group.networks, group.contexts) == (
            "joined_left_right", ("joined_left_right/left_right",), 1,
        )  # fmt: skip
        assert [(stream.name, stream.shape) for stream in group.inputs] == [
            (built.answers["join"]["inputs"][0], (16, 16, 3))
        ]
        assert [(stream.name, stream.shape) for stream in group.outputs] == [
            (layer, (CLASSES[layer.split("/")[0]],)) for layer in built.answers["join"]["outputs"]
        ]

    def test_the_hefs_quantization_holds_the_outputs_ranges(self, built: Desk) -> None:
        (group,) = hef_file.read(built.path("joined.hef")).groups
        with np.load(built.path("outputs.npz")) as arrays:
            for index, stream in enumerate(group.outputs):
                lowest, highest = ((edge - stream.zero_point) * stream.scale for edge in (0, 255))
                rough = arrays[f"quantized_{index}"]
                assert lowest - stream.scale <= rough.min() < rough.max() <= highest + stream.scale
                steps = rough / stream.scale
                np.testing.assert_allclose(steps, np.round(steps), atol=0.01)

    def test_the_resolved_script_compiles_to_the_same_streams(self, built: Desk) -> None:
        if not built.answers["compile"]["auto_script"]:
            assert self.is_emulated, "the DFC keeps its decisions in the compiled HAR"
            return
        text = Path(built.path("auto.alls")).read_text(encoding="utf-8")
        assert model_script.parse(SINGLE).commands[0] in model_script.parse(text).commands
        built.compile(text, hef="again.hef")
        first, again = (hef_file.read(built.path(name)).groups[0] for name in ("joined.hef", "again.hef"))
        assert again == first

    def test_a_step_leaves_its_log(self, built: Desk) -> None:
        text = Path(built.path("compile.log")).read_text(encoding="utf-8")
        assert "[info] " in text
        assert "Using Single-context flow" in text

    def test_a_misspelt_node_is_an_input_error(self, desk: Desk) -> None:
        with pytest.raises(InputError, match=r"tiny: .*\bdens\b") as caught:
            desk.parse("left.onnx", "misspelt", end_nodes=["dens"])
        assert type(caught.value) is InputError
        assert not (desk.work / "misspelt.har").exists()

    def test_an_unsupported_operator_is_named_with_its_node_and_where_to_end(
        self, desk: Desk, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        write_model(desk.work / "odd.onnx", seed=1, classes=4, pool="GlobalLpPool")
        with pytest.raises(UnsupportedOpError) as caught:
            desk.parse("odd.onnx", "odd")
        assert list(map(tuple, caught.value.operators)) == [("GlobalLpPool", "pool")]
        assert list(caught.value.nearest_supported) == ["relu"]
        again = desk._replace(work=tmp_path_factory.mktemp("again"))
        again.parse(desk.path("odd.onnx"), "odd", end_nodes=list(caught.value.nearest_supported))
        assert [layer.output_shapes for layer in har_file.read(again.path("odd.har")).outputs] == [((-1, 16, 16, 8),)]

    def test_frames_of_another_shape_are_a_calibration_error(self, desk: Desk) -> None:
        np.save(desk.work / "others.npy", images(4, size=8))
        with pytest.raises(CalibrationError, match=r"tiny: .*\b8\b.*\b16\b"):
            desk.quantize("left.har", "", calibration="others.npy")
        assert not (desk.work / "outputs.npz").exists()

    @pytest.mark.parametrize("script", ["normalization([0], [1])", "left/n = normalization([0], [1], left/absent)"])
    def test_a_wrong_script_is_a_spec_error(self, desk: Desk, script: str) -> None:
        with pytest.raises(SpecError, match="model script of tiny"):
            desk.quantize("left.har", script)
        assert not (desk.work / "outputs.npz").exists()

    def test_what_does_not_fit_one_context_is_a_fit_error_with_its_numbers(self, large: Desk) -> None:
        with pytest.raises(FitError) as caught:
            large.compile(SINGLE, hef="single.hef")
        assert caught.value.need["LCUs"] > caught.value.have["LCUs"]
        assert not (large.work / "single.hef").exists()

    def test_what_does_not_fit_one_context_gets_several_where_it_may(
        self, large: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        work = tmp_path / "work"
        work.mkdir()
        large._replace(work=work).compile("", har=large.path("quantized.har"))
        assert hef_file.read(work / "joined.hef", verify=True).groups[0].contexts > 1
        assert list(tmp_path.iterdir()) == [work], "logs of the SDK stay in the step's own directory"

    def test_a_model_that_is_not_quantized_does_not_compile(self, desk: Desk) -> None:
        with pytest.raises(CompileError, match="quantized"):
            desk.compile("", har="left.har")

    @pytest.fixture(scope="class")
    @classmethod
    def answers(cls, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with what `strict_calls.py` found in the provider's own interpreter."""
        folder = tmp_path_factory.mktemp("calls")
        models: dict[str, dict[str, Any]] = {
            "left": {}, "right": {}, "large": {"size": 32}, "unsupported": {"pool": "GlobalLpPool"},
        }  # fmt: skip
        for name, options in models.items():
            write_model(folder / f"{name}.onnx", seed=1, classes=4, **options)
        script = Path(strict_calls.__file__).resolve()
        done = subprocess.run(
            [toolchain.python, str(script), PACKAGES[toolchain.sdk.provider], str(folder)],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return folder

    def test_every_wrong_call_is_refused_as_documented(self, answers: Path) -> None:
        raised = json.loads((answers / "raised.json").read_text(encoding="utf-8"))
        documented = {label: name for label, (_, name) in strict_calls.CALLS.items()}
        assert raised.keys() == documented.keys()
        assert [label for label, name in raised.items() if name is None] == []
        assert {label: raised[label] for label, name in documented.items() if name} == {
            label: name for label, name in documented.items() if name
        }

    def test_a_join_works_on_the_left_side_in_place(self, answers: Path) -> None:
        observed = json.loads((answers / "observed.json").read_text(encoding="utf-8"))
        assert observed["join returns"] is None
        assert observed["inputs by default"] == ["left/input_layer1", "right/input_layer1"]
        assert len(observed["inputs when shared"]) == 1
        assert observed["name"] == "joined_a_b"
        assert [name.split("/")[0] for name in observed["outputs"]] == ["a", "b"]
        assert observed["scopes of the other side"] == ["right"]
        assert observed["left side of a refused join"] == [True, "left", ["left/input_layer1"]]
