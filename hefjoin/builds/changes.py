"""In what a build differs from an earlier one, before anything was done: its inputs, its spec, what it was built with.

The rule: inputs are compared by content. Where they lie is no change, what they are called is none either.
"""

from __future__ import annotations

from typing import Any, Literal

from hefjoin.artifacts import Record, leaves
from hefjoin.manifest import Manifest

OWN_CODE = "hefjoin's own code"
LONG = 40
"""Characters from which on a value is not shown: a script, a list of nodes."""


class Change(Record):
    """One thing that is not as it was."""

    kind: Literal["input", "spec", "version", "machine"]
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
    pairs: list[tuple[Literal["input", "spec", "version", "machine"], dict[str, str], dict[str, str]]] = [
        ("input", _inputs(earlier), _inputs(later)),
        ("spec", _spec(earlier), _spec(later)),
        ("version", _versions(earlier), _versions(later)),
        ("machine", _machine(earlier), _machine(later)),
    ]
    return tuple(
        Change(kind=kind, name=name, earlier=then.get(name, ""), later=now.get(name, ""))
        for kind, then, now in pairs
        for name in dict.fromkeys((*then, *now))
        if then.get(name, "") != now.get(name, "")
    )


def _inputs(build: Manifest) -> dict[str, str]:
    """Return the digest of each input."""
    fetched, labels = build.fetched, build.check.labels
    found = {f"{model}'s model": ref.sha256 for model, ref in fetched.models.items()}
    for model, files in fetched.weights.items():
        found |= {f"{model}'s weights {path}": ref.sha256 for path, ref in files.items()}
    found["calibration set"] = fetched.calibration.sha256
    if fetched.evaluation.sha256 != fetched.calibration.sha256:
        found["evaluation set"] = fetched.evaluation.sha256
    if labels is not None:
        found["labels"] = labels.npz.sha256
    return found


def _spec(build: Manifest) -> dict[str, str]:
    """Return every field of a spec by its path, a model's by its name; where inputs lie is left out."""
    spec = build.spec.model_dump(mode="json")
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
            "device": build.measured.device if build.measured.source == "device" else ""}  # fmt: skip
