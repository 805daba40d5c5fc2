"""Compile: the quantized network becomes a HEF, and what is said of the HEF is read from the HEF.

The rule: only scripts that the spec declares are tried, in its order, and every try is told in the result.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import ValidationError

from hefjoin.artifacts import Record, Ref, canonical_json
from hefjoin.errors import CompileError, FitError, InputError, ToolchainError
from hefjoin.formats import hef as hef_file
from hefjoin.results.checked import JoinCheck
from hefjoin.results.compiled import Attempt, Compiled
from hefjoin.results.networks import Joined, Network
from hefjoin.results.quantized import Quantized
from hefjoin.results.sources import Sdk
from hefjoin.sdk.failures import LIMITS
from hefjoin.spec import BuildSpec, HwArch
from hefjoin.stages.attempt import Tried, Try
from hefjoin.stages.contract import Stage, Workplace, earlier_run, perform
from hefjoin.stages.deployment import deployment
from hefjoin.stages.ladder import Rung, ladder
from hefjoin.stages.precision import asked_for_16_bits, with_raised
from hefjoin.stages.script import assemble, before_compile, before_optimize

logger = logging.getLogger("hefjoin.stages")

REPLAY = "replay of the last mapping"
NEXT_STEP = (
    "say in compile.attempts what may be tried next, ask for a modest compile.target_fps, set compile.single_context "
    "to false, or join smaller networks"
)


class Decisions(Record):
    """What the compiler decided for a graph, kept for the next build of the same one."""

    auto_script: Ref


class Compile(Stage[Compiled]):
    """Compile.

    Requires: a quantized HAR, attempts that can be made. Ensures: a HEF whose checksum holds, with one input and the
    quantized network's outputs, in one context where that was asked for.
    """

    stage: ClassVar[str] = "compile"
    version: ClassVar[int] = 2
    result: ClassVar[type[Compiled]] = Compiled

    joined: Joined
    har: Ref
    quantized_by: str
    """The script that the network was quantized with: precision and modifications change what is mapped."""
    script: str
    attempts: tuple[str, ...]
    single_context: bool
    outputs: tuple[str, ...]
    outputs_in_16_bits: tuple[str, ...]
    """Those that the model script wants so."""
    hw_arch: HwArch
    sdk: Sdk

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized, sdk: Sdk) -> Self:
        """Return the stage for a build."""
        script = with_raised(assemble(spec, checked, joined), quantized.raised)
        return cls(
            joined=joined,
            har=quantized.har,
            quantized_by=before_optimize(script),
            script=before_compile(script),
            attempts=tuple(spec.compile.attempts),
            single_context=spec.compile.single_context,
            outputs=quantized.output_layers,
            outputs_in_16_bits=asked_for_16_bits(script, quantized.output_layers),
            hw_arch=spec.hw_arch,
            sdk=sdk,
        )

    @property
    def name(self) -> str:
        """The joined network's."""
        return self.joined.name

    def requires(self) -> None:
        """Check the attempts."""
        ladder(self.script, self.attempts)

    def run(self, work: Path, place: Workplace) -> Compiled:
        """Try the scripts in their order until one gives a HEF: first the decisions of an earlier build, if any.

        A mapping that broke off is raised where no script is left to try.
        """
        attempts: list[Attempt] = []
        notes: list[str] = []
        rungs = ladder(self.script, self.attempts)
        for rung, origin in [*self._replay(rungs, work, place), *((rung, rung) for rung in rungs)]:
            logger.info("compile %s: %s", self.name, rung.label)
            is_reused = False
            try:
                outcome = perform(self._try(rung), place)
                tried, is_reused = outcome.value, outcome.run.is_reused
            except (CompileError, InputError, ToolchainError) as error:
                broke_off = error.attributes.get("tried")
                if rung is not origin and not error.attributes.get("died"):
                    notes.append(f"the decisions of an earlier build could not be replayed: {error.message}")
                    logger.info("compile %s: %s", self.name, notes[-1])
                    continue
                if rung is rungs[-1] or rung is not origin or broke_off is None:
                    raise
                tried = broke_off
            attempts.append(tried.attempt(rung.label, origin.script, is_reused=is_reused))
            if tried.hef is not None:
                listing = hef_file.read(place.store.get(tried.hef, work / "joined.hef"))
                self._check_streams(listing)
                self._keep_decisions(tried, origin, place)
                return self._compiled(tried.hef, listing, tried, attempts, notes)
        raise does_not_fit(self.name, attempts)

    def ensures(self, result: Compiled) -> None:
        """Check the contexts."""
        if self.single_context and result.contexts != 1:
            raise CompileError(f"{self.name}: one context was required, the HEF has {result.contexts}", log_tail="")

    def _try(self, rung: Rung) -> Try:
        return Try(name=self.name, har=self.har, script=rung.script, single_context=self.single_context, sdk=self.sdk)

    def _compiled(
        self, hef: Ref, listing: hef_file.Hef, tried: Tried, attempts: Sequence[Attempt], notes: Sequence[str]
    ) -> Compiled:
        last = attempts[-1]
        replayed = last.label == REPLAY
        return Compiled(
            hef=hef,
            contexts=listing.groups[0].contexts,
            contexts_source="forecast" if listing.is_emulated else "hef",
            script=last.script if replayed else tried.resolved_script,
            sdk_version=listing.sdk_version,
            is_emulated=listing.is_emulated,
            warnings=(*notes, *self._demoted(listing), *tried.warnings),
            deployment=deployment(listing, self.joined, self.hw_arch),
            attempts=tuple(attempts),
            utilization=tried.utilization,
            auto_script=tried.auto_script,
            replayed=replayed,
        )

    def _check_streams(self, hef: hef_file.Hef) -> None:
        """Refuse a HEF that lost or gained an output; what a script post-processes has a name of the compiler's."""
        group = hef.groups[0]
        inputs, outputs = [s.name for s in group.inputs], {s.name for s in group.outputs}
        kept = {layer for layer in self.outputs if layer in self.joined.output_layers}
        replaced = {layer.partition("/")[0] for layer in self.outputs} - {layer.partition("/")[0] for layer in kept}
        found = {name.partition("/")[0] for name in outputs - kept}
        if len(inputs) != 1 or not kept <= outputs or found != replaced:
            raise CompileError(
                f"{self.name}: the HEF has inputs {inputs} and outputs {sorted(outputs)}; one input and "
                f"{sorted(self.outputs)} were joined",
                log_tail="",
            )

    def _demoted(self, hef: hef_file.Hef) -> Iterator[str]:
        """Yield a warning where outputs that were to have 16 bits have 8; DFC 3.33 says nothing of it."""
        narrow = {stream.name for stream in hef.groups[0].outputs if stream.dtype == "UINT8"}
        if demoted := [layer for layer in self.outputs_in_16_bits if layer in narrow]:
            yield (
                f"asked for in 16 bits, and in the HEF with 8: {', '.join(demoted)}. DFC 3.33 is known for it, and for "
                "leaving their scale and zero point as they were; compare them on the device before relying on them"
            )

    def _replay(self, rungs: Sequence[Rung], work: Path, place: Workplace) -> Iterator[tuple[Rung, Rung]]:
        """Yield the decisions that an earlier build of this graph came to with one of these scripts, and that script.

        None for a build that is forced, nor for weights that were compiled before: what came of that is kept.
        """
        if place.force or self._was_tried(rungs[0], place):
            return
        for rung in rungs:
            if (ref := kept_decisions(self._decisions_key(rung), place)) is not None:
                script = place.store.get(ref, work / "replayed.auto.alls").read_text(encoding="utf-8")
                yield Rung(REPLAY, script), rung
                return

    def _was_tried(self, rung: Rung, place: Workplace) -> bool:
        return earlier_run(Try.stage, self._try(rung).key, place)[0] is not None

    def _keep_decisions(self, tried: Tried, origin: Rung, place: Workplace) -> None:
        if tried.auto_script is not None:
            decisions = Decisions(auto_script=tried.auto_script)
            place.store.replace_record(self._decisions_key(origin), decisions.model_dump(mode="json"))

    def _decisions_key(self, rung: Rung) -> str:
        content = {
            "graph": graph_sha256(self.joined.network),
            "quantized_by": self.quantized_by,
            "hw_arch": self.hw_arch,
            "script": rung.script,
            "sdk": self.sdk.model_dump(mode="json"),
        }
        return f"auto/{hashlib.sha256(canonical_json(content).encode()).hexdigest()}"


