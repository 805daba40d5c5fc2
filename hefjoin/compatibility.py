"""Which versions fit together: the table `compatibility.toml`, and the questions put to it.

The rule: a version that the table does not have is untested, not wrong.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from hefjoin.artifacts import Record

Confidence = Literal["vendor", "seen", "reported", "unconfirmed"]


class Sourced(Record):
    """A fact of the table: where it is from, and how sure it is."""

    source: str
    confidence: Confidence


class Release(Sourced):
    """A line of the DFC and what it goes with; empty where nothing is published."""

    dfc: str
    """Major and minor: `3.33`."""
    model_zoo: str = ""
    hailort: str = ""
    systems: tuple[str, ...]
    """`ubuntu 22.04`, as ID and VERSION_ID in /etc/os-release."""
    python: tuple[str, ...]
    tensorflow: str = ""
    cuda: str = ""
    cudnn: str = ""


class Pin(Sourced):
    """A package in the compiler's environment and the versions it works with."""

    package: str
    specifier: str


class Supported(Sourced):
    """What hefjoin is written for, and what serves a Hailo-8 at all, as version specifiers."""

    dfc: str
    hailort: str
    hailo8_dfc: str
    hailo8_hailort: str


class CompilerMachine(Sourced):
    """What the DFC asks of a machine."""

    processor: str
    needs_avx: bool


class CompilerMemory(Sourced):
    """The memory that the DFC asks of a machine."""

    least_gib: int


class RuntimeRules(Sourced):
    """How HailoRT compares versions, and what it does when they differ."""

    driver_equals_library: str
    firmware_same_minor: str


class DeviceTakes(Sourced):
    """The HEFs that a device runs."""

    architecture: str
    """As HailoRT prints it: `HAILO8`."""
    takes: tuple[int, ...]
    """`hw_arch` numbers in a HEF's header."""


class Container(Sourced):
    """A version of the HEF's container and the HailoRT that reads it, as a version specifier."""

    version: int
    hailort: str


class Compatibility(Record):
    """The whole table."""

    supported: Supported
    releases: tuple[Release, ...]
    pins: tuple[Pin, ...]
    compiler_machine: CompilerMachine
    compiler_memory: CompilerMemory
    runtime: RuntimeRules
    devices: tuple[DeviceTakes, ...]
    containers: tuple[Container, ...]

    def release(self, dfc: str) -> Release | None:
        """Return the line a DFC version belongs to.

        >>> table().release("3.33.1").hailort
        '4.23'
        """
        return next((release for release in self.releases if release.dfc == minor(dfc)), None)

    def least_hailort(self, dfc: str) -> str:
        """Return the HailoRT published with a DFC; an older one may refuse its HEFs. Empty where none is known."""
        release = self.release(dfc)
        return release.hailort if release else ""

    def reads(self, container_version: int) -> str:
        """Return the HailoRT that reads a container version, as a specifier; empty where it is not known."""
        return next((each.hailort for each in self.containers if each.version == container_version), "")

    @property
    def takes(self) -> dict[str, tuple[int, ...]]:
        """The `hw_arch` numbers that each device architecture runs."""
        return {device.architecture: device.takes for device in self.devices}

    def newest_pair(self, hailort: str = "") -> Release | None:
        """Return the newest line of the DFC published with a HailoRT; with one not newer than `hailort` if given."""
        paired = [release for release in self.releases if release.hailort]
        fitting = [each for each in paired if not hailort or is_in(each.hailort, f"<={minor(hailort)}")]
        return max(fitting, key=lambda release: Version(release.dfc), default=None)


@cache
def table() -> Compatibility:
    """Return the table, `compatibility.toml`."""
    text = files("hefjoin").joinpath("compatibility.toml").read_text(encoding="utf-8")
    return Compatibility.model_validate(tomllib.loads(text))


def is_in(version: str, specifier: str) -> bool:
    """Return whether a version meets a specifier; one that is no version meets none.

    >>> is_in("4.23.0", ">=4.20,<4.24"), is_in("unknown", ">=0")
    (True, False)
    """
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def minor(version: str) -> str:
    """Return major and minor of a version.

    >>> minor("4.23.0")
    '4.23'
    """
    return ".".join(version.split(".")[:2])
