"""The lock of a device: one holder, named while it holds, gone with its process, open to every user."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hefjoin.devices.claim import claimed, lock_path
from hefjoin.errors import DeviceError

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "0000:01:00.0"
HOLD = f"""
import sys
from pathlib import Path
from hefjoin.devices.claim import claimed
with claimed({DEVICE!r}, Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the device in another process."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=pipe, stdout=pipe, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_told_who_holds_it_and_may_try_again(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(DeviceError, match=rf"{DEVICE} is busy: process {process.pid}\b") as caught:
            claimed(DEVICE, tmp_path).__enter__()
        assert (caught.value.reason, caught.value.is_transient) == ("busy", True)


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with claimed(DEVICE, tmp_path):
            pass


def test_one_process_holds_it_once_and_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="busy"), claimed(DEVICE, tmp_path), claimed(DEVICE, tmp_path):
        pass
    with pytest.raises(KeyError), claimed(DEVICE, tmp_path):
        raise KeyError
    with claimed(DEVICE, tmp_path):
        pass


def test_devices_are_held_by_themselves(tmp_path: Path) -> None:
    with claimed(DEVICE, tmp_path), claimed("0000:02:00.0", tmp_path):
        pass


def test_the_lock_stays_and_everyone_may_write_it(tmp_path: Path) -> None:
    with claimed(DEVICE, tmp_path):
        pass
    path = lock_path(DEVICE, tmp_path)
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.read_bytes() == b""


def test_a_device_id_is_no_path(tmp_path: Path) -> None:
    assert lock_path("../../etc/x", tmp_path).parent == tmp_path


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    lock_path(DEVICE, tmp_path).symlink_to(tmp_path / "victim")
    with pytest.raises(DeviceError, match="cannot lock") as caught:
        claimed(DEVICE, tmp_path).__enter__()
    assert (caught.value.reason, caught.value.is_transient) == ("failed", False)
    assert (tmp_path / "victim").read_text() == "kept"
