"""HailoRT: the Python package, the command-line program, the driver, the device, and whether their versions agree.

The rules:

1. Without HailoRT nothing is wrong; with a part of it, the other parts are missing; with parts of different versions,
   none works.
2. `hailortcli` prints nothing and ends with 0 where there is no device: an exit code of 0 proves nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Self

from hefjoin.compatibility import is_in, minor, table
from hefjoin.devices.hailortcli_program import program_name
from hefjoin.doctor.finding import Finding, State, absent
from hefjoin.doctor.program import Answer

DRIVER = "hailo_pci"
OTHER_DRIVER = "hailo1x_pci"
"""The module of HailoRT 5; it does not serve a Hailo-8."""
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_DEVICE = re.compile(r"^Executing on device: *(?=\S)", re.MULTILINE)
_FIELD = re.compile(r"^([A-Z][\w ]+): *(.*\S)", re.MULTILINE)
_STATUS = re.compile(r"(HAILO_\w+)\((\d+)\)|(\d+) \((HAILO_\w+)\)")
_GET_IT = "get HailoRT 4.x (package, driver, firmware, Python wheel of one version) from Hailo's developer zone"


class HailoRT(NamedTuple):
    """The versions of what is installed; empty where it is not, `unknown` where it does not say."""

    package: str
    program: str
    driver: str

    @classmethod
    def found(cls, root: Path, program: Answer | None) -> Self:
        """Look for the parts of HailoRT.

        Args:
            root: Where `/sys` is.
            program: The answer of `hailortcli --version`.
        """
        said = _VERSION.search(program.text) if program else None
        return cls(_package_version(), (said.group() if said else "unknown") if program else "", _driver_version(root))

    @property
    def library(self) -> str:
        """The version of the library, as those that are linked with it say."""
        return next((version for version in (self.program, self.package) if version not in ("", "unknown")), "")

    @property
    def is_installed(self) -> bool:
        """Whether any part is there."""
        return any(self)


def questions() -> dict[str, Sequence[str] | None]:
    """Return the commands that ask for the program's version and for the device."""
    program = shutil.which(program_name())
    return {
        "version": [program, "--version"] if program else None,
        "identify": [program, "fw-control", "identify"] if program else None,
    }


def findings(root: Path, version: Answer | None, identify: Answer | None, dfc: str) -> list[Finding]:
    """Examine what runs a HEF.

    Args:
        root: Where `/sys` and `/dev` are.
        version: The answer of `hailortcli --version`.
        identify: The answer of `hailortcli fw-control identify`.
        dfc: The compiler's version; empty without one.
    """
    hailort = HailoRT.found(root, version)
    lines = [_package(hailort), _program(hailort, version), _driver(hailort, root)]
    lines += _devices(hailort, root, identify)
    if hailort.is_installed:
        lines.append(_agreement(hailort))
    if dfc and is_in(hailort.library, table().supported.hailo8_hailort):
        lines.append(_pair(dfc, hailort.library))
    return lines


def _package_version() -> str:
    try:
        return distribution("hailort").version
    except PackageNotFoundError:
        return ""


def _driver_version(root: Path) -> str:
    module = root / "sys/module" / DRIVER
    if not module.is_dir():
        return ""
    try:
        return (module / "version").read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown"


def _package(hailort: HailoRT) -> Finding:
    subject = "HailoRT for Python"
    if not hailort.package:
        return Finding(
            part="device",
            subject=subject,
            state=absent(hailort.is_installed),
            found="no package hailort in this environment",
            follows="only the emulated device can be driven from Python",
            next_step=_GET_IT,
        )
    spec = find_spec("hailo_platform")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    extension = [
        name for folder in folders for suffix in all_suffixes() for name in folder.rglob(f"_pyhailort{suffix}")
    ]
    versions = {"hailort": hailort.package}
    if extension:
        return Finding(part="device", subject=subject, state="ok", found=hailort.package, versions=versions)
    return Finding(
        part="device",
        subject=subject,
        state="problem",
        found=f"{hailort.package}, without an extension for this Python",
        follows="import hailo_platform fails",
        next_step="install the wheel that is made for this version of Python",
        versions=versions,
    )


def _program(hailort: HailoRT, answer: Answer | None) -> Finding:
    if answer is None:
        return Finding(
            part="device",
            subject=program_name(),
            state=absent(hailort.is_installed),
            found="not on the PATH",
            follows="no device can be asked for its firmware",
            next_step="it comes with HailoRT's package",
        )
    if answer.failure or hailort.program == "unknown":
        return Finding(
            part="device",
            subject=program_name(),
            state="problem",
            found=f"{program_name()} --version {answer.failure or 'names no version'}",
            follows="no device can be asked for its firmware",
            next_step="install the package hailort anew",
        )
    return Finding(
        part="device",
        subject=program_name(),
        state="ok",
        found=hailort.program,
        versions={program_name(): hailort.program},
    )


