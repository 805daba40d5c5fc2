"""In what a build differs from an earlier one, before anything was done: its inputs, its spec, what it was built with.

The rule: inputs are compared by content. Where they lie is no change, what they are called is none either.
"""

from __future__ import annotations

from typing import Any, Literal

from hefjoin.artifacts import Record, leaves
from hefjoin.manifest import Manifest
from hefjoin.results.sources import Fetched
from hefjoin.spec import BuildSpec

OWN_CODE = "hefjoin's own code"
LONG = 40
"""Characters from which on a value is not shown: a script, a list of nodes."""


Kind = Literal["input", "spec", "version", "machine"]


class Change(Record):
    """One thing that is not as it was."""

    kind: Kind
    name: str
    """`digit's model`, `calibration.count`, `onnxruntime`."""
    earlier: str
    """Empty where it was not there, as `later`."""
    later: str

    @property
    def text(self) -> str:
        """The change in a few words."""
        if not self.earlier or not self.later:
            return f"{self.name} is {'new' if self.later else 'gone'}"
        is_digest = self.kind == "input" or self.name == OWN_CODE
        if is_digest or len(self.earlier) + len(self.later) > LONG:
            return self.name
        return f"{self.name} {self.earlier} → {self.later}"


def changes(earlier: Manifest, later: Manifest) -> tuple[Change, ...]:
    """Return in what a build differs from an earlier one, the inputs first; empty where nothing does."""
    return (
        *_differences("input", *(_inputs(build.fetched) | _labels(build) for build in (earlier, later))),
        *spec_changes(earlier.spec, later.spec),
        *_differences("version", _versions(earlier), _versions(later)),
        *_differences("machine", _machine(earlier), _machine(later)),
    )


def input_changes(earlier: Fetched, later: Fetched) -> tuple[Change, ...]:
    """Return which sources hold something else; labels are a part of the evaluation set here."""
    return _differences("input", _inputs(earlier), _inputs(later))


def spec_changes(earlier: BuildSpec, later: BuildSpec) -> tuple[Change, ...]:
    """Return in which fields two specs differ."""
    return _differences("spec", _fields(earlier), _fields(later))


def _differences(kind: Kind, earlier: dict[str, str], later: dict[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(kind=kind, name=name, earlier=earlier.get(name, ""), later=later.get(name, ""))
        for name in dict.fromkeys((*earlier, *later))
        if earlier.get(name, "") != later.get(name, "")
    )


def _inputs(fetched: Fetched) -> dict[str, str]:
    """Return the digest of each source."""
    found = {f"{model}'s model": ref.sha256 for model, ref in fetched.models.items()}
    for model, files in fetched.weights.items():
        found |= {f"{model}'s weights {path}": ref.sha256 for path, ref in files.items()}
    found["calibration set"] = fetched.calibration.sha256
    if fetched.evaluation.sha256 != fetched.calibration.sha256:
        found["evaluation set"] = fetched.evaluation.sha256
    return found


def _labels(build: Manifest) -> dict[str, str]:
    return {"labels": build.check.labels.npz.sha256} if build.check.labels is not None else {}


def _fields(wanted: BuildSpec) -> dict[str, str]:
    """Return every field of a spec by its path, a model's by its name; where inputs lie is left out."""
    spec = wanted.model_dump(mode="json")
    models = {model.pop("name"): model for model in spec.pop("models")}
    for section in (*models.values(), spec["calibration"], spec["evaluation"]):
        section.pop("source")
    found = {path: _plain(value) for path, value in leaves(_whole_lists(spec)).items()}
    found["order of models"] = ", ".join(models)
    return found | {path: _plain(value) for path, value in leaves(_whole_lists(models)).items()}


def _whole_lists(value: Any) -> Any:
    """Return JSON whose lists are text, so that a list is one value and not as many as it is long."""
    if isinstance(value, dict):
        return {name: _whole_lists(item) for name, item in value.items()}
    return f"[{', '.join(_plain(item) for item in value)}]" if isinstance(value, list) else value


def _plain(value: Any) -> str:
    """Return a value as a spec would have it; empty text in quotes, because nothing is another thing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or '""'


def _versions(build: Manifest) -> dict[str, str]:
    found = {"compiler": f"{build.sdk.provider} {build.sdk.version}", **build.versions, **build.measured.versions}
    return {**found, OWN_CODE: build.code_sha256}


def _machine(build: Manifest) -> dict[str, str]:
    machine = build.machine
    return {"host": machine.host, "CPU": machine.cpu, "cores": str(machine.cores), "system": machine.platform,
            "device": build.measured.device if build.measured.source == "device" else "",
            "host of the device": build.measured_by.machine.host if build.measured_by else ""}  # fmt: skip
