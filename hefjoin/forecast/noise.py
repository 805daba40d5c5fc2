"""Where an output's quantization noise comes from, and which layers to give more bits so that it falls.

Noise is counted as a share of the signal, 10^(-SNR/10), which adds up along the network. Two readings of it:

- *independent* noise fades on its way as the measured SNR tells: at a layer, what its inputs bring is the accumulated
  noise less the layer's own;
- noise that *points one way* (4-bit kernels, clipping) passes on as the signal does: a layer adds what the accumulated
  noise rises by.

The rule: either splits an output's noise among its layers without rest, and a layer's share is the mean of both, for
real noise is something between. Where a compiler tells no own noise only the second can be read. How well the shares
foretell what raising a layer gains is in docs/adr/0028.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

AIM_DB = 0.5
"""Further than the floor: a share is an estimate, and another round costs more than another layer."""


class Snr(NamedTuple):
    """At one layer's output, in dB."""

    accumulated_db: float
    own_db: float | None = None
    """Of the layer alone; None where the compiler does not tell it."""


def noise_to_signal(snr_db: float) -> float:
    """Return the share of the signal's energy that is noise.

    >>> noise_to_signal(20.0)
    0.01
    """
    return float(10 ** (-snr_db / 10))


def shares(inputs: Mapping[str, Sequence[str]], noise: Mapping[str, Snr], output: str) -> dict[str, float]:
    """Return which share of an output's noise each layer before it brings, the largest first; they add up to 1.

    Args:
        inputs: The layers that each layer reads, by its name.
        noise: What is known of a layer; one that is not named adds nothing.
        output: The layer that feeds the output.

    >>> chain = {"conv1": [], "conv2": ["conv1"]}
    >>> found = shares(chain, {"conv1": Snr(30.0), "conv2": Snr(27.0)}, "conv2")
    >>> {layer: round(share, 2) for layer, share in found.items()}
    {'conv1': 0.5, 'conv2': 0.5}
    """
    before = _before(inputs, output)
    readings = [_split(before, {name: Snr(snr.accumulated_db) for name, snr in noise.items()}, output)]
    if any(noise[name].own_db is not None for name in before if name in noise):
        readings.append(_split(before, noise, output))
    found = {name: sum(reading[name] for reading in readings) / len(readings) for name in before}
    return {name: found[name] for name in sorted(found, key=lambda name: (-found[name], name))}


def _split(before: Mapping[str, Sequence[str]], noise: Mapping[str, Snr], output: str) -> dict[str, float]:
    """Return one reading; a layer with several inputs passes on their mean, or what is measured, from all alike."""
    own: dict[str, float] = {}
    passed_on: dict[str, float] = {}
    gathered: dict[str, float] = {}
    order = list(TopologicalSorter(before).static_order())
    for layer in order:
        read = [gathered[name] for name in before[layer]]
        brought = sum(read) / max(len(read), 1)
        known = noise.get(layer)
        gathered[layer] = brought if known is None else noise_to_signal(known.accumulated_db)
        passed_on[layer] = 1 / max(len(read), 1)
        if known is None or known.own_db is None:
            own[layer] = max(gathered[layer] - brought, 0.0)
        else:
            own[layer] = noise_to_signal(known.own_db)
            passed_on[layer] = max(gathered[layer] - own[layer], 0.0) / sum(read) if sum(read) else 0.0
    arriving = dict.fromkeys(order, 0.0) | {output: 1.0}
    for layer in reversed(order):
        for name in before[layer]:
            arriving[name] += arriving[layer] * passed_on[layer]
    found = {layer: own[layer] * arriving[layer] for layer in order}
    total = sum(found.values()) or 1.0
    return {layer: amount / total for layer, amount in found.items()}


def _before(inputs: Mapping[str, Sequence[str]], output: str) -> dict[str, Sequence[str]]:
    """Return the part of a graph that an output is computed from."""
    found: dict[str, Sequence[str]] = {}
    waiting = [output]
    while waiting:
        layer = waiting.pop()
        if layer not in found:
            found[layer] = [name for name in inputs.get(layer, ()) if name in inputs]
            waiting += found[layer]
    return found


def worth_raising(
    snr_db: Mapping[str, float],
    brought: Mapping[str, Mapping[str, float]],
    floor_db: float,
    counts: range,
    is_free: Callable[[str, Collection[str]], bool],
) -> list[str]:
    """Return the layers to make exact so that every output is expected to reach a floor, the most useful first.

    The next is always that which brings most to the output that is expected to be the noisiest.

    Args:
        snr_db: Measured, of every output that misses the floor.
        brought: By output, the share of its noise that each layer brings, the largest first.
        floor_db: What is wanted.
        counts: How many: `start` at least, though fewer may be enough; `stop - 1` at most, though more may be needed.
        is_free: Whether a layer may be chosen, beside those chosen before it.
    """
    noise = {output: noise_to_signal(value) for output, value in snr_db.items()}
    left, open_outputs = dict(noise), sorted(snr_db)
    aim = noise_to_signal(floor_db + AIM_DB)
    chosen: list[str] = []
    refused: set[str] = set()
    while open_outputs and len(chosen) + 1 < counts.stop:
        output = max(open_outputs, key=left.__getitem__)
        if left[output] <= aim and len(chosen) >= counts.start:
            break
        layer = _first(brought[output], refused.union(chosen))
        if layer is None:
            open_outputs.remove(output)
        elif not is_free(layer, chosen):
            refused.add(layer)
        else:
            chosen.append(layer)
            left = {name: left[name] - noise[name] * brought[name].get(layer, 0.0) for name in noise}
    return chosen


def _first(brought: Mapping[str, float], taken: Collection[str]) -> str | None:
    candidates: Iterable[str] = (layer for layer, share in brought.items() if share > 0 and layer not in taken)
    return next(iter(candidates), None)
