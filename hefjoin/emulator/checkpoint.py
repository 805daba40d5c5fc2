"""Keep how far a long pass has come where it outlives the process, so that the next run goes on from there.

The rules:

1. A checkpoint saves time and nothing else. Its key is all that decides the pass: code, inputs, and what the last bit
   of a sum depends on. One that is damaged counts as none, and so does a folder that cannot be written.
2. It is seen under its name only when it is whole.
3. It is gone when its pass is done, or when nobody came back for it in `KEPT_DAYS`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hefjoin.emulator.graph import Array
from hefjoin.emulator.log import say

CHECKPOINTS = "HEFJOIN_CHECKPOINTS"
"""Environment variable that names the folder; without it nothing is kept."""
EVERY_S = 10.0
"""Between the end of one writing and the next; some tens of MB take a few hundredths of a second."""
KEPT_DAYS = 7.0

_NAME = re.compile(r"\.?[a-z]+-[0-9a-f]{64}\.npz(\.\d+\.tmp)?")
# All that numpy and zipfile raise for damaged files.
_DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, SyntaxError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


class Checkpoint:
    """How far one pass came in a run that was interrupted, and where it is kept in this one."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run left at `path`; None: nothing is there and nothing will be kept."""
        self.path = path
        self.done = 0
        """Frames that need not be seen again."""
        self._arrays: dict[str, Array] = {}
        self._next = time.monotonic() + EVERY_S
        if path is not None:
            with suppress(*_DAMAGED), path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
                self.done, self._arrays = int(arrays.pop("done")), arrays

    def taken(self) -> dict[str, Array]:
        """Return what was kept after `done` frames, and let go of it; empty where nothing was."""
        arrays, self._arrays = self._arrays, {}
        return arrays

    def offer(self, done: int, state: Callable[[], Mapping[str, Array]]) -> None:
        """Keep the state after `done` frames, unless another was kept a moment ago."""
        if self.path is None or time.monotonic() < self._next:
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content: dict[str, Any] = {"done": np.int64(done), **state()}
            with temporary.open("wb") as stream:
                np.savez(stream, **content)
            temporary.replace(self.path)
        except OSError as error:
            why = error.strerror or error
            say(f"This pass cannot be resumed if it is interrupted: {self.path.parent}: {why}", "warning")
            self.path = None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._next = time.monotonic() + EVERY_S

    def remove(self) -> None:
        """Forget the pass, as it is done, with what runs that were killed while they wrote have left of it."""
        if self.path is not None:
            for path in self.path.parent.glob(f"*{self.path.name}*"):
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def checkpoint(kind: str, parts: Callable[[], Iterable[bytes]]) -> Checkpoint:
    """Return the checkpoint of a pass, in the folder that `CHECKPOINTS` names.

    Args:
        kind: What passes: a word.
        parts: Gives all that decides the result, but what the machine does; asked only where there is a folder.
    """
    named = os.environ.get(CHECKPOINTS)
    if not named:
        return Checkpoint()
    folder = Path(named)
    _forget_old(folder)
    digest = hashlib.sha256()
    for part in chain((Path(__file__).read_bytes(), _arithmetic().encode()), parts()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return Checkpoint(folder / f"{kind}-{digest.hexdigest()}.npz")


def _arithmetic() -> str:
    """Return what the last bit of a sum may depend on, beside the graph."""
    import onnxruntime

    simd = np.show_config(mode="dicts").get("SIMD Extensions")
    threads = len(os.sched_getaffinity(0))
    return f"{onnxruntime.__version__} {np.__version__} {platform.machine()} {simd} {threads}"


def _forget_old(folder: Path) -> None:
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]:
            if time.time() - path.stat().st_mtime > KEPT_DAYS * 86400:
                path.unlink(missing_ok=True)
