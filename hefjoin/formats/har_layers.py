"""One layer of the graph in a HAR, and what is counted of it.

The one rule: a layer that has inputs, outputs or work to be counted has the shapes that this takes, or says in
`HarLayer.problem` what is missing.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

AXES_LIMIT, SIZE_LIMIT = 8, 2**31 - 1
"""Of a shape, which is refused beyond, and of a kernel, which is none beyond."""

# One wrong item of a list is reported, not five million: errors of pydantic take 1 KiB each.
Names = Annotated[tuple[str, ...], FailFast()]
Shape = Annotated[
    tuple[Annotated[int, Field(ge=-1, le=SIZE_LIMIT)], ...], Field(min_length=1, max_length=AXES_LIMIT), FailFast()
]
Shapes = Annotated[tuple[Shape, ...], FailFast()]

WINDOWS = frozenset({"maxpool", "avgpool"})
"""Layer types whose `kernel_shape` is a window, without weights."""


class HarLayer(BaseModel):
    """One layer of the HN; shapes are (batch, height, width, features), batch -1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    """`<scope>/<layer>`."""
    type: str
    inputs: Names = Field((), alias="input")
    outputs: Names = Field((), alias="output")
    input_shapes: Shapes = ()
    output_shapes: Shapes = ()
    original_names: Names = ()
    """Names of the nodes of the model it was made from."""
    params: dict[str, Any] = {}

    @property
    def scope(self) -> str:
        """The model it came from, where several are joined."""
        return self.name.rpartition("/")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """What it gives, without the batch; what it takes where it gives nothing."""
        shapes = self.output_shapes or self.input_shapes
        return shapes[0][1:] if shapes else ()

    @property
    def problem(self) -> str:
        """What is missing that a layer of its kind has; empty for a whole one."""
        if self.type == "output_layer" and not self.inputs:
            return f"output layer {self.name[:80]!r} has no input"
        needed = self.input_shapes[:1] if self.type == "deconv" else (self.output_shapes or self.input_shapes)[:1]
        is_counted = self.type in ("input_layer", "output_layer") or self.parameters > 0
        if is_counted and not any(len(shape) > 1 and min(shape[1:]) > 0 for shape in needed):
            return f"{self.type} {self.name[:80]!r} has no whole shape ({needed[0] if needed else 'none at all'})"
        return ""

    @property
    def parameters(self) -> int:
        """Count the weights: the kernel, and one bias for each output feature of a layer that has a kernel.

        Every kernel of a parsed network has a bias, because batch normalization is folded into it. Scale and shift
        layers and constants are not counted: the HN does not give their sizes.
        """
        kernel = self.params.get("kernel_shape")
        if self.type in WINDOWS or not (
            isinstance(kernel, list)
            and 0 < len(kernel) <= AXES_LIMIT
            and all(isinstance(size, int) and 0 <= size <= SIZE_LIMIT for size in kernel)
        ):
            return 0
        # (height, width, inputs, outputs); a depthwise kernel's outputs are its inputs times a multiplier.
        features: int = kernel[-2] * kernel[-1] if self.type == "dw" and len(kernel) > 1 else kernel[-1]
        return math.prod(kernel) + features
