"""The states of a model and the guard around every method. The exception's name is ours: no public log shows it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import wraps
from typing import Any


class States(Enum):
    """The life of a model; the value is what a HAR's metadata says."""

    UNINITIALIZED = "uninitialized"
    HAILO_MODEL = "hailo_model"
    FP_OPTIMIZED_MODEL = "fp_optimized_model"
    QUANTIZED_MODEL = "quantized_model"
    COMPILED_MODEL = "compiled_model"


class InvalidStateException(Exception):
    """A method was called in a state that does not allow it."""


def allowed_states(*states: States) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a method of a runner be called in these states only."""

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapped_func(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.state not in states:
                raise InvalidStateException(
                    f"The execution of {method.__name__} is not available under the state: {self.state}"
                )
            return method(self, *args, **kwargs)

        return wrapped_func

    return guard
