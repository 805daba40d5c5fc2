"""Which ONNX operators have a layer: the emulator's list, and what may be told from a file without translating it.

The rule: there is one list, whoever asks. What the vendor's compiler takes is a list of its own, see docs/limits.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

VIEWS = frozenset({"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast"})
AFFINE = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div"})
UNARY = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "HardSwish",
        "Softplus", "Softsign", "Mish", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Pow", "Reciprocal",
    }
)  # fmt: skip
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max"})
MAIN: Mapping[str, str] = {
    "Conv": "conv",
    "ConvTranspose": "deconv",
    "Gemm": "dense",
    "MatMul": "dense",
    "MaxPool": "maxpool",
    "AveragePool": "avgpool",
    "GlobalAveragePool": "avgpool",
    "GlobalMaxPool": "maxpool",
    "ReduceMean": "reduce_mean",
    "ReduceMax": "reduce_max",
    "ReduceSum": "reduce_sum",
    "Concat": "concat",
    "Split": "feature_splitter",
    "Slice": "slice",
    "Resize": "resize",
    "Softmax": "softmax",
    "DepthToSpace": "depth_to_space",
    "SpaceToDepth": "space_to_depth",
    "Pad": "external_pad",
    "Add": "ew_add",
    "Sub": "ew_sub",
    "Mul": "ew_mult",
    "Div": "ew_div",
    "Min": "ew_min",
    "Max": "ew_max",
}
SUPPORTED = frozenset(MAIN) | VIEWS | AFFINE | UNARY
WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
STANDARD_DOMAINS = ("", "ai.onnx")


def has_layer(node: onnx.NodeProto, is_constant: Callable[[str], bool]) -> bool:
    """Return whether a layer can stand for a node.

    Args:
        node: A node that is not constant itself.
        is_constant: Tells of a tensor whether it is a constant.
    """
    import onnx

    is_known = node.op_type in SUPPORTED and node.domain in STANDARD_DOMAINS
    is_weightless = node.op_type in WEIGHTED_OPS and not all(map(is_constant, filter(None, node.input[1:])))
    targets = [item.i for item in node.attribute if item.name == "to"]
    to_integers = node.op_type == "Cast" and targets != [onnx.TensorProto.FLOAT]
    return is_known and not is_weightless and not to_integers


def contradiction(node: onnx.NodeProto, shape_of: Callable[[str], Sequence[int]]) -> str:
    """Return where the features that a node is given are not those that its weights are for; empty where they are.

    ONNX's own inference does not compare them, and ONNX Runtime does so only when it runs.

    Args:
        node: A node.
        shape_of: The shape of a tensor, an open axis below 1; empty where it is not known.
    """
    given, weights = ([*shape_of(name)] for name in (*node.input[:2], "", "")[:2])
    numbers = {item.name: item.i for item in node.attribute}
    if len(given) < 2 or not weights:
        return ""
    found, wanted = given[1], 0
    if node.op_type == "Conv" and len(weights) > 2:
        wanted = weights[1] * numbers.get("group", 1)
    elif node.op_type in ("ConvTranspose", "BatchNormalization"):
        wanted = weights[0]
    if min(found, wanted) < 1 or found == wanted:
        return ""
    return f"{node.op_type} {node.name} is given {found} features, its weights are for {wanted}"
