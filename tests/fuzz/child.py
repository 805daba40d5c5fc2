"""One target under atheris, in a process of its own: `python -m tests.fuzz.child TARGET FOLDER SECONDS`.

A finding is any exception but `InputError`, more than `CPU_LIMIT_S` for one input, or more than `MEMORY_LIMIT_BYTES`
above the process at rest, which ends in a `MemoryError`.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(
    include=["hefjoin.formats", "hefjoin.stages.network", "flows.views.inspect", "tarfile"]
):
    from tests.fuzz.targets import TARGETS, Target

from hefjoin.errors import InputError

CPU_LIMIT_S = 2.0
WALL_LIMIT_S = 120
"""For what hangs: libFuzzer ends the process. A loaded machine may keep one waiting for a while."""
MEMORY_LIMIT_BYTES = 1 << 30


class TooSlow(Exception):
    """One input took more processor time than `CPU_LIMIT_S`."""


def read(target: Target, path: Path, content: bytes) -> None:
    """Read one input."""
    path.write_bytes(content)
    start_s = time.process_time()
    with suppress(InputError):
        target.read(path)
    taken_s = time.process_time() - start_s
    if taken_s > CPU_LIMIT_S:
        raise TooSlow(f"{taken_s:.1f} s for {len(content):,} bytes, allowed are {CPU_LIMIT_S} s")


def main(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    target, input_path = TARGETS[name], folder / f"input{TARGETS[name].suffix}"
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds(folder)):
        read(target, input_path, seed)
        (corpus / f"seed-{number}").write_bytes(seed)

    def mutate(content: bytes, limit: int, seed: int) -> bytes:
        return target.mutate(content, limit, Random(seed), atheris.Mutate)

    options: dict[str, int | str | Path] = {
        "max_total_time": seconds,
        "max_len": target.limit_bytes,
        "timeout": WALL_LIMIT_S,
        "rss_limit_mb": 0,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    if target.words:
        options["dict"] = folder / "words"
        (folder / "words").write_text("".join(f'"{word}"\n' for word in target.words))
    _limit_memory()
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, lambda content: read(target, input_path, content), custom_mutator=mutate)
    atheris.Fuzz()


def _limit_memory() -> None:
    """Allow `MEMORY_LIMIT_BYTES` of address space more than what is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit_bytes = pages * resource.getpagesize() + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
