"""How this installation of the DFC differs from the well-behaved one: the variable `FAKE_DFC`, a JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Switches:
    """What a test may turn; `../README.md` says it in prose."""

    refuses_dict_scopes: bool = False
    """`join` takes scope names as strings only, as DFC 3.29 did in public logs."""
    join_action_at_root_only: bool = False
    keeps_both_inputs: bool = False
    """AUTO_JOIN_INPUTS shares nothing."""
    has_gpu: bool = False
    decimal_comma: bool = False
    """Percentages are printed as in a comma locale, whatever LC_ALL says."""
    asks_at_import: bool = False
    """The check of the system failed: `Continue? [Y/n]` on standard input."""
    demotes_16_bit_outputs: bool = False
    """Outputs asked for in 16 bits come out in 8, silently."""
    compiler_seconds: float = 0.0
    """How long the external compiler works."""
    crashes_until_seed: int | None = None
    """The external compiler crashes unless the script says allocator_param(seed=) of exactly this."""
    reason_in_log_only: bool = False
    """The exception says `Compilation failed`, the log why."""
    contexts: int = 3
    """Into how many contexts a network is cut that does not fit one."""
    fits_when: Mapping[str, float | str] = field(default_factory=dict)
    """What the script must say for the network to fit one context; empty: it fits anyhow.

    `fps`: performance_param(fps=) of at most this; `max_utilization`: one resources_param of at least this;
    `seed`: allocator_param(seed=) of exactly this; `compiler_optimization_level`: exactly this.
    """


def switches() -> Switches:
    """Return the switches of this process.

    Raises:
        TypeError: `FAKE_DFC` names a switch that does not exist.
    """
    return Switches(**json.loads(os.environ.get("FAKE_DFC") or "{}"))
