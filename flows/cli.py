"""The `hefjoin` command: the door to the flows, with every room behind it.

The rule: what a command does not need is not imported; each imports inside itself.
"""

from __future__ import annotations

from flows.commands import (
    build,
    conformance,
    diff,
    doctor,
    example,
    history,
    inspect,
    loader,
    rollback,
    schema,
    verify,
)
from flows.door import main

COMMANDS = (build, conformance, diff, doctor, example, history, inspect, loader, rollback, schema, verify)

if __name__ == "__main__":
    main()
