"""Turn a full-precision graph into a quantized one, by the levels that the DFC's model scripts ask for.

0  ranges of least error, and cross-layer equalization;
1  and bias correction;
2  and layer-wise reconstruction of the kernels.

The rule: one pass over the calibration set finds all that level 0 needs; levels 1 and 2 add one walk through the
layers with a fixed number of its frames. Nothing is random: equal frames give equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from hefjoin.emulator.bias import correct_bias
from hefjoin.emulator.calibrate import (
    Ranges,
    least_error_range,
    least_error_ranges,
    percentile_range,
    range_wishes,
)
from hefjoin.emulator.compress import compression_wishes, four_bit_layers
from hefjoin.emulator.equalize import Factors, equalization_wishes, equalize, factors
from hefjoin.emulator.feeds import Feeds
from hefjoin.emulator.log import algorithm, say
from hefjoin.emulator.observe import Observation, Wishes, kept, merged, observe
from hefjoin.emulator.plan import Clipping, Plan
from hefjoin.emulator.quantize import (
    MODES,
    Encoding,
    Mode,
    activation_bits,
    encodings,
    kernel_bits,
    outputs_by_feature,
)
from hefjoin.emulator.reconstruct import reconstruct
from hefjoin.emulator.walk import Recipe, Stop, own_constants, walk

NO_GPU = "HEFJOIN_EMULATE_NO_GPU"
"""Set to 1, the emulator does as the DFC on a machine without a GPU: level 0, no compression, a warning."""
HIGHEST_LEVEL = 2


@dataclass
class Optimized:
    """A quantized network."""

    model: onnx.ModelProto
    encodings: dict[str, Encoding]
    equalized: Factors = field(default_factory=dict)
    """What the channels of some tensors were divided by."""


@dataclass(frozen=True)
class Effort:
    """What is really done, once it is known what the machine has."""

    level: int
    four_bit_share: float


def effort(plan: Plan) -> Effort:
    """Return how hard to try, and say where that is less than the script asks for."""
    level = plan.optimization_level or 0
    share = 0.2 * plan.compression_level if plan.four_bit_ratio is None else plan.four_bit_ratio
    if os.environ.get(NO_GPU) == "1" and (level > 0 or share > 0):
        say(
            "Reducing optimization level to 0 (the accuracy won't be optimized and compression won't be used) "
            "because there's no available GPU",
            "warning",
        )
        return Effort(0, 0.0)
    if level > HIGHEST_LEVEL:
        say(f"Reducing optimization level to {HIGHEST_LEVEL}, the highest that the emulator has", "warning")
    return Effort(max(0, min(level, HIGHEST_LEVEL)), share)


def optimize(model: onnx.ModelProto, feeds: Feeds, plan: Plan, known: Ranges) -> Optimized:
    """Quantize a graph.

    Args:
        model: The full-precision optimized graph; it is changed.
        feeds: The calibration set.
        plan: What the script asks for.
        known: Ranges that need no calibration: a camera's bytes.
    """
    effective = effort(plan)
    count = min(plan.calibset_size, feeds.count)
    say("Starting Model Optimization")
    say(f"Using dataset with {count} entries for calibration")
    apart = _apart(model, plan)
    with algorithm("Statistics Collector"):
        seen = _observe(model, feeds, count, _wishes(model, plan, effective, apart))
    modes = _modes(model, seen, plan.modes, effective.four_bit_share)
    equalized = _equalize(model, seen, modes) if plan.equalization is not False else {}
    # A camera's bytes are whole numbers already: more bits would show nothing more of them.
    bits = activation_bits(model, modes) | dict.fromkeys(known, 8)
    ranges = {
        name: least_error_ranges(seen[name], count_bits)
        if name in apart
        else _range(seen[name], count_bits, plan.clipping.get(name))
        for name, count_bits in bits.items()
        if name not in known
    }
    recipe = Recipe(model, encodings(model, ranges | known, bits), kernel_bits(model, modes))
    corrects = effective.level >= 1 if plan.bias_correction is None else plan.bias_correction
    if corrects or effective.level >= 2:
        recipe = _mended(model, recipe, modes, feeds, count, corrects, effective.level >= 2)
    with algorithm("Quantization"):
        return Optimized(recipe.write(), dict(recipe.codes), equalized)


def _apart(model: onnx.ModelProto, plan: Plan) -> set[str]:
    """Return the tensors whose channels are encoded apart; a range that the script gives is for all of them."""
    return {name for name in outputs_by_feature(model) if plan.output_encoding_vector and name not in plan.clipping}


def _wishes(model: onnx.ModelProto, plan: Plan, effective: Effort, apart: Collection[str]) -> Wishes:
    """Return what the algorithms that are to run want to know, for one pass."""
    return merged(
        range_wishes(activation_bits(model, plan.modes), plan.clipping, apart),
        equalization_wishes(model) if plan.equalization is not False else {},
        compression_wishes(model) if effective.four_bit_share > 0 else {},
    )


def _observe(model: onnx.ModelProto, feeds: Feeds, count: int, wishes: Wishes) -> dict[str, Observation]:
    step = max(1, count // 20)

    def progress(done: int) -> None:
        if done % step == 0 or done == count:
            say(f"Calibration: {100 * done // count}% {done}/{count}")

    earlier = kept(model, wishes, feeds, count)
    return observe(model, wishes, feeds.frames(count, earlier.done), progress, earlier)


def _equalize(model: onnx.ModelProto, seen: dict[str, Observation], modes: Mapping[str, Mode]) -> Factors:
    with algorithm("Layer Equalization"):
        found = factors(model, seen, kernel_bits(model, modes))
        equalize(model, found)
        seen |= {name: seen[name].divided(factor) for name, factor in found.items()}
    return found


def _modes(
    model: onnx.ModelProto, seen: Mapping[str, Observation], asked: Mapping[str, Mode], share: float
) -> dict[str, Mode]:
    modes = dict(asked)
    if share > 0:
        chosen = four_bit_layers(model, seen, share, asked)
        say(f"Compression: 4-bit weights in {', '.join(chosen) or 'no layer'}")
        modes |= dict.fromkeys(chosen, MODES["a8_w4"])
    return modes


def _range(seen: Observation, bits: int, clipping: Clipping | None) -> tuple[float, float]:
    if clipping is None:
        return least_error_range(seen, bits)
    if clipping.mode == "manual":
        return clipping.low, clipping.high
    return percentile_range(seen, clipping.low, clipping.high)


def _mended(
    model: onnx.ModelProto,
    recipe: Recipe,
    modes: Mapping[str, Mode],
    feeds: Feeds,
    count: int,
    corrects: bool,
    reconstructs: bool,
) -> Recipe:
    own_constants(model)
    mended = Recipe(model, recipe.codes, kernel_bits(model, modes))

    def mend(stop: Stop) -> None:
        if reconstructs:
            reconstruct(stop)
        if corrects:
            correct_bias(stop)

    with algorithm("Layer Reconstruction" if reconstructs else "Bias Correction"):
        walk(mended, feeds.frames(count), mend)
    return mended
