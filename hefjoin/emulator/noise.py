"""How much quantizing costs, layer by layer: the float and the quantized graph run side by side.

The rule: signal-to-noise ratio in dB, 10·log10(Σ signal² / Σ (signal - quantized)²), and the cosine of the angle
between signal and quantized, over all elements and frames. The *accumulated* noise at a layer is all that has
gathered up to it; its *own* is what it gives when it alone is quantized, its kernel and its output, and what it reads
is exact. Memory is that of the network in parts: each is run for some frames before the next is opened, energies are
summed inside the graph, and what crosses a cut is kept as the integers that it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx
from onnx import helper

from hefjoin.emulator.graph import Array, Graph, rename_tensors
from hefjoin.emulator.layers import Layer, find_layers
from hefjoin.sessions import open_session

EXACT_DB = 120.0
"""What an output without any noise is given: more than 16 bits can show."""
ROUGH, OWN = "rough::", "own::"
"""Prefixes of the quantized tensors beside the float ones."""
PART_BYTES = 1 << 24
"""Of the kernels that are open at one time, in float."""
BUDGET_BYTES = 1 << 26
"""For what crosses a cut, of all frames that wait there."""


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
    """Return the noise at each tensor.

    Args:
        reference: The full-precision graph.
        quantized: The quantized graph, which has tensors of the same names.
        tensors: What to compare: outputs of layers.
        frames: Feeds of both graphs, one frame each.
    """
    sides = _Sides(reference, quantized, tensors)
    parts = _parts(reference)
    sums = {name: np.zeros(len(_ENERGIES)) for name in tensors}
    waiting, at_once = iter(frames), sides.affordable_frames(parts)
    while held := [dict(feeds) for feeds in islice(waiting, at_once)]:
        for part in parts:
            for name, energies in sides.energies(part, held):
                sums[name] += energies
    return {
        name: LayerNoise(_ratio(signal, *rest[:2]), _ratio(signal, *rest[2:]))
        for name, (signal, *rest) in ((name, energies.tolist()) for name, energies in sums.items())
    }


_ENERGIES = ("", ROUGH, f"{ROUGH}noise::", OWN, f"{OWN}noise::")
"""What a tensor's name is prefixed with where its squares are summed, in this order."""


@dataclass(frozen=True)
class _Part:
    """Layers that are run together; names are those of the float graph."""

    made: list[str]
    given: list[str]
    """What it reads of earlier parts, and of the network's inputs."""
    handed_on: list[str]
    """What later parts read of it."""
    let_go: list[str]
    """What it was the last to read."""


def _parts(reference: onnx.ModelProto) -> list[_Part]:
    """Return the layers in a row of parts, each with kernels of `PART_BYTES` at most, or of one layer."""
    known = Graph(reference).initializers
    rows: list[list[Layer]] = []
    room = 0
    for layer in find_layers(reference):
        size = sum(known[name].ByteSize() for node in layer.nodes for name in node.input if name in known)
        if not rows or size > max(room, 0):
            rows.append([])
            room = PART_BYTES
        rows[-1].append(layer)
        room -= size
    last = {name: index for index, row in enumerate(rows) for layer in row for name in layer.inputs}
    return [_part(row, index, last) for index, row in enumerate(rows)]


def _part(layers: Sequence[Layer], index: int, last: Mapping[str, int]) -> _Part:
    made = [name for layer in layers for name in layer.outputs]
    reads = dict.fromkeys(name for layer in layers for name in layer.inputs)
    return _Part(
        made=made,
        given=[name for name in reads if name not in made],
        handed_on=[name for name in made if last.get(name, index) > index],
        let_go=[name for name in reads if last[name] == index],
    )


