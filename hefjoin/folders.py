"""Where hefjoin keeps what it can make again, and where a build's store is unless another is named."""

from __future__ import annotations

import os
from pathlib import Path

WORK = "HEFJOIN_WORK"
"""Environment variable that names the folder under which stages work."""
SERVED = "HEFJOIN_STORE_LINKS"
"""Environment variable that says where stores are to be read on the web: `s3://bucket/prefix=https://…`, by blanks."""
STORE = "artifacts"
"""The store of a build that names none: a folder where the command runs."""


def cache_folder() -> Path:
    """Return the user's cache folder for hefjoin: below `XDG_CACHE_HOME`, else below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hefjoin"


def work_folder() -> Path:
    """Return the folder under which stages work: `HEFJOIN_WORK`, else one in the cache."""
    return Path(os.environ.get(WORK) or cache_folder() / "work").expanduser()


def seen_folder() -> Path:
    """Return where digests of this machine's files are kept."""
    return cache_folder() / "seen"


def sources_folder() -> Path:
    """Return where sources from afar are kept."""
    return cache_folder() / "sources"


def served_stores() -> dict[str, str]:
    """Return where on the web each store is served, by the store's address, as `HEFJOIN_STORE_LINKS` says."""
    pairs = [entry.partition("=http") for entry in os.environ.get(SERVED, "").split()]
    return {
        store if "://" in store else Path(store).absolute().as_uri(): f"http{address}"
        for store, _, address in pairs
        if store and address
    }
