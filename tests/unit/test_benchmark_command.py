"""`hefjoin benchmark`: what it says, and what it says to a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.builds.rows import add_build, add_to_row
from hefjoin.devices import emulated_turns, hailort_turns
from hefjoin.emulator import ClientRunner
from hefjoin.formats.hef import Edge
from hefjoin.manifest import Published
from hefjoin.report.by_turns import notices, rows, verdict
from hefjoin.results.measured import Range
from hefjoin.results.timed import Conditions, Difference, Speed, Timed
from hefjoin.stores import open_store
from tests import runtime
from tests.builds import make_manifest
from tests.tiny import SIZE, images, write_model

LARGE = 2 * SIZE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(emulated_turns, "ROUND_SECONDS", 0.001)
    monkeypatch.setattr(hailort_turns, "ROUND_SECONDS", 0.005)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def hefs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Emulated HEFs, one of another input shape, and real ones."""
    folder = tmp_path_factory.mktemp("hefs")

    def compiled(name: str, seed: int, size: int) -> Path:
        runner = ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(str(write_model(folder / f"{name}.onnx", seed=seed, classes=4, size=size)), name)
        runner.optimize(images(8, size).astype(np.float32))
        (folder / f"{name}.emulated.hef").write_bytes(runner.compile())
        return folder / f"{name}.emulated.hef"

    return {
        **{name: compiled(name, seed, SIZE) for seed, name in enumerate(("left", "right", "third"))},
        "large": compiled("large", 3, LARGE),
        "real": runtime.write_dfc_hef(folder / "real.hef"),
        **{
            name: runtime.write_dfc_hef(folder / f"{name}.hef", inputs=(Edge(f"{name}/in", (SIZE, SIZE, 3)),))
            for name in ("other", "second")
        },
    }


def benchmark(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments), "--seconds", "0.05"])


