"""The module that `hefjoin loader` writes, run as an application runs it: on the emulated device, on HailoRT's fake."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hefjoin.artifacts import Ref, file_sha256
from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.emulator import ClientRunner, JoinAction
from hefjoin.errors import DeviceError
from hefjoin.formats import hef as hef_file
from hefjoin.loader import class_name, literal, module_name, render
from hefjoin.manifest import Manifest
from hefjoin.results.networks import Joined, Network, Tensor
from hefjoin.spec import validate_spec
from hefjoin.stages.deployment import deployment
from hefjoin.stages.network import describe
from tests import runtime
from tests.builds import device_manifest, make_manifest
from tests.tiny import CLASSES, images, pair, write_model

NORMALIZATION = "left/normalization1 = normalization([120.0, 115.0, 105.0], [60.0, 58.0, 57.0], left/input_layer1)\n"
DEVICE_BUILD = device_manifest()


def manifest_of(hef: Path, joined: Joined) -> Manifest:
    """The manifest of a build named `tiny` that made this HEF of this network."""
    found = hef_file.read(hef)
    compiled = make_manifest().compiled.model_copy(
        update={
            "hef": Ref(uri="x", sha256=file_sha256(hef), size_bytes=hef.stat().st_size, media="hef"),
            "is_emulated": found.is_emulated,
            "deployment": deployment(found, joined, "hailo8"),
        }
    )
    return make_manifest(spec=validate_spec(pair()), joined=joined, compiled=compiled)


def load(manifest: Manifest, folder: Path) -> Any:
    """Write the loader and import it; return its class."""
    path = folder / f"{module_name(manifest)}.py"
    path.write_text(render(manifest), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(module_name(manifest), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, class_name(manifest))


def changed_outputs(manifest: Manifest, *outputs: dict[str, Any]) -> Manifest:
    """The same build with other words about its outputs."""
    deployed = manifest.compiled.deployment
    streams = tuple(stream.model_copy(update=change) for stream, change in zip(deployed.outputs, outputs, strict=True))
    compiled = manifest.compiled.model_copy(update={"deployment": deployed.model_copy(update={"outputs": streams})})
    return manifest.model_copy(update={"compiled": compiled})


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The HEF of the tiny pair, by the emulator, and its manifest."""
    folder = tmp_path_factory.mktemp("emulated")
    runners = []
    for seed, (name, classes) in enumerate(CLASSES.items()):
        runner = ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(str(write_model(folder / f"{name}.onnx", seed, classes)), name)
        runners.append(runner)
    left, right = runners
    left.join(right, join_action=JoinAction.AUTO_JOIN_INPUTS)
    left.save_har(str(folder / "joined.har"))
    left.load_model_script(NORMALIZATION)
    left.optimize(images(16).astype(np.float32))
    hef = folder / "tiny.emulated.hef"
    hef.write_bytes(left.compile())
    har = folder / "joined.har"
    network = describe(har, Ref(uri="x", sha256=file_sha256(har), size_bytes=har.stat().st_size, media="har"))
    layers = tuple(tensor.layer for tensor in network.outputs)
    joined = Joined(
        name="joined", network=network, input_layer=network.inputs[0].layer, output_layers=layers, equality=()
    )
    return hef, manifest_of(hef, joined)


@pytest.fixture
def dfc(tmp_path: Path) -> tuple[Path, Manifest]:
    """A HEF as the DFC describes it, and its manifest: scores in 8 bits, a map without an original name in 16."""
    hef = runtime.write_dfc_hef(tmp_path / "tiny.hef")
    network = Network(
        har=Ref(uri="x", sha256="0" * 64, size_bytes=1, media="har"),
        scopes=("left", "right"),
        state="hailo_model",
        hw_arch="hailo8",
        sdk_version="3.33.0",
        inputs=(Tensor(layer="pair/input_layer1", original_name="image", shape=(16, 16, 3)),),
        outputs=(
            Tensor(layer="left/fc1", original_name="scores", shape=(4,)),
            Tensor(layer="right/conv9", original_name="", shape=(5, 6, 2)),
        ),
        layers=(),
    )
    layers = ("left/fc1", "right/conv9")
    joined = Joined(name="pair", network=network, input_layer="pair/input_layer1", output_layers=layers, equality=())
    return hef, manifest_of(hef, joined)


