"""How often `hefjoin benchmark --against` is wrong about two that are the same, and finds one that is 5 % slower.

What is timed is real: emulated HEFs on this machine, whatever else it does. The slower twin is the same HEF, each of
whose batches is followed by a wait of 5 % of a batch's time, measured before.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.benchmarks.material import Material, script
from tests.benchmarks.measure import Row, call, load_average

SAME, SAME_SECONDS = 200, 3.0
SLOWER, SLOWER_SECONDS = 40, 20.0
DELAY = 0.05
CHUNK = 10
"""Comparisons of one process."""
ROUNDS = 20
"""To measure the batch that the delay is a share of."""


def measure(material: Material) -> list[Row]:
    """Return the rows of false and of found differences, over a tiny and a medium HEF."""
    hefs = {"mnist-pair": _mnist(material), "resnet_a": _resnet(material)}
    load = load_average()
    same = _comparisons(material, hefs, SAME, SAME_SECONDS, 0.0)
    slower = _comparisons(material, hefs, SLOWER, SLOWER_SECONDS, DELAY)
    wrong = {name: sum(each["is_different"] for each in found) for name, found in same.items()}
    by_p = {name: sum(each["p_value"] < 0.05 for each in found) for name, found in same.items()}
    right = {
        name: sum(each["is_different"] and each["percent"] > 0 for each in found) for name, found in slower.items()
    }
    surroundings = f"load {load:.1f} to {load_average():.1f}"
    return [
        Row(
            "A/A on the emulated device: called different",
            100 * sum(wrong.values()) / SAME,
            "%",
            "≤",
            7.0,
            f"{SAME} comparisons, at most {SAME_SECONDS:g} s where 8 blocks took no longer: {_each(wrong, same)}; with "
            f"p < 0.05 alone {_each(by_p, same)}; {_widths(same)}; {surroundings}",
        ),
        Row(
            f"a twin slower by a delay of {100 * DELAY:g} %: found",
            100 * sum(right.values()) / SLOWER,
            "%",
            "≥",
            90.0,
            f"{SLOWER} comparisons of at most {SLOWER_SECONDS:g} s, ended at ± 1 %: {_each(right, slower)}; median "
            f"found {_medians(slower)}; {_widths(slower)}; {surroundings}",
        ),
    ]


def compare_many(hef: str, frames: str, count: int, seconds: float, delay: float) -> list[dict[str, Any]]:
    """Compare a HEF with its twin time and again.

    Args:
        hef: The HEF.
        frames: Of its input, .npy.
        count: How often.
        seconds: Of each comparison.
        delay: Of the twin, as a share of its batch.
    """
    from statistics import median
    from time import perf_counter

    from hefjoin.devices.emulated import EmulatedDevice
    from hefjoin.timing.compare import Asked, compare

    class Delayed:
        def __init__(self, session: Any, wait_s: float) -> None:
            self.session, self.wait_s = session, wait_s

        def get_inputs(self) -> Any:
            return self.session.get_inputs()

        def run(self, *arguments: Any) -> Any:
            given = self.session.run(*arguments)
            until = perf_counter() + self.wait_s
            while perf_counter() < until:
                pass
            return given

    class Twins(EmulatedDevice):
        wait_s = 0.0

        def opener(self, path: Path) -> Any:
            opened = super().opener(path)
            return (lambda: Delayed(opened(), Twins.wait_s)) if path.name.startswith("twin") and delay else opened

    twin = Path(hef).with_name(f"twin-{Path(hef).name}")
    with EmulatedDevice().turns([(Path(hef),)], Path(frames), 1) as turns:
        turns.begin((0,))
        Twins.wait_s = delay / median(turns.fps(0) for _ in range(ROUNDS))
    found = []
    for _ in range(count):
        with Twins().turns([(Path(hef),), (Path(hef),), (twin,)], Path(frames), 1) as turns:
            timed = compare(turns, Asked(("hef", "twin"), "", seconds=seconds), lambda *_: None)
        assert timed.difference is not None
        found.append({
            "is_different": timed.is_different,
            "p_value": timed.difference.p_value,
            "percent": timed.difference.percent,
            "half_width": timed.difference.half_width_percent,
            "floor": timed.noise_floor_percent,
            "seconds": timed.seconds,
        })  # fmt: skip
    return found


def _comparisons(
    material: Material, hefs: dict[str, tuple[Path, Path]], count: int, seconds: float, delay: float
) -> dict[str, list[dict[str, Any]]]:
    """Return `count` comparisons, spread over the HEFs and over processes, the HEFs in turn."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in hefs}
    for _ in range(math.ceil(count / CHUNK / len(hefs))):
        for name, (hef, frames) in hefs.items():
            given = {"hef": hef, "frames": frames, "count": CHUNK, "seconds": seconds, "delay": delay}
            found[name] += call(compare_many, material.scratch, **given).value
    return found


def _mnist(material: Material) -> tuple[Path, Path]:
    hef, frames = material.scratch / "mnist.emulated.hef", material.scratch / "mnist.npy"
    call(write_mnist, material.scratch, hef=hef, frames=frames)
    return hef, frames


def _resnet(material: Material) -> tuple[Path, Path]:
    hef, frames = material.scratch / "resnet.emulated.hef", material.calibration(64)
    call(write_resnet, material.scratch, model=material.models["resnet_a"], hef=hef, frames=frames)
    return hef, frames


def write_mnist(hef: str, frames: str) -> None:
    """Join, quantize and compile the two networks of the example `mnist-pair`."""
    import numpy as np

    from hefjoin.emulator import ClientRunner
    from hefjoin.emulator.exposed_definitions import JoinAction
    from hefjoin.examples import mnist

    runners = []
    for name, file in mnist.MODELS.items():
        runners.append(ClientRunner(hw_arch="hailo8"))
        runners[-1].translate_onnx_model(str(mnist.MODEL_FOLDER / file), name)
    first, second = runners
    first.join(second, *mnist.MODELS, JoinAction.AUTO_JOIN_INPUTS)
    digits = mnist.digits()[0][:64]
    first.optimize(digits.astype(np.float32))
    _write(first, hef)
    np.save(frames, digits)


def write_resnet(model: str, hef: str, frames: str) -> None:
    """Quantize and compile one network of the example `resnet-pair`."""
    from hefjoin.emulator import ClientRunner

    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(model, "resnet_a")
    runner.load_model_script(script(64))
    runner.optimize(frames)
    _write(runner, hef)


def _write(runner: Any, hef: str) -> None:
    """Write a HEF and its twin, byte for byte."""
    compiled = runner.compile()
    Path(hef).write_bytes(compiled)
    Path(hef).with_name(f"twin-{Path(hef).name}").write_bytes(compiled)


def _each(counts: dict[str, int], found: dict[str, list[dict[str, Any]]]) -> str:
    return ", ".join(f"{name} {count} of {len(found[name])}" for name, count in counts.items())


def _medians(found: dict[str, list[dict[str, Any]]]) -> str:
    return ", ".join(f"{name} {_median(some, 'percent'):.1f} %" for name, some in found.items())


def _widths(found: dict[str, list[dict[str, Any]]]) -> str:
    return ", ".join(
        f"{name} ± {_median(some, 'half_width'):.1f} %, floor {_median(some, 'floor'):.1f} %, "
        f"{_median(some, 'seconds'):.1f} s"
        for name, some in found.items()
    )


def _median(found: list[dict[str, Any]], figure: str) -> float:
    from statistics import median

    return float(median(each[figure] for each in found))
