"""Mend a spec as far as it can be proved right: find, write, look again, prove; nothing is left behind but the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hefjoin.joining.edit import edited, raw_of
from hefjoin.joining.mend import Mend, mends, unique_names
from hefjoin.sdk.toolchain import Choice, resolve
from hefjoin.spec import BuildSpec
from hefjoin.stages.examine import Examined, examine
from hefjoin.stages.proof import Proved, prove

ROUNDS = 4
"""What is behind a mended mistake shows only then: an unsupported operator behind an input of bytes."""


@dataclass(frozen=True)
class Mended:
    """A spec that was mended, or that nothing could be done about."""

    spec: BuildSpec
    """With the mends."""
    text: str
    mends: tuple[Mend, ...]
    examined: Examined
    """Of the mended spec."""
    proved: tuple[Proved, ...]
    """Empty where the mended spec would still fail."""

    @property
    def is_good(self) -> bool:
        """Whether it would build, and gives the same numbers."""
        return self.examined.passes and all(each.holds for each in self.proved)


def mend(text: str, understood: Callable[[str], BuildSpec], sdk: Choice, cache: Path) -> Mended:
    """Mend the text of a spec.

    Args:
        text: As it lies in its file.
        understood: Reads a text as that file.
        sdk: Who would parse the models; the proof is the emulator's, whose float numbers are exact.
        cache: The folder of the cache of what comes from S3.

    Raises:
        SpecError: The text is no spec, for another reason than names that clash.
        HefJoinError: What `examine` and the stages of a build raise.
    """
    raw = raw_of(text)
    done: list[Mend] = unique_names(raw) if isinstance(raw, dict) else []
    original = understood(edited(text, done) if done else text)
    toolchain = resolve(sdk, original.dfc_python)
    spec, examined = original, examine(original, toolchain, cache)
    for _ in range(ROUNDS):
        new = _new(mends(spec, examined.intakes, examined.sets), done)
        if not new:
            break
        done += new
        spec = understood(edited(text, done))
        examined = examine(spec, toolchain, cache)
    proved = prove(original, spec, resolve("emulator"), cache) if examined.passes else ()
    return Mended(spec, edited(text, done) if done else text, tuple(done), examined, proved)


def _new(found: Sequence[Mend], done: Sequence[Mend]) -> list[Mend]:
    known = {each.path for each in done}
    return [each for each in found if each.path not in known]
