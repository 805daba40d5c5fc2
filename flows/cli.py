"""The `hefjoin` command: the door to the flows, with every room behind it.

The rule: what a command does not need is not imported; each imports inside itself.
"""

from __future__ import annotations

from flows.commands import build, cache, conformance, doctor, example, inspect, loader
from flows.door import main

COMMANDS = (build, cache, conformance, doctor, example, inspect, loader)

if __name__ == "__main__":
    main()
