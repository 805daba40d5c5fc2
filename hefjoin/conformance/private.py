"""Takes out of a recording what says whose machine it was made on: folders, the user's name, the host's."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hefjoin

_HOMES = re.compile(r"/(?:home|Users)/[^/\s:'\",]+|/root(?=[/\s:'\",]|$)")
_COMMON = frozenset({"root", "localhost", "user", "hailo", "ubuntu"})
"""Names that give nobody away, and stand in messages as words."""
_SHORTEST_NAME = 3

Scrub = Callable[[Any], Any]


def scrubber(work: Path, python: str) -> Scrub:
    """Return a function that replaces private text in a string, and in every string inside a list or dictionary.

    Args:
        work: Where the recording is made.
        python: The SDK's interpreter.
    """
    places = {
        work: "<work>",
        Path(python).parent.parent: "<sdk>",
        Path(sys.prefix): "<python>",
        Path(hefjoin.__path__[0]).parent: "<hefjoin>",
        Path(tempfile.gettempdir()): "<tmp>",
        Path.home(): "<home>",
    }
    wanted = {str(form): label for place, label in places.items() for form in (place, place.resolve())}
    longest_first = sorted((path for path in wanted if path != "/"), key=len, reverse=True)
    folders = re.compile("|".join(rf"{re.escape(path)}(?![\w-])" for path in longest_first))
    names = {platform.node(): "<host>", platform.node().partition(".")[0]: "<host>", _user(): "<user>"}
    telling = [name for name in names if len(name) >= _SHORTEST_NAME and name not in _COMMON]
    words = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in telling) or r"(?!)")

    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            text = folders.sub(lambda found: wanted[found[0]], value)
            return words.sub(lambda found: names[found[0]], _HOMES.sub("<home>", text))
        if isinstance(value, dict):
            return {scrub(key): scrub(item) for key, item in value.items()}
        return [scrub(item) for item in value] if isinstance(value, list) else value

    return scrub


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
