"""The manifest that a build leaves, and where it was left: all that is known of a build, as one frozen JSON record.

The rule: every number carries its unit in its name and, where it could be taken for a measurement, its source.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref, Sha256, by_content
from hefjoin.results.checked import Compared, Forecast, JoinCheck
from hefjoin.results.compiled import Compiled
from hefjoin.results.covered import Covered
from hefjoin.results.measured import Earlier, Measured
from hefjoin.results.networks import Joined, Network
from hefjoin.results.quantized import Coupled, Mend, Quantized, Repair
from hefjoin.results.sources import Fetched, Provider, Sdk
from hefjoin.scores import Scored
from hefjoin.spec import BuildSpec

SCHEMA_VERSION: Literal[4] = 4
"""Raised when a field changes its meaning or a new one is required; manifests of others are not read."""

RESULTS = (
    *("models", "check", "forecast", "joined", "quantized", "mends", "repair", "coupled", "compiled", "measured"),
    *("scored", "gates"),
)
"""The fields of a manifest that stages gave."""


class Gate(Record):
    """One condition for becoming the latest of a name."""

    name: str
    wanted: str
    found: str
    verdict: Literal["passed", "failed", "not evaluated"]
    missed: str = ""
    """By how much a failed one missed: `2.0 dB below 20`."""


class StageRun(Record):
    """How a stage came to its result."""

    stage: str
    subject: str
    """The model, where the stage runs once per model."""
    key: str
    seconds: float
    """Time it took to build; of the earlier run where it was reused."""
    is_reused: bool
    reason: str
    """Why it was built, or whose result was reused."""

    @property
    def title(self) -> str:
        """Name for people: `parse resnet_a`."""
        return f"{self.stage} {self.subject}".rstrip()


class Machine(Record):
    """Where a build ran."""

    host: str
    platform: str
    cpu: str
    cores: int


class DeviceHost(Record):
    """The machine with the device."""

    machine: Machine
    versions: dict[str, str]
    """Of the packages in its interpreter; the runtime's is in `measured`."""


class Manifest(Record):
    """All that is known of one build."""

    schema_version: Literal[4] = SCHEMA_VERSION
    build_id: str
    created_at: str
    """When all was done; ISO 8601, UTC."""
    seconds: float
    """From the start of the build to `created_at`, reused work and waiting included."""
    sdk: Sdk
    spec: BuildSpec
    fetched: Fetched
    models: dict[str, Network]
    check: JoinCheck
    forecast: Forecast
    joined: Joined
    quantized: Quantized
    mends: tuple[Mend, ...] = ()
    """The noisiest first, by model."""
    repair: Repair | None = None
    """None where the spec sets no floor."""
    coupled: Coupled = Coupled()
    compiled: Compiled
    compared: tuple[Compared, ...] = ()
    """What was foretold and the vendor's compiler has answered by now."""
    measured: Measured
    earlier: tuple[Earlier, ...] = ()
    """Of the last builds of the name, the newest last."""
    scored: Scored
    covered: Covered | None = None
    """None where nobody ran `hefjoin calibration` on the same sources in the same store before."""
    gates: tuple[Gate, ...]
    stages: tuple[StageRun, ...]
    machine: Machine
    measured_by: DeviceHost | None = None
    """Who ran the benchmark that was handed over; None where the machine that built did, or nobody."""
    versions: dict[str, str]
    """Of the packages in the build's own interpreter; the compiler's is in `sdk`, the runtime's in `measured`."""
    code_sha256: Sha256
    """Digest of hefjoin's own files: two builds of one version in development may be of different code."""
    parent: str = Field(default="", description="Build id of the latest of the same name before this one.")
    changed: tuple[str, ...] = ()
    """In what the build differs from its parent, in words; see `hefjoin.builds.changes`."""

    @property
    def is_promotable(self) -> bool:
        """No gate failed; one that was not evaluated does not hold a build back."""
        return all(gate.verdict != "failed" for gate in self.gates)

    @property
    def quality_source(self) -> str:
        """Who computed the quantized network's outputs: `emulator`, or `DFC` for the vendor's simulation."""
        return "emulator" if self.sdk.provider == "emulator" else "DFC"

    @property
    def stage_keys(self) -> dict[str, str]:
        """The key of each stage, by the stage's title."""
        return {run.title: run.key for run in self.stages}

    def repeats(self, earlier: Manifest) -> bool:
        """Return whether this build came to what the earlier one had come to: same spec, same stages, same results.

        Who did a stage makes no difference. A benchmark that found no device is done each time, because one may be
        there now; without one again, nothing is new.
        """
        is_same_work = self.spec == earlier.spec and self.stage_keys == earlier.stage_keys
        return is_same_work and self._results() == earlier._results()

    def _results(self) -> Any:
        """Return what the stages gave, by content."""
        results = self.model_dump(mode="json", include=set(RESULTS))
        if self.measured.source == "not measured":
            del results["measured"]
        return by_content(results)


class Published(Record):
    """Where a build was left: a record beside the other builds of its name, and one whenever it became the latest."""

    build_id: str
    provider: Provider
    name: str
    created_at: str
    """When this record was made; ISO 8601, UTC."""
    host: str
    """Where it was made."""
    manifest: Ref
    report: Ref
    hef: Ref
    hef_name: str
    """File name a HEF should carry: `<name>.hef`, `<name>.emulated.hef`."""
    record: str
    """Key of the new record under the name; empty where a gate failed."""
    took_back: tuple[str, ...] = ()
    """Of a rollback: the builds that this record and the rollbacks right before it took back, the last one first."""
