"""Who holds a device: a lock of the operating system, on the machine the device is in.

The rule: the lock is the kernel's. It is gone with the process that held it, however that ended; the file stays and
means nothing by itself. Two users of one machine, and two workers, see the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hefjoin.errors import DeviceError

SHARED_FOLDER = Path("/run/lock")
"""Writable for everyone (FHS 3.0, 5.9 and 3.15), the same for services with a /tmp of their own."""
EVERYONE = 0o666
PID_BYTES = 32


@contextmanager
def claimed(device_id: str, folder: Path | None = None) -> Iterator[None]:
    """Hold a device for as long as the block runs.

    Args:
        device_id: As HailoRT lists it: `0000:01:00.0`.
        folder: Where the lock lies; `/run/lock`, or the folder for temporary files where there is none.

    Raises:
        DeviceError: With reason `busy` and the holder's process where it is held; `failed` where the lock cannot be
            opened.
    """
    path = lock_path(device_id, folder)
    try:
        lock = _open(path)
    except OSError as error:
        raise DeviceError(
            f"cannot lock device {device_id} with {path}: {error.strerror}. Every user who runs benchmarks here must "
            "be able to write that file: mend its permissions, or remove it while no benchmark runs",
            reason="failed",
            is_transient=False,
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(device_id, os.pread(lock, PID_BYTES, 0)) from error
        os.pwrite(lock, f"{os.getpid():<{PID_BYTES}}".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def lock_path(device_id: str, folder: Path | None = None) -> Path:
    """Return the file that stands for a device."""
    place = folder or (SHARED_FOLDER if os.access(SHARED_FOLDER, os.W_OK) else Path(tempfile.gettempdir()))
    return place / f"hefjoin-{re.sub(r'[^A-Za-z0-9.-]', '_', device_id)}.lock"


def _open(path: Path) -> int:
    """Open the lock, made where it is missing, for every user of the machine.

    An existing file is opened without O_CREAT: with `fs.protected_regular` the kernel refuses O_CREAT for a file of
    another user in a folder that everyone may write.
    """
    for flags in (0, os.O_CREAT | os.O_EXCL):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, EVERYONE)
            if flags:
                os.fchmod(lock, EVERYONE)
            return lock
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)


def _busy(device_id: str, holder: bytes) -> DeviceError:
    """Return the error for a device that another benchmark holds; its process may not have said so yet."""
    pid = holder.decode("ascii", "replace").strip()
    who = f"process {pid}" if pid.isdigit() else "another process"
    return DeviceError(
        f"device {device_id} is busy: {who} of this machine measures on it. Wait until it is done, or end it",
        reason="busy",
        is_transient=True,
    )
