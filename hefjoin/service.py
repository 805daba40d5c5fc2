"""What a service may read and write, and whose code it may run: the allow-lists of its environment.

The rules:

1. `HEFJOIN_SERVICE=1` turns them on. From then on whoever starts a run may be anyone on the network, so nothing that is
   not listed is allowed. Without it a spec is a file of the person who builds, and nothing is refused.
2. A path is looked at with its links followed, so neither `..` nor a link leads out of a folder.
3. The key of an object is looked at as it is written; one that some server might read as another's is refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from hefjoin.errors import InputError

SERVICE = "HEFJOIN_SERVICE"
SOURCES, STORES, METRICS = "HEFJOIN_SERVICE_SOURCES", "HEFJOIN_SERVICE_STORES", "HEFJOIN_SERVICE_METRICS"
"""Environment variables: folders, `s3://bucket/prefix` and `package://name`; the same; `package.module:function`."""

S3, PACKAGE = "s3://", "package://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
"""As a store's address is read, `hefjoin.stores.open_store`."""


def is_on() -> bool:
    """Return whether this process serves others; anything but nothing and 0 says so."""
    return os.environ.get(SERVICE, "") not in ("", "0")


class Allowed(NamedTuple):
    """One list of places."""

    variable: str
    folders: tuple[Path, ...]
    prefixes: tuple[str, ...]
    """With a slash at their ends."""
    packages: tuple[str, ...]

    def refusal(self, place: str) -> str:
        """Return why a place is not allowed; empty where it is.

        Args:
            place: A path, `s3://bucket/key` or `package://name/file`.
        """
        if place.startswith(PACKAGE):
            is_inside = place.removeprefix(PACKAGE).partition("/")[0] in self.packages
        elif place.startswith(S3):
            key = place.removeprefix(S3).removesuffix("/")
            if any(part in ("", ".", "..") for part in key.split("/")):
                return f"{place!r} has an empty part, `.` or `..`, which a service does not follow"
            is_inside = f"{S3}{key}/".startswith(self.prefixes)
        else:
            path = resolved(place)
            is_inside = path is not None and any(path.is_relative_to(folder) for folder in self.folders)
        if is_inside:
            return ""
        return f"{place!r} lies in none of the places that {self.variable} of this machine allows"


def source_refusal(source: str) -> str:
    """Return why a source may not be read; empty where it may, or where nobody is served."""
    return _listed(SOURCES).refusal(source) if is_on() else ""


def store_refusal(store: str) -> str:
    """Return why a store may not be used; empty where it may, or where nobody is served."""
    if not is_on():
        return ""
    found = _SCHEME.match(store)
    scheme = found[1].lower() if found else ""
    if scheme == "s3":
        return _listed(STORES).refusal(f"s3{store[2:]}")
    if scheme == "file" and store[5:].startswith("///"):
        return _listed(STORES).refusal(unquote(store[7:]))
    if scheme:
        return f"{store!r} is neither a folder nor s3://bucket/prefix"
    return _listed(STORES).refusal(store)


def metric_refusal(reference: str) -> str:
    """Return why the function `package.module:function` may not be run; empty where it may."""
    if not is_on() or reference in os.environ.get(METRICS, "").split():
        return ""
    return f"{reference} is none of the functions that {METRICS} of this machine allows"


def require_store(store: str) -> None:
    """Check that a store may be used.

    Raises:
        InputError: It may not.
    """
    if refusal := store_refusal(store):
        raise InputError(f"store: {refusal}")


def resolved(place: str) -> Path | None:
    """Return the absolute path of a place on this machine, its links followed; None where it can be none."""
    try:
        return Path(place).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown user, a name with NUL or too long
        return None


def _listed(variable: str) -> Allowed:
    places = os.environ.get(variable, "").split()
    folders = (resolved(place) for place in places if not place.startswith((S3, PACKAGE)))
    return Allowed(
        variable=variable,
        folders=tuple(folder for folder in folders if folder is not None),
        prefixes=tuple(f"{place.removesuffix('/')}/" for place in places if place.startswith(S3)),
        packages=tuple(place.removeprefix(PACKAGE).removesuffix("/") for place in places if place.startswith(PACKAGE)),
    )
