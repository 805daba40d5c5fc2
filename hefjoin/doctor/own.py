"""hefjoin itself: its packages against what it requires and what it was tested with, and the Prefect server it uses."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

import hefjoin
from hefjoin.compatibility import is_in
from hefjoin.doctor.finding import Finding
from hefjoin.doctor.program import Answer
from hefjoin.sdk.toolchain import emulator_version

SERVER = "PREFECT_API_URL"
_ASK_HEALTH = """
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5).read()
except (OSError, ValueError) as error:
    sys.exit(str(error))
"""


def question() -> Sequence[str] | None:
    """Return the command that asks the configured Prefect server; None where none is configured."""
    url = os.environ.get(SERVER)
    return [sys.executable, "-I", "-S", "-c", _ASK_HEALTH, f"{url.rstrip('/')}/health"] if url else None


def findings(prefect: Answer | None, cache: Path) -> list[Finding]:
    """Examine hefjoin's own environment.

    Args:
        prefect: The answer to `question`.
        cache: Folder with the homes of embedded Prefect servers.
    """
    python = platform.python_version()
    return [
        Finding(
            part="hefjoin",
            subject="hefjoin",
            state="ok",
            found=f"{hefjoin.__version__} on Python {python}",
            versions={"hefjoin": hefjoin.__version__, "python": python},
        ),
        Finding(
            part="hefjoin",
            subject="emulator",
            state="ok",
            found=emulator_version(),
            versions={"emulator": emulator_version()},
        ),
        packages([Requirement(text) for text in requires("hefjoin") or []], _tested()),
        _prefect(prefect, cache),
    ]


def packages(requirements: Sequence[Requirement], tested: Mapping[str, str]) -> Finding:
    """Compare installed packages with what is required, and with what was tested.

    Args:
        requirements: What hefjoin declares; those of extras are left out.
        tested: The version this release was tested with, by package; empty where it is not known.
    """
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    installed = {each.name: _version(each.name) for each in needed}
    wrong = [
        f"{each.name} is {installed[each.name] or 'absent'}, required {each.specifier or 'in any version'}"
        for each in needed
        if not is_in(installed[each.name], str(each.specifier))
    ]
    other = [
        f"{name} {found} (tested: {tested[name]})"
        for name, found in installed.items()
        if name in tested and found != tested[name]
    ]
    how_many = f"{len(needed)} required packages"
    if tested:
        how_many += f", {len(other) or 'none'} of another version than tested"
    return Finding(
        part="hefjoin",
        subject="packages",
        state="problem" if wrong else "untested" if other else "ok",
        found=how_many,
        follows="; ".join([*wrong, *other]),
        next_step="install hefjoin anew with --constraint constraints.txt" if wrong or other else "",
        versions={name: found for name, found in installed.items() if found},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _tested() -> dict[str, str]:
    """Return the versions of constraints.txt; empty where hefjoin was installed without its sources."""
    spec = find_spec("hefjoin")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parents[1] / "constraints.txt"
    return dict(_pinned(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _pinned(constraints: str) -> Iterator[tuple[str, str]]:
    for line in constraints.splitlines():
        name, equals, pinned = line.partition("#")[0].strip().partition("==")
        if equals:
            yield name, pinned


def _prefect(answer: Answer | None, cache: Path) -> Finding:
    url = os.environ.get(SERVER)
    if answer is None:
        homes = len(list(cache.glob("prefect-*")))
        kept = f"{homes} home{'s' if homes != 1 else ''} kept in {cache}" if homes else "no home yet"
        return Finding(
            part="Prefect",
            subject="server",
            state="ok",
            found=f"{SERVER} is not set",
            follows=f"a build starts a server of its own for as long as it runs; {kept}",
        )
    if not answer.failure:
        return Finding(part="Prefect", subject="server", state="ok", found=f"{url} answers")
    return Finding(
        part="Prefect",
        subject="server",
        state="problem",
        found=f"{SERVER}={url} does not answer: {answer.failure}",
        follows="builds end with exit code 6",
        next_step=f"start that server, or unset {SERVER} to use the embedded one",
    )
