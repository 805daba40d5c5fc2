"""The Model Zoo's published figures, read from where they lie: they are never copied into the project."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

TABLES = Path(os.environ.get("HEFJOIN_MODELZOO", Path(__file__).resolve().parents[3] / "shared" / "data" / "modelzoo"))
LABELS = "hailo8_context_labels.csv"
CHIPS = ("hailo8", "hailo8l")
DEFAULT_COMPILES = "v2.14"
"""The last release in which networks without a mark were compiled without performance mode."""


class Row(NamedTuple):
    """One network; what a table does not say is None."""

    model: str
    group: str
    """Near-duplicates have one."""
    height: int
    width: int
    channels: int
    parameters: float
    gops: float
    layers: float
    layers_from: str
    """`curated`: by hand, after the labels were known."""
    is_multi: dict[str, bool | None]
    """By chip."""
    fps: dict[str, tuple[float, float] | None]
    """Batch 1 and 8, by chip."""
    default: tuple[bool, float] | None
    """Hailo-8, compiled without performance mode: whether it took several contexts, and its rate at batch 1."""


def rows() -> list[Row]:
    """Return all networks of the tables."""
    rates = {chip: _latest_rates(chip) for chip in CHIPS}
    default = _default_compiles()
    return [_row(line, rates, default) for line in _lines(LABELS)]


def _row(
    line: dict[str, str],
    rates: dict[str, dict[str, tuple[float, float]]],
    default: dict[str, tuple[bool, float]],
) -> Row:
    multi = {"hailo8": line["multi"], "hailo8l": line["multi_hailo8l"]}
    return Row(
        model=line["model"],
        group=line["dup_group"],
        height=int(line["input_h"]),
        width=int(line["input_w"]),
        channels=int(line["input_c"]),
        parameters=float(line["params_M"]) * 1e6,
        gops=float(line["ops_G"]),
        layers=float(line["n_hw"]),
        layers_from=line["n_src"],
        is_multi={chip: None if not text else text == "1.0" for chip, text in multi.items()},
        fps={
            "hailo8": (float(line["fps_b1"]), float(line["fps_b8"])),
            "hailo8l": rates["hailo8l"].get(line["model"]),
        },
        default=default.get(line["model"]),
    )


def _lines(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _measured(line: dict[str, str]) -> tuple[float, float] | None:
    one, eight = (float(line[name] or 0) for name in ("fps_b1", "fps_b8"))
    return (one, eight) if one > 0 and eight > 0 else None


def _latest_rates(chip: str) -> dict[str, tuple[float, float]]:
    """Return what the newest release of the 2.x line says of each network."""
    lines = [line for line in _lines(f"{chip}_published_fps.csv") if line["version"].startswith("v2.")]
    lines.sort(key=lambda line: int(line["version"].partition(".")[2]))
    return {line["model"]: found for line in lines if (found := _measured(line))}


def _default_compiles() -> dict[str, tuple[bool, float]]:
    """Return the networks compiled without performance mode; slow ones whose label cannot be told are left out."""
    found = {}
    for line in _lines("hailo8_published_fps.csv"):
        is_default = line["version"] == DEFAULT_COMPILES and "True" not in (line["rocket"], line["star"])
        rates = _measured(line) if is_default else None
        if rates and not (rates[0] < 15 and rates[1] / rates[0] < 1.15):
            found[line["model"]] = (rates[1] / rates[0] > 1.03, rates[0])
    return found
