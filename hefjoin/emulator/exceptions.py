"""The exceptions of the DFC, by the names and the shapes of message that its users see.

Source: tracebacks and logs of DFC 3.28–3.34 in public repositories. `hefjoin.sdk.log` reads these messages the
same way whether the DFC or the emulator wrote them, so a change of wording here is a change of the contract.
"""

from __future__ import annotations

from collections.abc import Sequence


class InvalidArgumentsException(Exception):
    """An argument of a `ClientRunner` method is wrong."""


class InvalidStateException(Exception):
    """A method was called in a state that does not allow it."""


class UnsupportedModelError(Exception):
    """The file cannot be translated at all."""


class MisspellNodeError(Exception):
    """A start or end node does not exist."""


class ParsingWithRecommendationException(Exception):
    """Operators are unsupported; the text ends with the nodes to end at instead."""

    def __init__(self, model: str, operators: Sequence[tuple[str, str]], end_nodes: Sequence[str]) -> None:
        lines = [f"Parsing of {model} failed. The errors found in the graph are:"]
        lines += [
            f" UnsupportedOperationError in op {node}: {operator} operation is unsupported"
            for operator, node in operators
        ]
        if end_nodes:
            lines.append(f"Please try to parse the model again, using these end node names: {', '.join(end_nodes)}")
        super().__init__("\n".join(lines))


class BackendScriptParserException(Exception):
    """A model script has a syntax error or an unknown command."""


class AllocatorScriptParserException(Exception):
    """A model script command does not fit the model."""


class BadInputsShape(Exception):
    """The calibration data does not have the input layer's shape."""


class AccelerasNumerizationError(Exception):
    """A layer's values are not finite numbers."""


class BackendRuntimeException(Exception):
    """`compile` was called on a model without quantized weights."""


class BackendAllocatorException(Exception):
    """The network could not be mapped to the chip."""
