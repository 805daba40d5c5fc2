"""The `hefjoin` command: the door to the flows, with every room behind it.

The rule: what a command does not need is not imported; each imports inside itself.
"""

from __future__ import annotations

from flows.commands import (
    benchmark,
    build,
    cache,
    calibration,
    check,
    conformance,
    diff,
    doctor,
    example,
    forecast,
    gc,
    history,
    inspect,
    loader,
    put,
    rollback,
    schema,
    trigger,
    verify,
)
from flows.door import main

COMMANDS = (
    *(benchmark, build, cache, calibration, check, conformance, diff, doctor, example, forecast, gc, history, inspect),
    *(loader, put, rollback, schema, trigger, verify),
)

if __name__ == "__main__":
    main()