def _driver(hailort: HailoRT, root: Path) -> Finding:
    nodes = sorted((root / "dev").glob("hailo[0-9]*"))
    other = (root / "sys/module" / OTHER_DRIVER).is_dir()
    if not hailort.driver:
        return Finding(
            part="device",
            subject="driver",
            state=absent(hailort.is_installed),
            found=f"module {DRIVER} is not loaded" + (f"; {OTHER_DRIVER} is" if other else ""),
            follows=f"{OTHER_DRIVER} does not serve a Hailo-8" if other else "no Hailo-8 can be reached over PCIe",
            next_step=f"install HailoRT's PCIe driver of the same version, then load it: modprobe {DRIVER}",
        )
    closed = [f"/dev/{node.name}" for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    names = ", ".join(f"/dev/{node.name}" for node in nodes) or "no /dev/hailo*"
    return Finding(
        part="device",
        subject="driver",
        state="problem" if closed else "ok",
        found=f"{DRIVER} {hailort.driver}, {names}",
        follows=f"no permission to read and write {', '.join(closed)}" if closed else "",
        next_step="install the driver's udev rules, or join the group that owns the device" if closed else "",
        versions={DRIVER: hailort.driver},
    )


def _devices(hailort: HailoRT, root: Path, identify: Answer | None) -> list[Finding]:
    if identify and identify.failure:
        return [_does_not_answer(identify)]
    blocks = _DEVICE.split(identify.text)[1:] if identify else []
    if blocks:
        return [_identified(block, hailort) for block in blocks]
    nodes = list((root / "dev").glob("hailo[0-9]*"))
    state: State = "problem" if identify and hailort.driver and nodes else absent(hailort.is_installed)
    seat = "seat a Hailo-8, load the driver, look at `dmesg | grep -i hailo`"
    return [
        Finding(
            part="device",
            subject="device",
            state=state,
            found=f"none that {program_name()} sees" if identify else "none",
            follows="a real HEF is not measured here; what the emulator made is, on the CPU",
            next_step=seat if identify else "install HailoRT first",
        )
    ]


def _does_not_answer(identify: Answer) -> Finding:
    statuses = [a or d for a, _, _, d in _STATUS.findall(identify.text)]
    steps = {
        "HAILO_INVALID_DRIVER_VERSION": "install driver and HailoRT of one version, and restart",
        "HAILO_DRIVER_OPERATION_FAILED": "look at the permissions of /dev/hailo0 and at `dmesg | grep -i hailo`",
        "HAILO_DEVICE_IN_USE": "end the program that holds the device",
    }
    return Finding(
        part="device",
        subject="device",
        state="problem",
        found=f"{program_name()} fw-control identify {identify.failure}",
        follows="no HEF runs on it",
        next_step=next(
            (steps[status] for status in statuses if status in steps), "look at `dmesg | grep -i hailo`, restart"
        ),
    )


def _identified(block: str, hailort: HailoRT) -> Finding:
    """Examine what `identify` says of one device, from its id on."""
    fields = dict(_FIELD.findall(block))
    architecture = fields.get("Device Architecture", "of unknown architecture")
    said = _VERSION.search(fields.get("Firmware Version", ""))
    firmware = said.group() if said else "unknown"
    board = fields.get("Board Name", "").strip("\0 ") or "board without a name"
    state: State = "ok"
    follows = next_step = ""
    if architecture not in table().takes:
        state, follows = "untested", f"HEFs are made for {' and '.join(table().takes)}"
        next_step = "run them on a Hailo-8"
    elif hailort.library and minor(firmware) != minor(hailort.library):
        state = "untested"
        follows = f"HailoRT is {hailort.library}: {table().runtime.firmware_same_minor}"
        next_step = "install the firmware that came with this HailoRT, and restart"
    return Finding(
        part="device",
        subject="device",
        state=state,
        found=f"{block.split(maxsplit=1)[0]}: {board}, {architecture}, firmware {firmware}",
        follows=follows,
        next_step=next_step,
        versions={"firmware": firmware},
    )


def _agreement(hailort: HailoRT) -> Finding:
    known = {name: version for name, version in hailort._asdict().items() if version not in ("", "unknown")}
    listed = ", ".join(f"{name} {version}" for name, version in known.items()) or "no version is known"
    supported = table().supported
    finding = Finding(part="device", subject="HailoRT's versions", state="ok", found=listed, versions=known)
    if len(set(known.values())) > 1:
        change = {
            "state": "problem",
            "follows": table().runtime.driver_equals_library,
            "next_step": "install package, program and driver of one version, and restart",
        }
    elif known and not all(is_in(version, supported.hailo8_hailort) for version in known.values()):
        change = {
            "state": "missing",
            "follows": "HailoRT 5 serves Hailo-10 and Hailo-15 only",
            "next_step": f"the Hailo-8 needs HailoRT {supported.hailort}, from Hailo's developer zone",
        }
    elif not known or not all(is_in(version, supported.hailort) for version in known.values()):
        change = {"state": "untested", "next_step": f"hefjoin is written for HailoRT {supported.hailort}"}
    else:
        release = table().newest_pair(hailort.library or hailort.driver)
        change = {"follows": f"takes HEFs of the DFC up to {release.dfc}"} if release else {}
    return finding.model_copy(update=change)


def _pair(dfc: str, library: str) -> Finding:
    release = table().release(dfc)
    published = bool(release and release.hailort)
    fits = release is not None and published and is_in(library, f">={release.hailort}")
    source = f" ({release.confidence}: {release.source})" if release else ""
    if fits:
        follows = ""
    elif release and published:
        follows = f"HEFs of DFC {release.dfc} want HailoRT {release.hailort}; an older one may refuse them{source}"
    else:
        follows = f"no HailoRT is published for DFC {dfc}"
    return Finding(
        part="device",
        subject="compiler and HailoRT",
        state="ok" if fits else "untested",
        found=f"DFC {dfc} with HailoRT {library}",
        follows=follows,
        next_step="" if fits else "try one HEF with `hailortcli parse-hef`, or take a pair of the table",
    )
