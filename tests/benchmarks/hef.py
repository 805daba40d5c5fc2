"""What it costs to list a HEF of 80 MB, most of which nobody reads."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.material import Material
from tests.benchmarks.measure import Row, call, interleaved, median_of, spread

ROUNDS = 9
MB = 1_000_000
MIB = 1 << 20
PARTS = {"description": 40 * MB, "microcode": 40 * MB}
"""As in real files, where placement data take a third to three quarters of a HEF, inside its description."""


def measure(material: Material) -> list[Row]:
    """Return the rows of the first and of a further listing, and of the memory that takes."""
    path = material.scratch / "large.hef"
    write_large(path)

    def listing() -> Any:
        return call(list_twice, material.scratch, path=path).value

    (rounds,) = interleaved(ROUNDS, listing)
    figures = (
        ("first listing of a HEF of 80 MB", "cold_ms", "ms", 50.0),
        ("a further one", "warm_ms", "ms", 50.0),
        ("memory above the process at rest", "peak_mib", "MiB", 32.0),
    )
    return [
        Row(
            what,
            median_of(rounds, lambda found, key=key: float(found[key])),
            unit,
            "≤",
            bar,
            f"fresh process, reader imported, {ROUNDS} rounds: {spread([found[key] for found in rounds], '.2f')}",
        )
        for what, key, unit, bar in figures
    ]


def write_large(path: Path) -> None:
    """Write a HEF of version 2 around an emulated description; placement data and microcode are noise."""
    from hefjoin.formats import hef, hef_wire
    from hefjoin.formats.hef import Edge
    from hefjoin.formats.hef_container import COMMON, MAGIC, SPECIFIC, open_container, read_slice

    outputs = [Edge(f"pair/conv{number}", (80, 80, 64), 2, 31000.0, 0.001) for number in range(20)]
    path.write_bytes(
        hef.write_emulated(
            group="pair",
            networks=["pair"],
            inputs=[Edge("pair/input_layer1", (640, 640, 3))],
            outputs=outputs,
            contexts=8,
            sdk_version="0-emulator",
            resources={},
        )
    )
    small = open_container(path)
    known = read_slice(small, small.header_bytes, small.parts.description_bytes)
    mapping_key = 3 << 3 | hef_wire.LENGTH
    description = known + bytes([mapping_key]) + hef_wire.varint(PARTS["description"])
    noise = bytes(range(256)) * (MB // 256 + 1)
    with path.open("wb") as stream:
        stream.write(COMMON.pack(MAGIC, 2, len(description) + PARTS["description"]))
        stream.write(SPECIFIC[2].pack(struct.pack(">Q", 0), PARTS["microcode"], 0, 0))
        stream.write(description)
        for _ in range(sum(PARTS.values()) // MB):
            stream.write(noise[:MB])


def list_twice(path: str) -> dict[str, float]:
    """List a HEF twice; returns milliseconds of each, and how far both drove the peak of the resident size."""
    from hefjoin.formats import hef

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    rest = _memory_kib("VmRSS")
    times = []
    for _ in range(2):
        start = time.perf_counter()
        found = hef.read(path)
        times.append((time.perf_counter() - start) * 1e3)
    assert len(found.groups[0].outputs) == 20
    return {"cold_ms": times[0], "warm_ms": times[1], "peak_mib": (_memory_kib("VmHWM") - rest) * 1024 / MIB}


def _memory_kib(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))
