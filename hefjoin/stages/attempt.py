"""Compile with one script, once: a stage of its own, so that a failure of hours is a result that is kept.

The rule: only a network that does not fit is a result; every other failure is an error and leaves no record. Where it
is the mapping that failed, so that another script may do better, the error carries what was tried.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref
from hefjoin.errors import CompileError, FitError, ToolchainError
from hefjoin.formats import hef as hef_file
from hefjoin.results.compiled import Attempt, Utilization
from hefjoin.results.sources import Sdk
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.process import run_step
from hefjoin.stages.contract import Stage, Workplace

EMULATED_MEDIA = "emulated.hef"


class Tried(Record):
    """What compiling with one script gave: a HEF, or why there is none."""

    hef: Ref | None = None
    is_broken_off: bool = False
    """There is none because the mapping broke off: whether the network fits is not known."""
    resolved_script: str = ""
    """The commands as the compiler read them."""
    auto_script: Ref | None = None
    """The decisions of the compiler, where it told them."""
    utilization: tuple[Utilization, ...] = ()
    warnings: tuple[str, ...] = ()
    message: str = ""
    need: dict[str, float] = Field(default_factory=dict)
    have: dict[str, float] = Field(default_factory=dict)
    phases_s: dict[str, float] = Field(default_factory=dict)
    seconds: float
    log: Ref

    def attempt(self, label: str, script: str, *, is_reused: bool) -> Attempt:
        """Return the line for the manifest."""
        without_hef: Literal["failed", "did not fit"] = "failed" if self.is_broken_off else "did not fit"
        return Attempt(
            script=script,
            label=label,
            outcome=without_hef if self.hef is None else "compiled",
            message=self.message,
            need=self.need,
            have=self.have,
            seconds=self.seconds,
            phases_s=self.phases_s,
            is_reused=is_reused,
            log=self.log,
        )


class Try(Stage[Tried]):
    """Compile with one script.

    Requires: a quantized HAR. Ensures: a whole HEF, in one context where that was asked for; or the numbers that say
    why that cannot be.
    """

    stage: ClassVar[str] = "try"
    version: ClassVar[int] = 1
    result: ClassVar[type[Tried]] = Tried

    name: str
    har: Ref
    script: str
    single_context: bool
    sdk: Sdk

    @property
    def subject(self) -> str:
        """The joined network."""
        return self.name

    def run(self, work: Path, place: Workplace) -> Tried:
        """Start the SDK; a network that does not fit a single context is a result.

        Raises:
            CompileError, ToolchainError: With the attribute `tried`, what was tried, where a single context is asked
                for and another script may give one.
        """
        arguments = {
            "har": str(place.store.get(self.har, work / "quantized.har")),
            "script": self.script,
            "hef": str(work / "joined.hef"),
            "compiled_har": str(work / "compiled.har"),
            "auto_script": str(work / "joined.auto.alls"),
        }
        start = time.monotonic()
        try:
            found = run_step(
                place.toolchain, "compile", arguments, work, model=self.name, on_progress=place.on_progress
            )
            hef = hef_file.read(work / "joined.hef", verify=True)
            self._refuse_more_contexts(hef.groups[0].contexts)
        except FitError as error:
            if not self.single_context:
                raise
            message, need, have = error.attributes["reason"], dict(error.need), dict(error.have)
            return self._without_hef(work, place, start, message=message, need=need, have=have)
        except (CompileError, ToolchainError) as error:
            message = error.attributes.get("why_unmapped", "")
            if not (self.single_context and message):
                raise
            tried = self._without_hef(work, place, start, message=message, is_broken_off=True)
            raise type(error)(error.message, **error.attributes, tried=tried) from error
        return Tried(
            hef=place.put(work / "joined.hef", EMULATED_MEDIA if hef.is_emulated else "hef"),
            resolved_script=found.result["script"],
            auto_script=place.put(work / "joined.auto.alls", "alls") if found.result["auto_script"] else None,
            utilization=sdk_log.utilization(found.lines),
            warnings=sdk_log.warnings(found.lines),
            phases_s=sdk_log.phase_seconds(found.lines),
            seconds=round(time.monotonic() - start, 3),
            log=place.put(work / "compile.log", "log"),
        )

    def ensures(self, result: Tried) -> None:
        """Check that the HEF is of the compiler that was asked: an emulated one can be told from a real one."""
        if result.hef is not None and (result.hef.media == EMULATED_MEDIA) != (self.sdk.provider == "emulator"):
            raise CompileError(
                f"{self.name}: the compiler was {self.sdk.provider}, and what it made is marked {result.hef.media}",
                log_tail="",
            )

    def _without_hef(self, work: Path, place: Workplace, start: float, **found: Any) -> Tried:
        log = place.put(work / "compile.log", "log")
        return Tried(seconds=round(time.monotonic() - start, 3), log=log, **found)

    def _refuse_more_contexts(self, contexts: int) -> None:
        if self.single_context and contexts != 1:
            reason = f"the HEF has {contexts} contexts"
            raise FitError(
                f"{self.name}: {reason}, one was required",
                need={"contexts": contexts},
                have={"contexts": 1},
                reason=reason,
                log_tail="",
            )