def figures(*arguments: object) -> dict[str, Any]:
    done = benchmark(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_are_compared_with_effect_interval_p_value_and_noise_floor(hefs: dict[str, Path]) -> None:
    found = figures(hefs["left"], "--against", hefs["right"], "--batch-size", 2)
    assert (found["source"], found["batch_size"], found["frames"]) == ("emulator", 2, "8 random ones")
    difference = found["difference"]
    assert difference["low_percent"] <= difference["percent"] <= difference["high_percent"]
    assert 0 < difference["p_value"] <= 1
    assert found["noise_floor_percent"] > 0
    assert "noise floor" in found["verdict"]
    assert found["is_different"] == (
        difference["p_value"] < 0.05 and abs(difference["percent"]) > found["noise_floor_percent"]
    )
    assert [found[side]["name"] for side in ("first", "second")] == [str(hefs["left"]), str(hefs["right"])]
    assert {note.partition(":")[0] for note in found["conditions"]["notes"]} == {"temperature", "throttling"}


def test_the_answer_comes_first_and_says_that_a_cpu_is_no_chip(hefs: dict[str, Path]) -> None:
    done = benchmark(hefs["left"], "--against", hefs["right"])
    assert done.exit_code == 0, done.output
    answer = done.stdout.splitlines()[0]
    assert all(
        part in answer for part in ("left.emulated.hef", "right.emulated.hef", "noise floor", "p ", "(emulator)")
    )
    assert "no statement about the chip" in done.stdout
    assert "not available" in done.stdout
    assert done.stderr == ""


def test_alone_it_is_a_speed_with_its_interval_and_the_noise_floor(hefs: dict[str, Path]) -> None:
    found = figures(hefs["left"])
    assert found["difference"] is None
    assert found["first"]["fps_low"] <= found["first"]["fps"] <= found["first"]["fps_high"]
    assert "FPS" in benchmark(hefs["left"]).stdout.splitlines()[0]


def test_joined_against_separate_on_the_emulator_is_shown_as_no_figure_of_the_chip(hefs: dict[str, Path]) -> None:
    done = benchmark(hefs["left"], "--against", hefs["right"], "--against", hefs["third"])
    assert done.exit_code == 0, done.output
    assert "no figure of the chip" in done.stdout.splitlines()[0]
    assert "A CPU switches no contexts" in done.stdout


def test_a_build_is_named_and_its_evaluation_set_is_sent(hefs: dict[str, Path], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "artifacts"))
    np.save(tmp_path / "frames.npy", images(5))
    made = make_manifest()
    evaluation = made.check.evaluation.model_copy(update={"npy": store.put(tmp_path / "frames.npy", "npy")})
    made = made.model_copy(
        update={
            "check": made.check.model_copy(update={"evaluation": evaluation}),
            "compiled": made.compiled.model_copy(update={"hef": store.put(hefs["left"], "emulated.hef")}),
        }
    )
    (tmp_path / "manifest.json").write_text(made.model_dump_json(), encoding="utf-8")
    ref = store.put(tmp_path / "manifest.json", "json")
    published = Published(
        build_id=made.build_id, provider=made.sdk.provider, name=made.spec.name, created_at=made.created_at, host="box",
        manifest=ref, report=ref, hef=made.compiled.hef, hef_name="x.hef", record="",
    )  # fmt: skip
    add_build(store, published)
    add_to_row(store, published)
    found = figures(made.spec.name, "--against", hefs["right"])
    assert found["frames"] == f"evaluation set of {made.spec.name}"
    assert found["first"]["name"] == made.spec.name
    same = benchmark(made.spec.name, "--against", hefs["left"])
    assert same.exit_code == 0, same.output
    assert "the same HEF" in same.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (lambda at: [at["left"], "--against", at["large"]], 2, f"takes {SIZE}×{SIZE}×3.*takes {LARGE}×{LARGE}×3"),
        (lambda at: [at["left"], "--against", at["real"]], 2, "made by the emulator.*by the DFC"),
        (lambda at: ["nowhere.hef"], 2, "no such file"),
        (lambda at: ["no-such-build"], 2, "no build or name in"),
        (lambda at: [at["left"], "--device", "hailort"], 4, "made by the emulator"),
        (lambda at: [at["real"], "--device", "emulated"], 4, "runs on the chip only"),
        (lambda at: [at["real"]], 4, "no device drives a real HEF here"),
        (lambda at: [Path(__file__)], 2, "no HEF|not a HEF"),
    ],
    ids=["shapes", "kinds", "no file", "no build", "emulated on hailort", "real on a CPU", "no chip", "text"],
)
def test_a_mistake_is_a_sentence_that_says_what_to_do(
    hefs: dict[str, Path],
    arguments: Callable[[dict[str, Path]], list[object]],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = benchmark(*arguments(hefs))
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("hefjoin: ")
    assert "Traceback" not in done.stderr
    assert re.search(says, done.stderr, re.DOTALL)


@pytest.mark.parametrize("name", ["left", "real"])
def test_a_copy_of_itself_is_timed_as_one_hef_and_said_to_be(hefs: dict[str, Path], name: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.hef"
    copy.write_bytes(hefs[name].read_bytes())
    with runtime.installed(tmp_path, frame_ms=0.2):
        found = figures(hefs[name], "--against", copy)
        other = figures(hefs[name], "--against", hefs["right" if name == "left" else "other"])
    assert found["is_same"]
    assert found["difference"] is not None
    assert not other["is_same"]


def test_all_that_keeps_two_from_being_compared_is_said_at_once(hefs: dict[str, Path]) -> None:
    said = benchmark(hefs["large"], "--against", hefs["real"]).stderr
    assert "the same frames must go into all" in said
    assert "compare two of a kind" in said


def test_on_a_hailo_8_the_command_is_the_same(hefs: dict[str, Path], tmp_path: Path) -> None:
    switches = {"frame_ms": 0.2, "queue": 4, "frame_ms_of": {"other/in": 2.0, "second/in": 4.0}, "switch_ms": 0.2}
    with runtime.installed(tmp_path, **switches):
        found = figures(hefs["real"], "--against", hefs["other"])
        separate = figures(hefs["real"], "--against", hefs["other"], "--against", hefs["second"])
    assert found["source"] == "device"
    assert found["difference"]["percent"] > 50
    assert found["conditions"]["temperature_c"]["high"] == 48.25
    assert found["conditions"]["is_throttled"] is False
    assert found["conditions"]["versions"]["HailoRT"] == "4.23.0"
    assert separate["is_separate"]
    assert separate["second"]["name"] == f"{hefs['other']} + {hefs['second']}"
    assert separate["second"]["fps"] < found["second"]["fps"]  # both networks, and the switching between them


def timed(percent: float = -3.12, p_value: float = 0.002, floor: float = 0.8, **changes: Any) -> Timed:
    difference = Difference(
        percent=percent, low_percent=percent - 0.9, high_percent=percent + 0.9, p_value=p_value, blocks=40, neighbours=1
    )
    found = Timed(
        source="device",
        device="HAILO8 at 0000:01:00.0",
        method="HailoRT",
        frames="8 random ones",
        batch_size=1,
        first=Speed(name="pair.hef", fps=787, fps_low=780, fps_high=791),
        noise=Difference(percent=0.1, low_percent=-0.5, high_percent=0.8, p_value=0.4, blocks=20, neighbours=2),
        noise_floor_percent=floor,
        second=Speed(name="before.hef", fps=812, fps_low=805, fps_high=815),
        difference=difference,
        precision_percent=1,
        is_precise=True,
        seconds=20.0,
        load_average=0.4,
        conditions=Conditions(temperature_c=Range(low=48, mean=50, high=52, samples=9), is_throttled=False),
    )
    return found.model_copy(update=changes)


def test_the_verdict_is_the_sentence_of_the_docs() -> None:
    assert verdict(timed()) == "pair.hef is 3.1 % slower than before.hef, p = 0.002; noise floor 0.8 % (device)"
    assert verdict(timed(percent=4.0)).startswith("pair.hef is 4.0 % faster than before.hef")


def test_what_chance_or_the_noise_floor_explains_is_no_difference() -> None:
    assert verdict(timed(p_value=0.3)).startswith("no difference found between pair.hef and before.hef: 3.1 % slower")
    assert verdict(timed(floor=4.0)).startswith("no difference beyond the noise floor between pair.hef and before.hef")
    assert not timed(p_value=0.3).is_different
    assert not timed(floor=4.0).is_different
    assert timed().is_different


def test_temperature_and_throttling_are_noted() -> None:
    labels = dict(rows(timed()))
    assert labels["temperature"] == "48.0 to 52.0 °C"
    assert labels["throttling"] == "none"
    hot = timed(conditions=Conditions(is_throttled=True))
    assert dict(rows(hot))["throttling"] == "the chip slowed itself down"
    assert any("slowed itself down" in text for text in notices(hot))


def test_a_short_time_and_an_odd_noise_floor_are_said() -> None:
    assert not list(notices(timed()))
    (text,) = notices(timed(is_precise=False))
    assert "± 1 %" in text
    odd = timed().noise.model_copy(update={"p_value": 0.01})
    (text,) = notices(timed(noise=odd))
    assert "differed from itself" in text
