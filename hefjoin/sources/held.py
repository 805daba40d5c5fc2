"""Folders that a build works with and that are removed after it, however it ended."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
from pathlib import Path
from threading import Lock
from typing import IO
from uuid import uuid4

_HELD: dict[Path, IO[str]] = {}
_GUARD = Lock()


def hold(parent: Path) -> Path:
    """Make a folder below `parent` that is this process's until it is released or the process ends.

    Its lock lies beside it, `<name>.lock`, and comes to that name locked already: who finds it free may remove both.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_dead(parent)
    folder = parent / uuid4().hex
    partial = folder.with_suffix(".new")
    lock = partial.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    partial.rename(folder.with_suffix(".lock"))
    with _GUARD:
        _HELD[folder] = lock
    folder.mkdir()
    return folder


def release(path: Path) -> None:
    """Remove the held folder in which `path` lies; elsewhere, do nothing."""
    with _GUARD:
        found = [folder for folder in _HELD if path.is_relative_to(folder)]
        locks = [(folder, _HELD.pop(folder)) for folder in found]
    for folder, lock in locks:
        _remove(folder)
        lock.close()


def in_use(parent: Path) -> list[Path]:
    """Return the folders that a living process holds."""
    return [folder for folder in _folders(parent) if not _is_dead(folder, remove=False)]


def remove_dead(parent: Path) -> None:
    """Remove the folders of processes that ended without releasing them."""
    for folder in _folders(parent):
        _is_dead(folder, remove=True)


def _folders(parent: Path) -> list[Path]:
    return [lock.with_suffix("") for lock in sorted(parent.glob("*.lock"))]


def _is_dead(folder: Path, *, remove: bool) -> bool:
    try:
        with folder.with_suffix(".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                _remove(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


@atexit.register
def _release_all() -> None:
    owner = os.getpid()
    if owner == _OWNER:
        for folder in list(_HELD):
            release(folder)


_OWNER = os.getpid()
"""A forked child inherits the table, and must not remove what its parent holds."""
