"""Make a recording: every case in a process of its own, then its files and the device.

The rule: a case that crashes or hangs is an observation like any other, and the rest goes on.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hefjoin import __version__
from hefjoin.artifacts import file_sha256
from hefjoin.conformance.answers import answers
from hefjoin.conformance.cases import AT_ONCE, Case, all_cases
from hefjoin.conformance.networks import NETWORKS, Files
from hefjoin.conformance.networks import write as write_network
from hefjoin.conformance.private import Scrub, scrubber
from hefjoin.conformance.recording import FINISHED, Arrays, Environment, Observed, Recorded, Recording
from hefjoin.devices import Device, open_device
from hefjoin.errors import DeviceError, HefJoinError, InputError
from hefjoin.folders import work_folder
from hefjoin.formats import har as har_file
from hefjoin.formats import hef as hef_file
from hefjoin.sdk.process import STEP, run_step
from hefjoin.sdk.toolchain import Toolchain

DEADLINE_S = 1800.0
"""For one case. The DFC takes a minute or two for a network of a few layers; a hang is what this is for."""
DEVICE_SECONDS = 2.0
LOG_LIMIT_BYTES = 256 << 10
LOG_FILES_LIMIT = 20
_PROBE = STEP.with_name("probe.py")

Seen = Callable[[str, int, int], None]


def record(
    toolchain: Toolchain,
    *,
    cases: Sequence[Case] | None = None,
    deadline_s: float = DEADLINE_S,
    on_case: Seen | None = None,
) -> Recording:
    """Run every case, and return what they showed.

    Args:
        toolchain: The SDK to ask.
        cases: Those to run instead of all.
        deadline_s: Seconds after which a case is stopped.
        on_case: Called with (case, cases begun, cases in all).

    Raises:
        StoreError: The work folder cannot be written.
    """
    chosen = tuple(cases if cases is not None else all_cases(toolchain.sdk.provider))
    work_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="conformance-", dir=work_folder()) as folder:
        work = Path(folder)
        networks = {name: write_network(name, work) for name in NETWORKS}
        scrub = scrubber(work, toolchain.python)
        device, what = _device(toolchain)
        recorder = _Recorder(toolchain, work, networks, scrub, device, deadline_s)
        environment = Environment(
            provider=toolchain.sdk.provider,
            sdk_version=toolchain.sdk.version,
            hefjoin=__version__,
            device=scrub(what),
            networks={
                path.name: file_sha256(path) for path in sorted({path for files in networks.values() for path in files})
            },
        )
        found = recorder.all(chosen, on_case or (lambda *_: None))
    return Recording(environment, found, answers(environment, found))


def _device(toolchain: Toolchain) -> tuple[Device | None, str]:
    is_emulated = toolchain.sdk.provider == "emulator"
    try:
        device = open_device("auto", is_emulated)
    except DeviceError as error:
        return None, str(error)
    return device, "the emulated device" if is_emulated else type(device).__name__


class _Recorder:
    def __init__(
        self,
        toolchain: Toolchain,
        work: Path,
        networks: dict[str, Files],
        scrub: Scrub,
        device: Device | None,
        deadline_s: float,
    ) -> None:
        self.toolchain = toolchain
        self.work = work
        self.networks = networks
        self.scrub = scrub
        self.device = device
        self.deadline_s = deadline_s

    def all(self, cases: Sequence[Case], on_case: Seen) -> dict[str, Recorded]:
        """Run the cases one after the other, those of `AT_ONCE` side by side."""
        found: dict[str, Recorded] = {}
        together = [case for case in cases if case.name in AT_ONCE]
        for index, case in enumerate(cases):
            if case.name in found:
                continue
            on_case(case.name, index, len(cases))
            batch = together if case in together else [case]
            with ThreadPoolExecutor(max_workers=len(batch)) as pool:
                found.update(zip([each.name for each in batch], pool.map(self.one, batch), strict=True))
        return found

    def one(self, case: Case) -> Recorded:
        """Run a case and gather what it left."""
        folder = self.work / case.name
        folder.mkdir()
        ended = self._run(case, folder)
        events = self.scrub(_events(folder / "events.jsonl"))
        hefs = {path.name: self.scrub(_hef(path)) for path in sorted(folder.glob("*.hef"))}
        numbers = _numbers(folder)
        said, outputs, fps = self._on_device(case, folder / "compiled.hef")
        log = folder / "case.log"
        observed = Observed.model_validate(
            {
                "name": case.name,
                "ended": self.scrub(ended),
                "calls": [event["call"] for event in events if "call" in event],
                "stages": [event for event in events if "stage" in event],
                "notes": {event["note"]: event["value"] for event in events if "note" in event},
                "hefs": hefs,
                "hars": {path.name: self.scrub(_read_har(path)) for path in sorted(folder.glob("*.har"))},
                "device": self.scrub(said),
                "fps": fps,
            }
        )
        lines = self.scrub(_text(log)).splitlines() if log.exists() else []
        return Recorded(observed, {**numbers, **outputs}, tuple(lines), self._log_files(folder))

    def _run(self, case: Case, folder: Path) -> str:
        networks = [
            {"name": name, **{key: str(path) for key, path in self.networks[name]._asdict().items()}}
            for name in case.networks
        ]
        arguments = {"name": case.action, "networks": networks, "options": dict(case.options)}
        try:
            run_step(
                self.toolchain, "case", arguments, folder, model=case.name, script=_PROBE, deadline_s=self.deadline_s
            )
        except HefJoinError as error:
            return str(error)
        return FINISHED

    def _on_device(self, case: Case, hef: Path) -> tuple[str, Arrays, float | None]:
        """Return what the device said, its outputs as `device.<name>`, and frames per second where it is a chip."""
        if case.action not in ("single", "pair") or not hef.exists() or self.device is None:
            return "", {}, None
        frames = self.networks[case.networks[0]].frames
        try:
            outputs = self.device.outputs(hef, frames) or {}
            arrays = {f"device.{name}": np.asarray(array, np.float32) for name, array in outputs.items()}
            measured = self.device.benchmark(hef, frames, (1,), DEVICE_SECONDS) if self._is_chip else None
        except HefJoinError as error:
            return str(error), {}, None
        return "ran", arrays, measured.batches[0].fps if measured else None

    @property
    def _is_chip(self) -> bool:
        return self.toolchain.sdk.provider == "dfc"

    def _log_files(self, folder: Path) -> dict[str, str]:
        paths = [path for path in sorted(folder.rglob("*.log")) if path.name != "case.log" and path.is_file()]
        names = [re.sub(r"[^\w.-]", "_", str(path.relative_to(folder))) for path in paths]
        return {name: self.scrub(_text(path)) for name, path in list(zip(names, paths, strict=True))[:LOG_FILES_LIMIT]}


def _events(path: Path) -> list[dict[str, Any]]:
    """Return what a case wrote down; a last line that a crash cut off is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def _numbers(folder: Path) -> Arrays:
    """Return the outputs that a case wrote; one that a crash cut off is left out."""
    found = {}
    for path in sorted(folder.glob("SDK_*.npy")):
        with suppress(ValueError, OSError, EOFError):
            found[path.stem] = np.load(path)
    return found


def _hef(path: Path) -> hef_file.Hef | str:
    try:
        return replace(hef_file.read(path, verify=True), timestamp_ms=None)
    except InputError as error:
        return str(error)


def _read_har(path: Path) -> str:
    try:
        har_file.read(path)
    except InputError as error:
        return str(error)
    return "read"


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(LOG_LIMIT_BYTES).decode("utf-8", "replace")
