"""What each network wants to see of the shared image, and the convolution that shows it that.

The rule: raw frames are 0–255. What all networks want alike is done once, on the input they share; what differs is
done in front of each network that wants it, by one 1×1 convolution in its own ONNX graph, whatever compiles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hefjoin.artifacts import Record
from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.formats import onnx_file
from hefjoin.spec import Color, counted

if TYPE_CHECKING:
    import onnx

CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""The orders of a Transpose that brings an image there."""
COLORS = 3
"""Channels of a picture whose order can be reversed."""
LEAST_IR_VERSION = 4
"""From here on an initializer need not be listed among the inputs."""


class Wants(Protocol):
    """What a spec says of a network's input; mean and std are in the channel order of `color`."""

    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...
    @property
    def color(self) -> Color: ...


class Preprocessing(Record):
    """What makes of a raw frame what a network wants to see: result[c] = (frame[c] - mean[c]) / std[c]."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Both empty: frames are taken as they are."""
    reverses_channels: bool = False
    """Before the mean is subtracted."""


class Split(NamedTuple):
    """Preprocessing divided into what the networks share and what each has of its own."""

    color: Color
    """Of the raw frames."""
    shared: Preprocessing
    own: tuple[Preprocessing | None, ...]
    """For each network; None where the shared part is all it wants."""


def split(networks: Sequence[Wants]) -> Split:
    """Divide preprocessing: what is the same on the raw frames of the shared input in all networks is shared.

    Colours that differ are all served from RGB frames. A normalization is then compared in RGB order: per channel it
    comes to the same before and behind the reversal.
    """
    colors = {network.color for network in networks}
    color: Color = "rgb" if len(colors) > 1 else networks[0].color
    reverses = [network.color != color for network in networks]
    wanted = [normalization(network) for network in networks]
    on_frames = {
        (mean[::-1], std[::-1]) if reverse else (mean, std)
        for (mean, std), reverse in zip(wanted, reverses, strict=True)
    }
    if len(on_frames) == 1:
        ((mean, std),) = on_frames
        own = [Preprocessing(reverses_channels=reverse) for reverse in reverses]
        return Split(color, Preprocessing(mean=mean, std=std), tuple(map(_or_none, own)))
    own = [
        Preprocessing(mean=mean, std=std, reverses_channels=reverse)
        for (mean, std), reverse in zip(wanted, reverses, strict=True)
    ]
    return Split(color, Preprocessing(), tuple(map(_or_none, own)))


def normalization(network: Wants) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std), whichever was left out filled in; both empty where they change nothing."""
    mean, std = tuple(network.mean), tuple(network.std)
    mean, std = mean or (0.0,) * len(std), std or (1.0,) * len(mean)
    return (mean, std) if any(mean) or any(value != 1 for value in std) else ((), ())


def _or_none(preprocessing: Preprocessing) -> Preprocessing | None:
    return None if preprocessing == Preprocessing() else preprocessing


def prepare(
    source: Path,
    target: Path,
    preprocessing: Preprocessing,
    start_nodes: Sequence[str] = (),
    input_shape: Sequence[int] = (),
) -> list[str]:
    """Write an ONNX file that does its own preprocessing, and return the nodes to start from instead.

    In float32 this differs from the same on the host by at most 2e-7 of the largest value. A convolution of the network
    pads what this one gives, so a padded pixel is a zero behind the normalization, as it is on the host.

    Args:
        source: The ONNX file.
        target: Where to write, in the folder of `source`: weights kept in files beside it are not copied.
        preprocessing: What to put in front.
        start_nodes: Nodes that the network starts from; empty for the graph's input.
        input_shape: Shape of the input where the file leaves it open, batch first.

    Raises:
        InputError: The file is no whole ONNX model, or the network does not start from one tensor.
        SpecError: That tensor is no float image with the channels that the preprocessing is for.
    """
    model = onnx_file.load(source)
    image = _image(model, source.stem, start_nodes)
    shape, dtype = _described(model, image)
    shape = list(input_shape) or shape
    channels = len(preprocessing.mean) or COLORS
    problems = []
    if dtype != "FLOAT":
        problems.append(Problem("source", f"{image} is {dtype}; export the model with a FLOAT input"))
    if len(shape) != 4 or channels not in (shape[1], shape[3]):
        field, wanted = ("mean", counted(preprocessing.mean)) if preprocessing.mean else ("color", "bgr has 3 channels")
        problems.append(Problem(field, f"{wanted}, {image} has the shape {shape}"))
    if problems:
        raise SpecError(problems, where=f"the model {source.stem} in the spec")
    first = _insert(model.graph, image, preprocessing, is_last=_is_channels_last(model.graph, image, shape, channels))
    model.ir_version = max(model.ir_version, LEAST_IR_VERSION)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return [first] if start_nodes else []


def _image(model: onnx.ModelProto, name: str, start_nodes: Sequence[str]) -> str:
    """Return the tensor that the network starts from."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {output for node in graph.node if node.op_type == "Constant" for output in node.output}
    named = [tensor for node in graph.node if node.name in start_nodes for tensor in node.input]
    given = named if start_nodes else [info.name for info in graph.input]
    found = [tensor for tensor in dict.fromkeys(given) if tensor and tensor not in constants]
    if len(found) != 1:
        raise InputError(
            f"{name}: its preprocessing differs from the other models' and goes in front of its image, but it starts "
            f"from {len(found)} tensors ({', '.join(found) or 'none'}); choose start_nodes behind one image"
        )
    return str(found[0])