class _Sides:
    """The network in float, quantized, and with every layer quantized but reading float tensors, side by side."""

    def __init__(self, reference: onnx.ModelProto, quantized: onnx.ModelProto, tensors: Sequence[str]) -> None:
        self.origin = quantized
        self.judged = set(tensors)
        self.inputs = {info.name for info in quantized.graph.input}
        self.shapes = Graph(reference).shapes
        whole, alone = onnx.GraphProto(), onnx.GraphProto()
        whole.node.extend(quantized.graph.node)
        whole.initializer.extend(quantized.graph.initializer)
        alone.node.extend(quantized.graph.node)
        constants = {tensor.name for tensor in quantized.graph.initializer}
        rename_tensors(whole, lambda name: name if name in self.inputs else f"{ROUGH}{name}")
        rename_tensors(alone, lambda name: f"{ROUGH if name in constants else OWN}{name}")
        exact = {f"{OWN}{name}": name for name in (*tensors, *self.inputs)}
        exact |= {f"{OWN}{name}/dq": name for name in self.inputs}
        for node in alone.node:
            node.input[:] = [exact.get(name, name) for name in node.input]
        self.nodes = [*reference.graph.node, *whole.node, *alone.node, *_judging(tensors)]
        self.constants = {tensor.name: tensor for tensor in (*reference.graph.initializer, *whole.initializer)}
        self.maker = {name: index for index, node in enumerate(self.nodes) for name in node.output}

    def affordable_frames(self, parts: Sequence[_Part]) -> int:
        """Return how many frames may lie between two parts at one time."""
        live, peak = set(self.inputs), 1
        for part in parts:
            live.update(part.handed_on)
            peak = max(peak, sum(8 * abs(math.prod(self.shapes.get(name, (1,)))) for name in live))
            live.difference_update(part.let_go)
        return max(1, BUDGET_BYTES // peak)

    def energies(self, part: _Part, held: Sequence[dict[str, Array]]) -> Iterator[tuple[str, list[float]]]:
        """Run a part for frames; yield, for every frame, the energies at each tensor that is compared.

        Args:
            part: The part.
            held: By frame, what was handed on so far; it is brought up to date.
        """
        if not part.handed_on and self.judged.isdisjoint(part.made):
            return
        session = open_session(self._graph(part))
        inputs, outputs = ([info.name for info in ends] for ends in (session.get_inputs(), session.get_outputs()))
        gone = {crossing for name in part.let_go for crossing in self._crossing(name)}
        for values in held:
            found = dict(zip(outputs, session.run(None, {name: values[name] for name in inputs}), strict=True))
            for name in part.made:
                if name in self.judged:
                    yield name, [float(found.pop(f"{side}{name}::energy")) for side in _ENERGIES]
            values |= found
            for name in gone & values.keys():
                del values[name]

    def _crossing(self, name: str) -> list[str]:
        """Return what stands for a tensor where the network is cut: the float one, and the others' integers."""
        if name in self.inputs:
            return [name]
        return [name, f"{ROUGH}{name}/q", *([] if name in self.judged else [f"{OWN}{name}/q"])]

    def _graph(self, part: _Part) -> bytes:
        """Return the graph from what a part is given to its energies and to what it hands on."""
        given = {crossing for name in part.given for crossing in self._crossing(name)}
        wanted = [f"{side}{name}::energy" for name in part.made if name in self.judged for side in _ENERGIES]
        wanted += [crossing for name in part.handed_on for crossing in self._crossing(name)]
        chosen, ends = self._behind(wanted, given)
        nodes = [onnx.NodeProto.FromString(self.nodes[index].SerializeToString()) for index in sorted(chosen)]
        for node in nodes:
            node.name = ""  # those of the three sides are equal
        used = dict.fromkeys(name for node in nodes for name in node.input if name in self.constants)
        inputs, outputs = ([self._info(name) for name in ends] for ends in (sorted(ends), wanted))
        graph = helper.make_graph(nodes, "part", inputs, outputs, [self.constants[name] for name in used])
        origin = self.origin
        model = helper.make_model(graph, opset_imports=origin.opset_import, ir_version=origin.ir_version)
        return bytes(model.SerializeToString())

    def _behind(self, wanted: Iterable[str], given: Collection[str]) -> tuple[set[int], set[str]]:
        """Return the nodes that make tensors from given ones, by their index, and which of the given those are."""
        chosen: set[int] = set()
        ends: set[str] = set()
        left = list(wanted)
        while left:
            name = left.pop()
            if name in given:
                ends.add(name)
            elif (index := self.maker.get(name, -1)) >= 0 and index not in chosen:
                chosen.add(index)
                left += self.nodes[index].input
        return chosen, ends

    def _info(self, name: str) -> onnx.ValueInfoProto:
        if not name.endswith("/q"):
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self._dims(name))
        plain = name.removesuffix("/q").removeprefix(ROUGH).removeprefix(OWN)
        kind = self.constants[f"{ROUGH}{plain}/quant_zero_point"].data_type
        return helper.make_tensor_value_info(name, kind, self._dims(plain))

    def _dims(self, name: str) -> list[int | str] | None:
        shape = self.shapes.get(name)
        return None if shape is None else ["batch" if size < 0 else size for size in shape]


def _judging(tensors: Sequence[str]) -> Iterator[onnx.NodeProto]:
    for name in tensors:
        for side in (ROUGH, OWN):
            yield helper.make_node("Sub", [name, f"{side}{name}"], [f"{side}noise::{name}"])
        for side in _ENERGIES:
            source = f"{side}{name}"
            yield helper.make_node("ReduceSumSquare", [source], [f"{source}::energy"], keepdims=0)


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
