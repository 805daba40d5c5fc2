"""How long a person waits to know whether a pair may share one input."""

from __future__ import annotations

from tests.benchmarks.material import Material
from tests.benchmarks.measure import Ended, Row, interleaved, median_of, run, spread
from tests.benchmarks.startup import HEFJOIN

ROUNDS = 5


def measure(material: Material) -> list[Row]:
    """Return the row of `hefjoin check` on the example's pair."""
    run([HEFJOIN, "example", "resnet-pair", str(material.scratch)], material.scratch)

    def check() -> Ended:
        return run(
            [HEFJOIN, "check", str(material.scratch / "resnet-pair.yaml"), "--sdk", "emulator"], material.scratch
        )

    (side,) = interleaved(ROUNDS, check)
    processor = spread([ended.cpu_s for ended in side])
    how = f"whole fresh process, {ROUNDS} rounds: {spread([ended.wall_s for ended in side])}; CPU s {processor}"
    return [Row("hefjoin check resnet-pair", median_of(side, lambda ended: float(ended.wall_s)), "s", "≤", 3.0, how)]
