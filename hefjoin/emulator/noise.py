"""How much quantizing costs, layer by layer: the float and the quantized graph run side by side.

The rule: signal-to-noise ratio in dB, 10·log10(Σ signal² / Σ (signal - quantized)²), and the cosine of the angle
between signal and quantized, over all elements and frames. The *accumulated* noise at a layer is all that has
gathered up to it; its *own* is what it gives when it alone is quantized, its kernel and its output, and what it reads
is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from hefjoin.emulator.graph import Array, rename_tensors, with_outputs
from hefjoin.sessions import open_session

EXACT_DB = 120.0
"""What an output without any noise is given: more than 16 bits can show."""
ROUGH, OWN = "rough::", "own::"
"""Prefixes of the quantized tensors beside the float ones."""


@dataclass(frozen=True)
class Noise:
    """The noise at one tensor."""

    snr_db: float
    cosine: float


@dataclass(frozen=True)
class LayerNoise:
    """The noise at a layer's output."""

    accumulated: Noise
    own: Noise


def layer_noise(
    reference: onnx.ModelProto,
    quantized: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[dict[str, Array]],
) -> dict[str, LayerNoise]:
    """Return the noise at each tensor. Energies are summed inside the graph: no tensor leaves it.

    Args:
        reference: The full-precision graph.
        quantized: The quantized graph, which has tensors of the same names.
        tensors: What to compare: outputs of layers.
        frames: Feeds of both graphs, one frame each.
    """
    session = open_session(_side_by_side(reference, quantized, tensors))
    sums = np.zeros((len(tensors), len(_ENERGIES)))
    for feeds in frames:
        sums += np.array(session.run(None, feeds), dtype=np.float64).reshape(sums.shape)
    return {
        name: LayerNoise(_ratio(signal, *gathered), _ratio(signal, *single))
        for name, (signal, *rest) in zip(tensors, sums.tolist(), strict=True)
        for gathered, single in ((rest[:2], rest[2:]),)
    }


_ENERGIES = ("", ROUGH, f"{ROUGH}noise::", OWN, f"{OWN}noise::")
"""What a tensor's name is prefixed with where its squares are summed, in this order."""


def _side_by_side(reference: onnx.ModelProto, quantized: onnx.ModelProto, tensors: Sequence[str]) -> bytes:
    """Return a graph of the network in float, quantized, and with every layer quantized but reading float tensors."""
    whole, alone = onnx.ModelProto(), onnx.ModelProto()
    for twin in (whole, alone):
        twin.CopyFrom(quantized)
    inputs = {info.name for info in quantized.graph.input}
    constants = {tensor.name for tensor in quantized.graph.initializer}
    rename_tensors(whole.graph, lambda name: name if name in inputs else f"{ROUGH}{name}")
    rename_tensors(alone.graph, lambda name: f"{ROUGH if name in constants else OWN}{name}")
    exact = {f"{OWN}{name}": name for name in (*tensors, *inputs)} | {f"{OWN}{name}/dq": name for name in inputs}
    for node in alone.graph.node:
        node.input[:] = [exact.get(name, name) for name in node.input]
    both = onnx.ModelProto()
    both.CopyFrom(reference)
    both.graph.node.extend([*whole.graph.node, *alone.graph.node])
    both.graph.initializer.extend(whole.graph.initializer)
    for node in both.graph.node:
        node.name = ""
    del both.opset_import[:]
    both.opset_import.extend(quantized.opset_import)
    for name in tensors:
        for side in (ROUGH, OWN):
            both.graph.node.append(helper.make_node("Sub", [name, f"{side}{name}"], [f"{side}noise::{name}"]))
        for side in _ENERGIES:
            source = f"{side}{name}"
            both.graph.node.append(helper.make_node("ReduceSumSquare", [source], [f"{source}::energy"], keepdims=0))
    return with_outputs(both, [f"{side}{name}::energy" for name in tensors for side in _ENERGIES])


def _ratio(signal: float, quantized: float, noise: float) -> Noise:
    lengths = math.sqrt(signal * quantized)
    cosine = (signal + quantized - noise) / 2 / lengths if lengths else float(noise <= 0)
    return Noise(snr_db(signal, noise), min(max(cosine, -1.0), 1.0))


def snr_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB, at most `EXACT_DB`.

    >>> snr_db(1000.0, 1.0)
    30.0
    """
    if noise <= 0:
        return EXACT_DB
    return float(min(10 * np.log10(max(signal, np.finfo(float).tiny) / noise), EXACT_DB))
