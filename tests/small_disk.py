"""A disk that is full at will: a tmpfs that only one process sees and that is gone with it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def command_on_small_disk(command: Sequence[str], disk: Path, size: str) -> list[str]:
    """Return the command that runs `command` with a tmpfs of `size` (`256k`) at the folder `disk`.

    Skips the test where mounting is not possible.
    """
    disk.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} none {shlex.quote(str(disk))}"
    prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    try:
        probe = subprocess.run([*prefix, mount], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no `unshare` here to mount a small disk with")
    if probe.returncode:
        pytest.skip(f"this user may not mount a small disk: {probe.stderr.strip()}")
    return [*prefix, f"{mount} && exec {shlex.join(command)}"]
