"""In which states a method of `ClientRunner` may be called.

The rule: a call that the state does not allow raises before it changes anything, as the vendor's guard does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from hefjoin.emulator import exceptions
from hefjoin.emulator.exposed_definitions import States

LOADED = (States.HAILO_MODEL, States.FP_OPTIMIZED_MODEL, States.QUANTIZED_MODEL, States.COMPILED_MODEL)

Method = TypeVar("Method", bound=Callable[..., Any])


def in_state(*allowed: States) -> Callable[[Method], Method]:
    """Refuse a method in any state but the allowed ones."""

    def guard(method: Method) -> Method:
        @wraps(method)
        def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.state not in allowed:
                wanted = " or ".join(state.value for state in allowed)
                raise exceptions.InvalidStateException(
                    f"{method.__name__} is allowed in state {wanted}, the runner is in {self.state.value}"
                )
            return method(self, *args, **kwargs)

        return cast(Method, guarded)

    return guard
