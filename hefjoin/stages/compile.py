"""Compile: the quantized network becomes a HEF, and what is said of the HEF is read from the HEF."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, FitError
from hefjoin.formats import hef as hef_file
from hefjoin.manifest import Compiled, Sdk
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.process import run_step
from hefjoin.stages.contract import Stage, Workplace


class Compile(Stage[Compiled]):
    """Compile.

    Requires: a quantized HAR. Ensures: a HEF whose checksum holds, with one input and the joined network's outputs,
    in one context where that was asked for.
    """

    stage: ClassVar[str] = "compile"
    version: ClassVar[int] = 1
    result: ClassVar[type[Compiled]] = Compiled

    name: str
    har: Ref
    script: str
    single_context: bool
    outputs: tuple[str, ...]
    sdk: Sdk

    def run(self, work: Path, place: Workplace) -> Compiled:
        """Start the SDK, then read the HEF it wrote."""
        path = work / "joined.hef"
        arguments = {
            "har": str(place.store.get(self.har, work / "quantized.har")),
            "script": self.script,
            "hef": str(path),
        }
        found = run_step(place.toolchain, "compile", arguments, work, model=self.name, on_progress=place.on_progress)
        hef = hef_file.read(path, verify=True)
        self._check_streams(hef)
        return Compiled(
            hef=place.store.put(path, "emulated.hef" if hef.is_emulated else "hef"),
            contexts=hef.groups[0].contexts,
            contexts_source="forecast" if hef.is_emulated else "hef",
            script=found.result["script"],
            sdk_version=hef.sdk_version,
            is_emulated=hef.is_emulated,
            warnings=sdk_log.warnings(found.lines),
        )

    def ensures(self, result: Compiled) -> None:
        """Check the contexts, and that an emulated HEF can be told from a real one."""
        if self.single_context and result.contexts != 1:
            raise FitError(
                f"{self.name}: the HEF has {result.contexts} contexts, one was required",
                need={"contexts": result.contexts},
                have={"contexts": 1},
                log_tail="",
            )
        if result.is_emulated != (self.sdk.provider == "emulator"):
            raise CompileError(
                f"{self.name}: the HEF says SDK {result.sdk_version}, the compiler was {self.sdk.provider}",
                log_tail="",
            )

    def _check_streams(self, hef: hef_file.Hef) -> None:
        group = hef.groups[0]
        inputs, outputs = [s.name for s in group.inputs], {s.name for s in group.outputs}
        if len(inputs) != 1 or (outputs != set(self.outputs) and not group.nms_ops):
            raise CompileError(
                f"{self.name}: the HEF has inputs {inputs} and outputs {sorted(outputs)}; one input and "
                f"{sorted(self.outputs)} were joined",
                log_tail="",
            )
