"""The chip behind the fake: its switches, who holds it, what it computes and how long that takes."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

SWITCHES = "FAKE_HAILORT"
POWER_SECONDS = 2 * 1100e-6 * 256
STREAM_ABORT = 63
TAKES = {"HAILO8": (1, 2, 3), "HAILO8L": (3,), "HAILO15H": (103, 104, 105)}


@dataclass(frozen=True)
class Settings:
    """What FAKE_HAILORT may say, as JSON; an unknown key is an error."""

    devices: list[str] = field(default_factory=lambda: ["0000:01:00.0"])
    architecture: str = "HAILO8"
    version: str = "4.23.0"
    driver: str = ""
    """Of another version than the library: every use of the device ends with status 76."""
    firmware: str = ""
    busy: bool = False
    """Another program holds the chip."""
    vanishes: bool = False
    """The device is listed and gone when it is opened."""
    permission: bool = True
    power_sensor: bool = True
    power_w: float = 2.5
    thermal_sensor: bool = True
    throttling: bool = False
    """The chip has slowed itself down."""
    protection: bool = True
    """Throttling is switched on, as it is on every healthy chip."""
    frame_ms: float = 2.0
    frame_ms_of: dict[str, float] = field(default_factory=dict)
    """By the name of a model's input, where a model takes another time."""
    switch_ms: float = 0.0
    """What it takes until the chip is another model's."""
    queue: int = 4
    fail_frame: int = -1
    """The number of the frame, from 0, whose callback brings `fail_status`."""
    fail_status: int = 36
    hangs: bool = False
    """Nothing ever completes."""
    lock_folder: str = field(default_factory=tempfile.gettempdir)

    @property
    def is_driver_right(self) -> bool:
        return self.driver in ("", self.version)


def settings() -> Settings:
    return Settings(**json.loads(os.environ.get(SWITCHES, "{}")))


_held: dict[tuple[str, str], tuple[IO[str], int]] = {}


def claim(device_id: str, group: str) -> bool:
    """Hold a chip for this process; VDevices of one named group share it."""
    if settings().busy:
        return False
    if group != "UNIQUE" and (device_id, group) in _held:
        handle, users = _held[device_id, group]
        _held[device_id, group] = (handle, users + 1)
        return True
    handle = (Path(settings().lock_folder) / f"fake-chip-{device_id.replace(':', '_')}").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    _held[device_id, group] = (handle, 1)
    return True


def let_go(device_id: str, group: str) -> None:
    handle, users = _held.pop((device_id, group))
    if users > 1:
        _held[device_id, group] = (handle, users - 1)
    else:
        handle.close()


def stored_output(name: str, shape: tuple[int, ...], dtype: str, sent: bytes) -> np.ndarray[Any, Any]:
    """Return the integers that an output holds for an input: any, but always the same."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(zlib.crc32(sent, zlib.crc32(name.encode())))
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def stored_detections(name: str, classes: int, boxes: int, sent: bytes) -> np.ndarray[Any, Any]:
    """Return what an output of detections holds for an input: for each class a count, then five values a detection.

    The classes follow each other without a gap, so only the front of the buffer has a meaning.
    """
    rng = np.random.default_rng(zlib.crc32(sent, zlib.crc32(name.encode())))
    buffer = np.full(classes * (1 + 5 * boxes), np.nan, np.float32)
    start = 0
    for count in rng.integers(0, min(boxes, 3), classes, endpoint=True):
        buffer[start] = count
        buffer[start + 1 : start + 1 + 5 * count] = rng.random(5 * count, np.float32)
        start += 1 + 5 * int(count)
    return buffer


class PowerSensor:
    """One per chip: has a new value every 563 ms, and zeros for whoever asks sooner."""

    running: set[str] = set()

    def __init__(self) -> None:
        self.is_set = False
        self.since: float | None = None


class _Clock:
    """When the chip is free: there is one, however many models are configured on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at, self._holder = 0.0, None

    def take(self, holder: Any, sent_at: float, frame_ms: float) -> float:
        """Return when a frame is done that was sent at a time."""
        with self._lock:
            switch_ms = settings().switch_ms if self._holder not in (None, holder) else 0.0
            self._free_at = max(self._free_at, sent_at) + (switch_ms + frame_ms) / 1e3
            self._holder = holder
            return self._free_at


_clock = _Clock()


class Pipe:
    """Runs calls one after the other, each frame in its time, and calls back from a thread of its own."""

    def __init__(self, name: str, compute: Callable[[Any], None]) -> None:
        self._name, self._compute = name, compute
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.status = 0
        """Other than 0 once a frame failed or it was shut down: it is of no more use, all that is under way ends so."""
        self._pending_frames = 0
        self._changed = threading.Condition()
        self._frames = 0
        self._free_at = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        return settings().queue

    def has_room(self, frames: int) -> bool:
        return self._pending_frames + frames <= self.size

    def wait_for_room(self, frames: int, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.has_room(frames), seconds)

    def send(self, frames: list[Any], done: Callable[[int], None]) -> None:
        with self._changed:
            self._pending_frames += len(frames)
        self._calls.put((time.perf_counter(), frames, done))

    def shut_down(self) -> None:
        """Abort what is under way and wait for its callbacks."""
        self.status = self.status or STREAM_ABORT
        self._calls.put(None)
        if not settings().hangs and threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            sent_at, frames, done = call
            while settings().hangs:
                time.sleep(0.05)
            switches = settings()
            for frame in frames:
                if not self.status:
                    frame_ms = switches.frame_ms_of.get(self._name, switches.frame_ms)
                    self._free_at = _clock.take(self, sent_at, frame_ms)
                    self._compute(frame)
                    self.status = switches.fail_status if self._frames == switches.fail_frame else self.status
                    self._frames += 1
            time.sleep(max(0.0, self._free_at - time.perf_counter()))
            with self._changed:
                self._pending_frames -= len(frames)
                self._changed.notify_all()
            done(self.status)
