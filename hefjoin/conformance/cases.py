"""The cases: what is done with which networks. How it is done is a function of `hefjoin/sdk/probe.py` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One process that makes its calls and ends."""

    name: str
    action: str
    """A function of `probe.py`."""
    networks: tuple[str, ...] = ()
    """Names in `hefjoin.conformance.networks`, in the order in which the action takes them."""
    options: Mapping[str, Any] = field(default_factory=dict)


SINGLES = ("conv_bn_relu", "depthwise", "residual_add", "concat", "resize", "pooling", "dense", "two_outputs")
AT_ONCE = ("parse_at_once_1", "parse_at_once_2")
"""Cases that run side by side."""

_PARSED = ("parsed", "parsed")
_DISTINCT = ({"left": "left"}, {"right": "right"})


def _unite(
    name: str,
    networks: tuple[str, str],
    scopes: tuple[Any, Any],
    states: tuple[str, str] = _PARSED,
    action: str = "AUTO_JOIN_INPUTS",
) -> Case:
    options = {"scopes": list(scopes), "states": list(states), "action": action}
    return Case(f"join_{name}", "unite", networks, options)


def all_cases(provider: str) -> tuple[Case, ...]:
    """Return every case, in the order in which they run."""
    pair = ("left", "right")
    quantized = ("quantized", "quantized")
    return (
        Case("surface", "surface", options={"provider": provider}),
        *(Case(f"single_{name}", "single", (name,)) for name in (*SINGLES, "left", "right")),
        Case("pair", "pair", pair),
        Case("vanished_input", "vanished", pair),
        _unite("without_wiring", pair, _DISTINCT, action="NONE"),
        _unite("text_scopes", pair, ("left", "right")),
        _unite("unlike_shapes", ("left", "larger"), ({"left": "left"}, {"larger": "larger"})),
        _unite("unlike_states", pair, _DISTINCT, ("quantized", "parsed")),
        _unite("equal_scopes", ("left", "left"), (None, None)),
        _unite("unknown_scope", pair, ({"no_such_scope": "left"}, {"right": "right"})),
        _unite("two_inputs", ("left", "two_inputs"), ({"left": "left"}, {"two_inputs": "two_inputs"})),
        _unite("quantized", pair, _DISTINCT, quantized),
        _unite("quantized_without_wiring", pair, _DISTINCT, quantized, "NONE"),
        Case("unsupported_operator", "parse", ("unsupported",)),
        Case("manners", "manners", ("left",)),
        *(Case(name, "parse", pair) for name in AT_ONCE),
        Case("parse_in_threads", "threads", pair),
        Case("commands", "commands"),
    )
