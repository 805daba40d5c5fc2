"""What a HAR holds, alone and joined."""

from __future__ import annotations

from hefjoin.artifacts import Record, Ref
from hefjoin.formats.onnx_head import Head


class Tensor(Record):
    """An input or output of a network."""

    layer: str
    """Name in the HN, `<scope>/<layer>`."""
    original_name: str
    shape: tuple[int, ...]
    """Without batch: (height, width, channels) or (features,)."""


class LayerView(Record):
    """A layer that computes."""

    name: str
    type: str
    inputs: tuple[str, ...]
    parameters: int
    macs: int
    """Multiply-accumulates per frame."""
    row_bytes: int = 0
    """The rows of its input that must have arrived before it gives its first; these three at 8 bits a value."""
    input_bytes: int = 0
    """Of all its inputs, per frame."""
    output_bytes: int = 0
    is_fused: bool = False
    """Whether the compiler puts it into the layer before, so that it takes no place of its own on the chip."""


class Network(Record):
    """What a HAR holds."""

    har: Ref
    scopes: tuple[str, ...]
    state: str
    hw_arch: str
    sdk_version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: tuple[LayerView, ...]
    """Computing layers only."""
    head: Head | None = None
    """What its ONNX file says; None of a HAR."""

    @property
    def layers_on_chip(self) -> int:
        """Layers that take a place on the chip."""
        return sum(not layer.is_fused for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per frame."""
        return sum(layer.macs for layer in self.layers)


class Equality(Record):
    """A model's output inside the joined network against the same model alone, float, on real frames."""

    model: str
    layer: str
    frames: int
    max_abs_difference: float
    largest_value: float
    """Largest absolute value of the output, which the difference is to be seen against."""
    is_bit_equal: bool


class Joined(Record):
    """The joined network."""

    name: str
    network: Network
    input_layer: str
    output_layers: tuple[str, ...]
    """The layers that feed the outputs, in the outputs' order."""
    equality: tuple[Equality, ...]

    @property
    def model_of_output(self) -> dict[str, str]:
        """Which model each output belongs to, in the outputs' order: a layer's scope is its model."""
        return {layer: layer.partition("/")[0] for layer in self.output_layers}
