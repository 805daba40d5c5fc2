"""What the optimization raises."""


class AccelerasNumerizationError(Exception):
    """Numbers overflow in a layer."""


class AccelerasResourceError(Exception):
    """The GPU's memory is exhausted."""


class BadInputsShape(Exception):
    """A data set does not have the input's shape."""

    def __init__(self, layer: str, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(f"Data shape {given} for layer {layer} doesn't match network's input shape {expected}")