def _described(model: onnx.ModelProto, tensor: str) -> tuple[list[int | str], str]:
    """Return shape and type of a tensor; an open axis by its symbol."""
    import onnx

    infos = [*model.graph.input, *model.graph.value_info]
    if tensor not in {info.name for info in infos}:
        infos = [*onnx.shape_inference.infer_shapes(model).graph.value_info]
    for info in infos:
        if info.name == tensor:
            kind = info.type.tensor_type
            shape = [axis.dim_value or axis.dim_param or "?" for axis in kind.shape.dim]
            return shape, str(onnx.TensorProto.DataType.Name(kind.elem_type))
    return [], "of unknown type"


def _is_channels_last(graph: onnx.GraphProto, image: str, shape: Sequence[int | str], channels: int) -> bool:
    """Tell the layout of an image by the Transpose that reads it; where none does, by the axis that fits."""
    readers = _readers(graph, image)
    if readers and all(map(_brings_channels_first, readers)):
        return True
    return shape[3] == channels and shape[1] != channels


def _readers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]


def _brings_channels_first(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Transpose" and [list(item.ints) for item in node.attribute] == [CHANNELS_FIRST])


def _insert(graph: onnx.GraphProto, image: str, preprocessing: Preprocessing, *, is_last: bool) -> str:
    """Put the convolution in front of all that reads an image; return the name of the node that reads it now.

    Where channels are last it stands behind the network's own Transpose, or between two that are added.
    """
    from onnx import helper

    readers = _readers(graph, image)
    if is_last and len(readers) == 1 and _brings_channels_first(readers[0]):
        _insert(graph, readers[0].output[0], preprocessing, is_last=False)
        return str(readers[0].name)
    prefix = _unused_prefix(graph)
    constants = _kernel_and_bias(preprocessing, prefix)
    graph.initializer.extend(constants)
    shown = f"{prefix}/shown"
    before, after = (f"{prefix}/first", f"{prefix}/behind") if is_last else (image, shown)
    nodes = [helper.make_node("Conv", [before, *(tensor.name for tensor in constants)], [after], f"{prefix}/conv")]
    if is_last:
        nodes.insert(0, helper.make_node("Transpose", [image], [before], f"{prefix}/turn", perm=CHANNELS_FIRST))
        nodes.append(helper.make_node("Transpose", [after], [shown], f"{prefix}/return", perm=CHANNELS_LAST))
    place = min(index for index, node in enumerate(graph.node) if image in node.input)
    for reader in readers:
        reader.input[:] = [shown if name == image else name for name in reader.input]
    for node in reversed(nodes):
        graph.node.insert(place, node)
    return str(nodes[0].name)


def _kernel_and_bias(preprocessing: Preprocessing, prefix: str) -> list[onnx.TensorProto]:
    """Return (frame - mean) / std as frame · kernel + bias, computed in float64; no bias where it would be zero."""
    import numpy as np
    from onnx import numpy_helper

    std = np.array(preprocessing.std or (1.0,) * COLORS)
    mean = np.array(preprocessing.mean or (0.0,) * len(std))
    kernel = np.diag(1 / std)
    if preprocessing.reverses_channels:
        kernel = kernel[:, ::-1]
    constants = {"kernel": kernel[:, :, np.newaxis, np.newaxis], **({"bias": -mean / std} if mean.any() else {})}
    return [numpy_helper.from_array(value.astype(np.float32), f"{prefix}/{name}") for name, value in constants.items()]


def _unused_prefix(graph: onnx.GraphProto) -> str:
    names = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    prefix = "preprocessing"
    while any(name.startswith(f"{prefix}/") for name in names):
        prefix += "_"
    return prefix