@pytest.fixture
def hailort(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with runtime.installed(tmp_path, frame_ms=0.2, queue=3) as patch:
        yield patch


class TestText:
    @pytest.mark.parametrize("make", [make_manifest, device_manifest], ids=["emulated", "device"])
    def test_it_is_small_clean_and_formatted(self, make: Any, tmp_path: Path) -> None:
        path = tmp_path / "resnet_pair_loader.py"
        path.write_text(render(make()), encoding="utf-8")
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
        ruff = [sys.executable, "-m", "ruff"]
        for command in (
            ["check", "--isolated"],
            ["check", "--isolated", "--line-length=120", "--select=E,F,W,I,B,UP,SIM,C4,RUF,PTH,BLE"],
            ["format", "--isolated", "--line-length=120", "--diff"],
        ):
            options = ["--target-version=py311" if make is make_manifest else "--target-version=py38", "--no-cache"]
            done = subprocess.run(
                [*ruff, *command, *options, path], capture_output=True, text=True, cwd=tmp_path, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def test_a_device_needs_python_3_8_numpy_and_hailort_only(self) -> None:
        tree = ast.parse(render(device_manifest()), feature_version=(3, 8))
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {(name or "").partition(".")[0] for name in modules} - set(sys.stdlib_module_names) == {
            "numpy", "hailo_platform",
        }  # fmt: skip

    def test_of_an_emulated_build_the_first_line_says_so_and_nothing_speaks_of_a_chip(self) -> None:
        text = render(make_manifest())
        assert "emulated device" in text.splitlines()[0]
        assert not any(
            word in text.lower() for word in ("hailo-8", "hailort", "hailo_platform", "hailo8", "chip", "dfc")
        )

    def test_both_kinds_have_the_same_interface(self) -> None:
        emulated, device = (ast.parse(render(manifest)) for manifest in (make_manifest(), device_manifest()))

        def interface(tree: ast.Module) -> list[str]:
            (net,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ResnetPairNet")
            return [f"{each.name}{ast.unparse(each.args)}" for each in net.body if isinstance(each, ast.FunctionDef)]

        assert interface(emulated) == interface(device)
        assert "__call__self, frames: NDArray[np.uint8]" in interface(device)

    def test_it_holds_what_the_manifest_says_of_deploying(self, dfc: tuple[Path, Manifest]) -> None:
        hef, manifest = dfc
        found = {
            ast.unparse(node.targets[0]): ast.unparse(node.value)
            for node in ast.parse(render(manifest)).body
            if isinstance(node, ast.Assign)
        }
        assert found["HEF_SHA256"] == repr(file_sha256(hef))
        assert (found["CHIP"], found["DFC"]) == ("'hailo8'", "'3.33.0'")
        assert found["(LEAST_HAILORT, BELOW_HAILORT)"] == "((4, 23), (5,))"
        assert found["FRAME_SHAPE"] == "(16, 16, 3)"
        assert found["MEAN"] == repr(manifest.check.mean)
        assert ast.literal_eval(found["OUTPUTS"]) == {
            "left/fc1": ("left", "scores", (4,)),
            "right/conv9": ("right", "conv9", (5, 6, 2)),
        }

    def test_a_network_without_normalization_speaks_of_none(self) -> None:
        check = DEVICE_BUILD.check.model_copy(update={"mean": (), "std": ()})
        text = render(DEVICE_BUILD.model_copy(update={"check": check}))
        assert "MEAN" in render(DEVICE_BUILD)
        assert not any(word in text for word in ("MEAN", "STD", "std"))

    @settings(max_examples=25)
    @example(name='"""\nimport os\n"""\\')
    @given(name=st.text())
    def test_no_text_of_a_manifest_becomes_code(self, name: str) -> None:
        manifest = changed_outputs(DEVICE_BUILD, {"original_name": name}, {"model": name, "original_name": ""})
        tree = ast.parse(render(manifest.model_copy(update={"build_id": name})))
        plain = ast.parse(render(DEVICE_BUILD))
        assert [type(node) for node in tree.body] == [type(node) for node in plain.body]
        assert ast.literal_eval(literal(name)) == name

    def test_a_name_that_a_model_has_twice_is_no_key(self) -> None:
        manifest = changed_outputs(device_manifest(), {"name": "m/a1", "model": "m"}, {"name": "m/b1", "model": "m"})
        text = render(manifest)
        assert '("m", "a1", (1000,))' in text
        assert '("m", "b1", (1000,))' in text

    def test_boxes_are_asked_for_as_an_array(self) -> None:
        boxes = {"order": "HAILO NMS BY CLASS", "dtype": "FLOAT32", "shape": (80, 5, 100), "original_name": ""}
        text = render(changed_outputs(device_manifest(), boxes, {}))
        ast.parse(text)
        assert "get_buffer(tf_format=name in ('resnet_a/fc1',))" in text
        assert "tf_format" not in render(device_manifest())

    @pytest.mark.parametrize(
        ("name", "module", "cls"),
        [
            ("faces-v2", "faces_v2_loader", "FacesV2Net"),
            ("a.b_c", "a_b_c_loader", "ABCNet"),
            ("3d", "_3d_loader", "_3dNet"),
            ("none", "none_loader", "NoneNet"),
        ],
    )
    def test_names_can_be_imported(self, name: str, module: str, cls: str) -> None:
        manifest = make_manifest(spec=validate_spec(pair(name=name)))
        assert (module_name(manifest), class_name(manifest)) == (module, cls)
        assert f"class {cls}:" in render(manifest)


class TestEmulated:
    def test_it_gives_what_the_emulated_device_gives_by_model_and_original_name(
        self, emulated: tuple[Path, Manifest], tmp_path: Path
    ) -> None:
        hef, manifest = emulated
        frames = images(5, seed=3)
        np.save(tmp_path / "frames.npy", frames)
        with load(manifest, tmp_path)(hef) as net:
            found = net(frames)
        assert {model: list(outputs) for model, outputs in found.items()} == {"left": ["scores"], "right": ["scores"]}
        wanted = EmulatedDevice().outputs(hef, tmp_path / "frames.npy")
        assert len(wanted) == 2
        for array, same in zip(wanted.values(), (found["left"]["scores"], found["right"]["scores"]), strict=True):
            assert same.dtype == np.float32
            np.testing.assert_array_equal(same, array)
        assert np.ptp(found["right"]["scores"], axis=0).min() > 0

    def test_a_hef_of_a_chip_is_refused(
        self, emulated: tuple[Path, Manifest], dfc: tuple[Path, Manifest], tmp_path: Path
    ) -> None:
        cls = load(emulated[1], tmp_path)
        with pytest.raises(DeviceError, match="on the chip only"):
            cls(dfc[0], verify=False)


class TestUse:
    """What both kinds promise, on the kind that needs nothing else."""

    def test_the_hef_of_another_build_is_refused_unless_told_otherwise(
        self, emulated: tuple[Path, Manifest], tmp_path: Path
    ) -> None:
        hef, manifest = emulated
        cls = load(manifest, tmp_path)
        (tmp_path / "other.hef").write_bytes(hef.read_bytes()[:-1] + b" ")
        with pytest.raises(ValueError, match=rf"other\.hef is not the HEF of build {manifest.build_id}"):
            cls(tmp_path / "other.hef")
        cls(str(tmp_path / "other.hef"), verify=False).close()

    @pytest.mark.parametrize(
        "frames",
        [
            images(2).astype(np.float32),
            images(2).astype(np.int8),
            images(2)[0],
            images(2)[:, :8],
            images(2)[..., :1],
            images(2).transpose(0, 3, 1, 2),
            np.zeros((0,), np.uint8),
        ],
        ids=["float32", "int8", "one frame", "half", "grey", "NCHW", "nothing"],
    )
    def test_frames_of_another_type_or_shape_are_refused_with_the_numbers(
        self, emulated: tuple[Path, Manifest], tmp_path: Path, frames: npt.NDArray[Any]
    ) -> None:
        hef, manifest = emulated
        with load(manifest, tmp_path)(hef) as net:
            with pytest.raises(ValueError, match=r"frames are \w+ \(.*\), not uint8 \(frames, 16, 16, 3\)"):
                net(frames)
            assert len(net(images(1))["left"]["scores"]) == 1

    def test_no_frames_give_no_outputs(self, emulated: tuple[Path, Manifest], tmp_path: Path) -> None:
        hef, manifest = emulated
        with load(manifest, tmp_path)(hef) as net:
            assert net(images(1)[:0])["right"]["scores"].shape == (0, 6)

    def test_what_is_closed_says_so(self, emulated: tuple[Path, Manifest], tmp_path: Path) -> None:
        hef, manifest = emulated
        with load(manifest, tmp_path)(hef) as net:
            pass
        with pytest.raises(RuntimeError, match="TinyNet is closed"):
            net(images(1))
        net.close()


@pytest.mark.usefixtures("hailort")
class TestHailoRt:
    @pytest.fixture
    def stored(self, dfc: tuple[Path, Manifest]) -> Any:
        """What the fake chip answers to one frame, dequantized with the HEF's own numbers."""
        from hailo_platform.pyhailort import chip

        outputs = hef_file.read(dfc[0]).groups[0].outputs

        def answer(frame: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
            found = {}
            for stream in outputs:
                integers = chip.stored_output(stream.name, stream.shape, stream.dtype.lower(), frame.tobytes())
                found[stream.name] = ((integers - np.float32(stream.zero_point)) * stream.scale).astype(np.float32)
            return found

        return answer

    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_every_frame_has_its_own_outputs_dequantized(
        self, dfc: tuple[Path, Manifest], stored: Any, tmp_path: Path, count: int
    ) -> None:
        hef, manifest = dfc
        frames = np.flip(images(count, seed=5), axis=2)
        with load(manifest, tmp_path)(hef) as net:
            net(images(4))
            found = net(frames)
        assert (found["left"]["scores"].shape, found["right"]["conv9"].shape) == ((count, 4), (count, 5, 6, 2))
        for index in range(count):
            wanted = stored(frames[index])
            np.testing.assert_array_equal(found["left"]["scores"][index], wanted["left/fc1"])
            np.testing.assert_array_equal(found["right"]["conv9"][index], wanted["right/conv9"])

    def test_an_input_with_a_scale_of_its_own_is_quantized_by_hailort(
        self, dfc: tuple[Path, Manifest], stored: Any, tmp_path: Path
    ) -> None:
        hef, manifest = dfc
        deployed = manifest.compiled.deployment
        scaled = deployed.model_copy(update={"input": deployed.input.model_copy(update={"scale": 0.996})})
        changed = manifest.model_copy(update={"compiled": manifest.compiled.model_copy(update={"deployment": scaled})})
        frames = images(2)
        with load(changed, tmp_path)(hef) as net:
            found = net(frames)["left"]["scores"]
        np.testing.assert_array_equal(found[1], stored(frames[1].astype(np.float32))["left/fc1"])

    def test_threads_take_turns(self, dfc: tuple[Path, Manifest], tmp_path: Path) -> None:
        hef, manifest = dfc
        frames = [images(6, seed=seed) for seed in range(4)]
        with load(manifest, tmp_path)(hef) as net:
            alone = [net(each)["left"]["scores"] for each in frames]
            together: dict[int, Any] = {}

            def call(index: int) -> None:
                together[index] = net(frames[index])["left"]["scores"]

            threads = [threading.Thread(target=call, args=(index,)) for index in range(len(frames))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for index, wanted in enumerate(alone):
            np.testing.assert_array_equal(together[index], wanted)

    def test_the_chip_is_let_go_at_the_end_and_where_loading_fails(
        self, dfc: tuple[Path, Manifest], tmp_path: Path
    ) -> None:
        hef, manifest = dfc
        cls = load(manifest, tmp_path)
        other = runtime.write_dfc_hef(tmp_path / "hailo15.hef", hw_arch=103)
        for _ in range(2):
            with pytest.raises(Exception, match="not compatible with device") as caught:
                cls(other, verify=False)
            assert type(caught.value).__name__ == "HailoRTHEFNotCompatibleWithDevice"
            with cls(hef) as net, pytest.raises(Exception, match="74"):
                cls(hef)
            del net

    def test_an_error_of_the_chip_is_raised(
        self, dfc: tuple[Path, Manifest], hailort: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        hef, manifest = dfc
        runtime.switch(hailort, tmp_path, fail_frame=4, queue=3)
        with load(manifest, tmp_path)(hef) as net:
            net(images(4))
            with pytest.raises(Exception, match="driver") as caught:
                net(images(4))
        assert type(caught.value).__name__ == "HailoRTDriverOperationFailedException"

    @pytest.mark.parametrize("version", ["4.22.0", "5.1.0"])
    def test_a_hailort_that_does_not_fit_is_refused_before_the_chip_is_opened(
        self, dfc: tuple[Path, Manifest], hailort: pytest.MonkeyPatch, tmp_path: Path, version: str
    ) -> None:
        hef, manifest = dfc
        runtime.switch(hailort, tmp_path, version=version, devices=[])
        with pytest.raises(
            RuntimeError, match=rf"HailoRT is {version}, .* DFC 3\.33\.0 install 4\.23 or newer, below 5"
        ):
            load(manifest, tmp_path)(hef)
