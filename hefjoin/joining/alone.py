"""A model alone, as whoever trained it runs it: the original file on ONNX Runtime, frames prepared on the host.

The rule: nothing of the build is used here, neither parser nor preprocessing in the graph, so that it can bear witness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.formats import onnx_file
from hefjoin.formats.onnx_layout import is_channels_last
from hefjoin.spec import Color, ModelSpec

Array = npt.NDArray[Any]


def run_alone(file: Path, model: ModelSpec, frames: Array, color: Color, outputs: Sequence[str]) -> list[Array]:
    """Run a model on raw frames.

    Args:
        file: The ONNX file; weights beside it lie beside it.
        model: What the spec says of its input and where it starts.
        frames: (frames, height, width, channels), 0–255.
        color: Of the frames.
        outputs: Tensors of the file.

    Returns:
        Of each output float32, (frames, height, width, features) or (frames, features).
    """
    import onnxruntime

    given = onnx_file.load(file)
    start, shape, dtype, is_last = _cut(given, model.start_nodes, outputs)
    cut = file.with_name(f"{file.stem}.alone.onnx")
    cut.write_bytes(given.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(cut), options, providers=["CPUExecutionProvider"])
    shown = prepared(frames, model, color)
    feeds = shown if is_last else np.ascontiguousarray(shown.transpose(0, 3, 1, 2))
    batch = shape[0] if shape and shape[0] > 0 else 1
    chunks = [session.run(list(outputs), {start: chunk.astype(dtype)}) for chunk in _batches(feeds, batch)]
    return [_channels_last(np.concatenate(arrays)[: len(frames)]) for arrays in zip(*chunks, strict=True)]


def prepared(frames: Array, model: ModelSpec, color: Color) -> Array:
    """Return frames as the model wants to see them: its channel order, (frame - mean) / std, float32."""
    shown = frames[..., ::-1] if model.color != color else frames
    mean, std = np.array(model.mean or [0.0], np.float32), np.array(model.std or [1.0], np.float32)
    prepared: Array = (shown.astype(np.float32) - mean) / std
    return prepared


def _cut(model: Any, start_nodes: Sequence[str], outputs: Sequence[str]) -> tuple[str, tuple[int, ...], Any, bool]:
    """Reduce a model, in place, to what its outputs need; return name, shape, type and layout of where it starts."""
    import onnx
    from onnx import helper

    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    constants = weights | {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    infos = {info.name: info for info in (*graph.input, *graph.value_info)}
    starts = [name for node in graph.node if node.name in start_nodes for name in node.input if name not in constants]
    start = starts[0] if starts else next(info.name for info in graph.input if info.name not in weights)
    if start not in infos:
        infos |= {info.name: info for info in onnx.shape_inference.infer_shapes(model).graph.value_info}
    info = infos.get(start) or helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, None)
    is_last = is_channels_last(info, [node for node in graph.node if start in node.input])
    kept = list(_needed(graph.node, start, outputs))
    for field, items in (
        (graph.node, kept[::-1]),
        (graph.input, [info]),
        (graph.output, [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]),
        (graph.value_info, []),
    ):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)
    model.ir_version = max(model.ir_version, 4)
    kind = info.type.tensor_type
    return (
        start,
        tuple(axis.dim_value for axis in kind.shape.dim),
        helper.tensor_dtype_to_np_dtype(kind.elem_type or onnx.TensorProto.FLOAT),
        is_last,
    )


def _needed(nodes: Sequence[Any], start: str, outputs: Sequence[str]) -> Iterator[Any]:
    """Yield the nodes between, the last first."""
    wanted = set(outputs)
    for node in reversed(nodes):
        if wanted & set(node.output) - {start}:
            wanted.update(node.input)
            yield node


def _batches(frames: Array, size: int) -> Iterator[Array]:
    """Yield frames by so many; the last ones are filled up with the last of them."""
    for first in range(0, len(frames), size):
        chunk = frames[first : first + size]
        yield np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), axis=0)])


def _channels_last(array: Array) -> Array:
    """Return an output of a file as a network's: features last, images of two axes."""
    if array.ndim < 3:
        return array
    image = np.moveaxis(array, 1, -1)
    return image[:, np.newaxis] if array.ndim == 3 else image