def kept_decisions(key: str, place: Workplace) -> Ref | None:
    """Return what is kept under a key; None where nothing is, or nothing that can be used."""
    record = place.store.find_record(key)
    try:
        ref = None if record is None else Decisions.model_validate(record).auto_script
    except ValidationError:
        return None
    if ref is None:
        return None
    place.pin([ref])
    return ref if place.store.is_intact(ref) else None


def graph_sha256(network: Network) -> str:
    """Return the digest of a network's layers and how they are connected, without its weights."""
    content = network.model_dump(mode="json", include={"inputs", "outputs", "layers"})
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def does_not_fit(name: str, attempts: Sequence[Attempt]) -> FitError:
    """Return the error that tells of every attempt at a single context."""
    width = max(len(attempt.label) for attempt in attempts)
    head = f"{name} does not fit a single context"
    if len(attempts) == 1:
        lines = [f"{head}: {attempts[0].message} (its log is {attempts[0].log.uri})"]
    else:
        lines = [f"{head}; {len(attempts)} attempts were made:"]
        for attempt in attempts:
            kept = " (kept from an earlier build; --force tries it again)" if attempt.is_reused else ""
            lines.append(f"  {attempt.label:<{width}}  {attempt.seconds:>8.1f} s  {attempt.message}{kept}")
            lines.append(f"  {'':<{width}}  {'':>10}  {attempt.log.uri}")
    if any(attempt.have for attempt in attempts):
        lines.append(f"  {LIMITS}")
    return FitError(
        "\n".join([*lines, f"  {NEXT_STEP}"]),
        need=attempts[-1].need,
        have=attempts[-1].have,
        attempts=[attempt.model_dump(mode="json") for attempt in attempts],
        log_tail="",
    )
