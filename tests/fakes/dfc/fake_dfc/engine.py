"""Run a network with ONNX's reference evaluator, frames NHWC as the API takes and gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from hailo_model_optimization.acceleras.utils.acceleras_exceptions import BadInputsShape
from onnx.reference import ReferenceEvaluator

from fake_dfc.network import Network

Array = Any


def frames_by_input(network: Network, dataset: Any) -> dict[str, Array]:
    """Return a data set as one array for each input layer, (frames, height, width, features).

    Args:
        network: Whose inputs it is for.
        dataset: An array, {input layer: array}, or the path of a .npy file as text.

    Raises:
        BadInputsShape: An array has another shape than its input.
        ValueError: It is not known which input an array is for, or there are no frames.
        TypeError: It is none of these.
    """
    inputs = network.layers("input_layer")
    if isinstance(dataset, str):
        dataset = np.load(dataset, allow_pickle=False)
    if isinstance(dataset, np.ndarray):
        if len(inputs) != 1:
            raise ValueError(f"The model has {len(inputs)} inputs, the dataset must be a dictionary of {list(inputs)}")
        dataset = {next(iter(inputs)): dataset}
    if not isinstance(dataset, dict) or not all(isinstance(item, np.ndarray) for item in dataset.values()):
        raise TypeError(f"Unsupported dataset type: {type(dataset).__name__}")
    if dataset.keys() != inputs.keys():
        raise ValueError(f"The dataset is for {sorted(dataset)}, the input layers are {sorted(inputs)}")
    for name, array in dataset.items():
        expected = tuple(inputs[name]["output_shapes"][0][1:])
        if array.shape[1:] != expected:
            raise BadInputsShape(name, array.shape, expected)
        if not len(array):
            raise ValueError(f"The dataset of {name} has no entries")
    return dict(dataset)


def run(network: Network, frames: Mapping[str, Array], tensors: Sequence[str] = ()) -> list[Array]:
    """Return the outputs, or the tensors named, over all frames: float32, features last."""
    names = list(tensors) or [info.name for info in network.model.graph.output]
    rows = list(_rows(network.model, frames, names))
    return [_features_last(np.concatenate(arrays)) for arrays in zip(*rows, strict=True)]


def _rows(model: onnx.ModelProto, frames: Mapping[str, Array], names: Sequence[str]) -> Iterator[list[Array]]:
    wanted = onnx.ModelProto()
    wanted.CopyFrom(model)
    del wanted.graph.output[:]
    wanted.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    given = {info.name: info.type.tensor_type.shape.dim for info in wanted.graph.input}
    evaluator = ReferenceEvaluator(wanted)
    for index in range(min(map(len, frames.values()))):
        feeds = {name: _features_first(array[index : index + 1], len(given[name])) for name, array in frames.items()}
        yield [np.asarray(array, np.float32) for array in evaluator.run(None, feeds)]


def _features_first(frame: Array, rank: int) -> Array:
    frame = np.asarray(frame, np.float32)
    if frame.ndim == 4:
        frame = frame.transpose(0, 3, 1, 2)
    return frame.reshape(frame.shape[0], frame.shape[1], -1) if rank == 3 else frame


def _features_last(array: Array) -> Array:
    if array.ndim == 3:
        array = array[:, :, np.newaxis]
    return np.moveaxis(array, 1, -1)
