"""Starts `hailortcli` and says what became of it.

The rules:

1. A call is a process of its own, in a directory of its own (it leaves `hailort.log` there), with a deadline. Its exit
   code is checked; as `scan` and `identify` end with 0 without a device, what they print is checked too.
2. Options that take a list (`-s`, `--input-files`) swallow what follows them: they come last, or before an option.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

from hefjoin.devices import guard
from hefjoin.devices import hailortcli_output as output
from hefjoin.devices.hailort_errors import CAUSES, IN_USE, OUT_OF_PHYSICAL_DEVICES, Cause
from hefjoin.errors import DeviceError, HefJoinError, ToolchainError

PROGRAM = "HEFJOIN_HAILORTCLI"
"""Environment variable that names the program, where it is not `hailortcli` (some distributions: `hailort8cli`)."""
SLACK_SECONDS = 60.0
"""What a call may take longer than it measures: loading a large HEF takes seconds; a hang is what this is for."""
USAGE_CODES = range(100, 128)
"""Exit codes of CLI11, which parses the program's arguments; the statuses of HailoRT are below."""
CRASHES = (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV)
"""As 128 and the signal, where a shell script is in between."""
INVALID_ARGUMENT, WRONG_LIBRARY = 2, 255
TAIL_LINES = 20
OTHER = Cause("failed", True, "HailoRT failed", "look at `dmesg | grep -i hailo`, restart the machine")
_ERROR = re.compile(r"^\[Hailo[^\]]*\] \[(?:error|critical)\] *(.+)", re.MULTILINE)


def program_name() -> str:
    """Return what HailoRT's program is called here."""
    return os.environ.get(PROGRAM) or "hailortcli"


class Program(NamedTuple):
    """`hailortcli`, and the directory it works in: it writes `hailort.log` there."""

    path: str
    folder: Path
    device_id: str = ""

    @classmethod
    def found(cls, folder: Path) -> Program:
        """Look for the program and choose the device.

        Raises:
            DeviceError: With reason `missing`, where there is no program or no device.
        """
        name = program_name()
        path = shutil.which(name)
        if path is None:
            raise DeviceError(
                f"no device drives a real HEF here: there is no program {name}. Install HailoRT 4.x from Hailo's "
                f"developer zone, or name its program in {PROGRAM}",
                reason="missing",
                is_transient=False,
            )
        program = cls(str(Path(path).absolute()), folder)
        return program._replace(device_id=guard.chosen(output.devices(program.run("scan"))))

    def host(self, root: Path) -> guard.Host:
        """Return what drives the device, without asking the device."""
        return guard.Host(
            device_id=self.device_id,
            hailort=output.version(self.run("--version")),
            driver=guard.driver_version(root),
        )

    def identified(self, host: guard.Host) -> guard.Host:
        """Ask the device what it is."""
        said = output.identity(self.run("fw-control", "identify", "-s", self.device_id))
        return host.model_copy(update=said._asdict())

    def run(self, *arguments: str, seconds: float = 0.0) -> str:
        """Run the program and return its standard output.

        Args:
            arguments: Those of the program.
            seconds: How long it will measure; it is stopped `SLACK_SECONDS` after that.

        Raises:
            DeviceError: It failed, crashed or hung.
            ToolchainError: It does not know these arguments.
        """
        deadline_s = seconds + SLACK_SECONDS
        command = " ".join(["hailortcli", *arguments])
        try:
            done = subprocess.run(
                [self.path, *arguments],
                cwd=self.folder,
                env={**os.environ, "LC_ALL": "C.UTF-8", "HAILORT_LOGGER_PATH": str(self.folder)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"`{command}` was stopped after {deadline_s:.0f} s without an end: the device hangs; look at "
                "`dmesg | grep -i hailo`, restart"
            ) from error
        except OSError as error:
            raise DeviceError(
                f"{self.path} does not start: {error.strerror}", reason="missing", is_transient=False
            ) from error
        if done.returncode != 0:
            raise failure(command, done.returncode, f"{done.stdout}\n{done.stderr}")
        return done.stdout

    def written(self, name: str) -> str:
        """Return what the last call wrote into a file of the directory, and take the file away."""
        file = self.folder / name
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
            file.unlink()
        except OSError as error:
            raise DeviceError(f"hailortcli ended well and wrote no {name}: {error.strerror}") from error
        return text


def failure(command: str, code: int, text: str) -> HefJoinError:
    """Return the error of a run that failed.

    Args:
        command: What was run.
        code: Its exit code: a `hailo_status`, one of CLI11, or minus a signal.
        text: All it printed.

    Returns:
        The error. No device (74) is a device that another program holds: `scan` has listed it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = _ERROR.findall(text)
    said = errors[0] if errors else lines[-1] if lines else "no message"
    tail = "\n".join(lines[-TAIL_LINES:])
    if code in USAGE_CODES:
        return ToolchainError(
            f"`{command}` ended with exit code {code}, it does not know these arguments: {said}. This is a fault of "
            "hefjoin, or of a HailoRT that it is not written for (4.20 to 4.23): report it with this line",
            log_tail=tail,
        )
    if code < 0 or code - 128 in CRASHES:
        name = signal.Signals(-code if code < 0 else code - 128).name
        return DeviceError(
            f"`{command}` crashed ({name}): {said}; look at `dmesg | grep -i hailo`",
            is_transient=False,
            log_tail=tail,
        )
    if code == INVALID_ARGUMENT:
        cause = Cause(
            "failed", False, "HailoRT refuses what it was asked", "this is a fault of hefjoin: report the line"
        )
    elif code == WRONG_LIBRARY:
        cause = Cause("version", False, "program and library differ", "install both of one HailoRT version")
    else:
        cause = CAUSES.get(IN_USE if code == OUT_OF_PHYSICAL_DEVICES else code, OTHER)
    return DeviceError(
        f"`{command}` ended with exit code {code}, {cause.says}: {said}. Next: {cause.next_step}",
        reason=cause.reason,
        is_transient=cause.is_transient,
        said=tuple(errors),
        log_tail=tail,
    )
