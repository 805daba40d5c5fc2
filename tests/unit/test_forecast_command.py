"""`hefjoin forecast`: from files to figures, through the build's own stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.views.forecast import show
from hefjoin.forecast.count import Work
from hefjoin.forecast.demand import Demand
from hefjoin.forecast.limits import default_limits
from hefjoin.results.checked import Forecast
from hefjoin.results.compiled import ClusterUse, Utilization
from hefjoin.spec_file import read_spec
from hefjoin.stages.forecast import ForecastStage, compared, foresee
from tests import builds, tiny
from tests.zoo.catalogue import NETWORKS

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
needs_real_file = pytest.mark.skipif(not REAL.is_file(), reason="needs the real HAR, which is not committed")


def forecast(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["forecast", *map(str, arguments)])


def figures(*arguments: object) -> dict[str, Any]:
    done = forecast(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """YOLOv8n and ResNet-18 joined, which may or may not fit."""
    folder = tmp_path_factory.mktemp("pair")
    paths = [NETWORKS[name]().save(folder / f"{name}.onnx") for name in ("yolov8n", "resnet_v1_18")]
    return figures(*paths)


def test_model_files_are_foretold_joined(pair: dict[str, Any]) -> None:
    found = Forecast.model_validate(pair)
    assert {name: fit.layers for name, fit in found.models.items()} == {"yolov8n": 95, "resnet_v1_18": 23}
    assert (found.joined.layers, found.joined.verdict) == (118, "does not fit")
    assert found.performance is not None
    assert found.performance.fit.verdict == "uncertain"
    assert found.performance.fps is not None
    assert found.fps is not None
    assert found.default is not None
    assert (found.default.fit, found.default.fps) == (found.joined, found.fps)
    assert found.performance.fps.fps > found.fps.fps
    assert found.fps.source == "forecast"
    assert found.changes[0].how == "compile.performance_mode: true"


def test_the_terminal_shows_bars_answers_speed_and_changes(
    pair: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show(Forecast.model_validate(pair))
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "yolov8n + resnet_v1_18 on hailo8: does not fit (forecast)",
        "layer controllers yolov8n",
        "118 of 96, 22 too many",
        "one context as the spec compiles it (default) does not fit",
        "one context in performance mode uncertain",
        "batch 8",
        "compile.performance_mode: true",
    ):
        assert part in text


def test_a_spec_is_foretold_as_it_compiles_without_its_frames(tmp_path: Path) -> None:
    commands = {"compile": {"target_fps": 30}, "script": "resources_param(max_control_utilization=0.9)"}
    path = tiny.write_pair(tmp_path, tiny.pair(**commands))
    (tmp_path / "images.npy").unlink()
    found = figures(path)
    assert found["joined"]["mode"] == "the script's limits"
    assert found["joined"]["layer_limit"] == 115
    assert found["fps_note"].endswith("(0.3–258 GOP)")
    assert found["changes"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("no.onnx",), "models[0].source: no.onnx does not exist"),
        (("a.txt",), "a.txt is neither an .onnx nor a .har file"),
        (("a.yaml", "b.onnx"), "give one spec alone"),
        (("a.yaml", "--hw-arch", "hailo8l"), "give one spec alone"),
    ],
)
def test_a_mistake_ends_in_a_sentence(arguments: tuple[str, ...], text: str) -> None:
    done = forecast(*arguments)
    assert done.exit_code == 2
    assert text in done.stderr


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tiny.write_model(tmp_path / folder / "2-net.onnx", 0, 4)
    found = figures(tmp_path / "a" / "2-net.onnx", tmp_path / "b" / "2-net.onnx", "--hw-arch", "hailo8l")
    assert list(found["models"]) == ["model_2_net", "model_2_net_2"]
    assert found["joined"]["hw_arch"] == "hailo8l"


@needs_real_file
def test_a_har_of_the_vendors_compiler_is_read_as_it_is() -> None:
    found = figures(REAL, "--hw-arch", "hailo8l")
    assert found["joined"]["layers"] == 43  # of 50 in the HAR, as `test_har` tells which are none
    assert found["joined"]["parameters"] == 604_648


def test_the_stage_of_a_build_reads_its_script_and_precision(tmp_path: Path) -> None:
    spec = read_spec(tiny.write_pair(tmp_path, tiny.pair(compile={"performance_mode": True, "target_fps": 25})))
    networks = builds.make_manifest().models
    stage = ForecastStage.of(spec, networks)
    assert (stage.limits.mode, stage.target_fps, stage.precision) == ("performance mode", 25.0, "a8_w8")


def large(name: str) -> Demand:
    works = tuple(Work(f"{name}/conv{index}", "conv", 200_000, 40_000_000, 1, 1000, 1000) for index in range(20))
    return Demand(works, 224 * 224, 150_528, 1000)


def test_what_the_compiler_answered_stands_beside_the_forecast() -> None:
    forecast = foresee({"a": large("a"), "b": large("b")}, "hailo8", default_limits())
    compiled = builds.make_manifest().compiled
    assert compared(forecast, compiled.model_copy(update={"contexts_source": "forecast"})) == ()
    use = Utilization(context="", clusters={}, total=ClusterUse(control=0.4, compute=0.5, memory=0.3))
    real = compiled.model_copy(update={"contexts_source": "hef", "contexts": 1, "utilization": (use,)})
    found = {each.what: (round(each.foretold, 3), each.answer, each.source) for each in compared(forecast, real)}
    assert found["contexts"] == (1, 1, "hef")
    assert found["layer controllers"] == (round(40 / 128, 3), 0.4, "compiler log")
    assert found["weight memory"] == (round(8e6 / (26e6 / 0.75), 3), 0.3, "compiler log")
    assert found["subclusters"][1:] == (0.5, "compiler log")
    two = real.model_copy(update={"contexts": 2, "utilization": (use, use)})
    assert [each.what for each in compared(forecast, two)] == ["contexts"]


def test_sixteen_bits_are_foretold_where_the_spec_says_so() -> None:
    network = builds.make_manifest().models["resnet_a"]
    plain, wide = (
        ForecastStage(networks={"a": network}, hw_arch="hailo8", limits=default_limits(), precision=precision)
        for precision in ("a8_w8", "a16_w16")
    )
    nowhere: Any = None
    alone, raised = (stage.run(Path(), nowhere).joined for stage in (plain, wide))
    assert raised.parameters == 2 * alone.parameters
