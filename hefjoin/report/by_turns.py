"""A comparison of two HEFs in words.

The rule: no percentage without its p-value and the noise floor, and none of a CPU that could be taken for the chip's.
"""

from __future__ import annotations

from collections.abc import Iterator

from hefjoin.report.words import minus, p_value_text, significant
from hefjoin.results.timed import ALPHA, Difference, Speed, SpeedChange, Timed

EMULATED = (
    "Timed on the emulator: frames per second of this CPU, no statement about the chip. It shows whether one build "
    "costs more than another."
)
EMULATED_SEPARATE = (
    "A CPU switches no contexts, so joined against separate on it is no figure of the chip and no gain of joining: "
    "measure it where the Hailo-8 is."
)


def verdict(found: Timed) -> str:
    """Return what a comparison came to: `a.hef is 3.1 % slower than b.hef, p = 0.002; noise floor 0.8 %`."""
    floor = f"noise floor {change(found.noise_floor_percent)}"
    if found.difference is None or found.second is None:
        return f"{found.first.name}: {speed_text(found.first)} ({found.source}); {floor}"
    where: str = found.source
    if found.is_separate and found.source == "emulator":
        where = "emulator, no figure of the chip"
    names = found.first.name, found.second.name
    effect = f"{effect_text(found.difference.percent)}, {p_value_text(found.difference.p_value)}; {floor}"
    if found.is_different:
        return f"{names[0]} is {effect.replace(',', f' than {names[1]},', 1)} ({where})"
    if found.difference.p_value < ALPHA:
        return f"no difference beyond the noise floor between {names[0]} and {names[1]}: {effect} ({where})"
    return f"no difference found between {names[0]} and {names[1]}: {effect} ({where})"


def effect_text(percent: float) -> str:
    """Return a difference in words.

    >>> effect_text(-3.14), effect_text(0.26)
    ('3.1 % slower', '0.3 % faster')
    """
    return f"{change(abs(percent))} {'slower' if percent < 0 else 'faster'}"


def change(percent: float) -> str:
    """Return a percentage with one digit after the point, signed where it is below zero.

    >>> change(-0.04), change(12.34)
    ('0.0 %', '12.3 %')
    """
    return minus(f"{percent:.1f} %")


def interval_text(found: Difference) -> str:
    """Return the interval of a difference: `−4.0 to −2.2 %`."""
    return minus(f"{found.low_percent:.1f}") + " to " + minus(f"{found.high_percent:.1f} %")


def speed_text(found: Speed) -> str:
    """Return a speed with its interval: `812 FPS (809–815)`."""
    return f"{significant(found.fps)} FPS ({significant(found.fps_low)}–{significant(found.fps_high)})"


def notices(found: Timed) -> Iterator[str]:
    """Yield what a reader of the figures must know."""
    if found.source == "emulator":
        yield EMULATED
        if found.is_separate:
            yield EMULATED_SEPARATE
    if found.is_same:
        yield "Both are the same HEF, byte for byte: any difference is noise."
    if found.conditions.is_throttled:
        yield "The chip slowed itself down meanwhile: cool it and measure again."
    if not found.is_precise:
        yield (
            f"The time was up before ± {found.precision_percent:g} % was reached: what is smaller than the interval is "
            "open. Give more --seconds, or a quieter machine."
        )
    if found.noise.p_value < ALPHA:
        yield (
            f"{found.first.name} differed from itself ({effect_text(found.noise.percent)}, "
            f"{p_value_text(found.noise.p_value)}), as it does one time in twenty by chance: measure again if it "
            "matters."
        )


def speed_change_text(found: SpeedChange) -> str:
    """Return how a build compares with an earlier one: `3.1 % slower than 20261129-…, 787 after 812 FPS at batch 1`."""
    effect = f"{effect_text(found.percent)} than {found.earlier}"
    figures = f"{significant(found.fps)} after {significant(found.earlier_fps)} FPS at batch {found.batch_size}"
    if not found.is_shown:
        return f"no change shown: {effect}, {figures}, and their intervals touch"
    return f"{effect}, {figures}"


def rows(found: Timed) -> Iterator[tuple[str, str]]:
    """Yield the figures of a comparison by label."""
    for side in (found.first, found.second):
        if side is not None:
            yield side.name, f"{speed_text(side)}, batch {found.batch_size}"
    if found.difference is not None:
        yield "difference", f"{effect_text(found.difference.percent)}, 95 %: {interval_text(found.difference)}"
        yield "by turns", _blocks_text(found.difference)
    yield (
        "against itself",
        f"95 %: {interval_text(found.noise)}, {p_value_text(found.noise.p_value)}; " + _blocks_text(found.noise),
    )
    yield "frames", found.frames
    yield "on", f"{found.device}, {found.method}, {found.seconds:.0f} s, load {found.load_average:.1f}"
    yield from _conditions(found)


def _conditions(found: Timed) -> Iterator[tuple[str, str]]:
    here = found.conditions
    if here.temperature_c is not None:
        yield "temperature", f"{here.temperature_c.low:.1f} to {here.temperature_c.high:.1f} °C"
    if here.is_throttled is not None:
        yield "throttling", "the chip slowed itself down" if here.is_throttled else "none"
    if here.power_w is not None:
        yield "power", f"{here.power_w.mean:.2f} W"
    if here.versions:
        yield "versions", ", ".join(f"{part} {version}" for part, version in here.versions.items())
    for note in here.notes:
        what, _, why = note.partition(": ")
        yield (what, why) if why else ("note", what)


def _blocks_text(found: Difference) -> str:
    drawn = f", drawn {found.neighbours} together" if found.neighbours > 1 else ""
    return f"{found.blocks} blocks of 4 rounds{drawn}"
