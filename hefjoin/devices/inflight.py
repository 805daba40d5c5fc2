"""Frames in flight: keeps the queue of a configured model full, or sends one batch at a time.

The rules:

1. Every buffer is allocated before the first frame is sent, C-contiguous, and is not written while it is in flight.
2. One thread sends; the callback, in a thread of HailoRT's, only says when a call is done.
3. An error in a callback is raised here.
"""

from __future__ import annotations

import functools
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hefjoin.errors import DeviceError

Array = npt.NDArray[Any]

CALL_SECONDS, FRAME_SECONDS = 10.0, 1.0
"""Patience with one call, and with each frame of it."""
WARM_UP_QUEUES = 2
LEAST_LATENCIES = 10


class Buffer(NamedTuple):
    """What one input or output of one frame takes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass
class Slot:
    """The frames of one call, with buffers of their own."""

    bindings: list[Any]
    inputs: list[Array]
    outputs: list[dict[str, Array]]
    first_frame: int = 0


class Pipeline:
    """A configured model with buffers for as many frames as its queue holds."""

    def __init__(
        self, configured: Any, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], batch_size: int
    ) -> None:
        """Allocate everything.

        Args:
            configured: `hailo_platform` ConfiguredInferModel.
            inputs: The one input, by name.
            outputs: By name.
            batch_size: Frames of one call; where the queue does not hold two such calls, each frame is a call, so
                that the chip never waits for the host.
        """
        self._configured = configured
        self.batch_size = batch_size
        queue_frames: int = configured.get_async_queue_size()
        self.call_frames = batch_size if 2 * batch_size <= queue_frames else 1
        self._seconds = CALL_SECONDS + FRAME_SECONDS * max(queue_frames, batch_size)
        self._finished: queue.SimpleQueue[tuple[Slot, float, Exception | None]] = queue.SimpleQueue()
        self._in_flight = 0
        self._last_job: Any = None
        self.slots = [self._slot(inputs, outputs) for _ in range(max(1, queue_frames // self.call_frames))]

    @property
    def frames_in_flight(self) -> int:
        """Frames that are under way when the queue is full."""
        return len(self.slots) * self.call_frames

    def fill(self, images: Array) -> None:
        """Put frames into the buffers, the first again where there are too few.

        Args:
            images: (frames, height, width, channels), of the input's type.
        """
        buffers = [buffer for slot in self.slots for buffer in slot.inputs]
        for index, buffer in enumerate(buffers):
            buffer[...] = images[index % len(images)]

    def rounds_fps(self, seconds: float, rounds: int, on_round: Callable[[], None]) -> list[float]:
        """Return frames per second of each round of `seconds / rounds`, the queue full throughout.

        A round lasts from one completed call to another, so nothing of the start or the end is in it.
        """
        found: list[float] = []
        completions = self._keep_full()
        for _ in range(WARM_UP_QUEUES * len(self.slots)):
            start = next(completions)
        for _ in range(rounds):
            end, frames = start, 0
            while end - start < seconds / rounds:
                end = next(completions)
                frames += self.call_frames
            found.append(frames / (end - start))
            start = end
            on_round()
        return found

    def batches(self) -> Iterator[float]:
        """Keep the queue full; yield when each batch was done, on the performance counter."""
        completions = self._keep_full()
        while True:
            for _ in range(self.batch_size // self.call_frames):
                when = next(completions)
            yield when

    def drain(self) -> None:
        """Wait for what is under way."""
        while self._in_flight:
            self._wait()

    def latencies_s(self, seconds: float) -> list[float]:
        """Return the host round trip of one batch after the other, seconds; at least `LEAST_LATENCIES`."""
        self._one_batch()
        found: list[float] = []
        end = time.perf_counter() + seconds
        while len(found) < LEAST_LATENCIES or time.perf_counter() < end:
            found.append(self._one_batch())
        return found

    def run(self, images: Array) -> dict[str, Array]:
        """Return the outputs of every frame, by output: (frames, …); for a batch size of 1."""
        found = {
            name: np.empty((len(images), *buffer.shape), buffer.dtype)
            for name, buffer in self.slots[0].outputs[0].items()
        }

        def collect() -> Slot:
            slot, _ = self._wait()
            for name, buffer in slot.outputs[0].items():
                found[name][slot.first_frame] = buffer
            return slot

        idle = list(self.slots)
        for index, image in enumerate(images):
            slot = idle.pop() if idle else collect()
            slot.first_frame = index
            slot.inputs[0][...] = image
            self._send(slot)
        while self._in_flight:
            collect()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for what is under way; after an error the model's own end aborts it."""
        if kind is not None:
            return
        self.drain()
        if self._last_job is not None:
            self._last_job.wait(self._milliseconds)

    @property
    def _milliseconds(self) -> int:
        return round(1000 * self._seconds)

    def _slot(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Slot:
        slot = Slot([], [], [])
        for _ in range(self.call_frames):
            sent, given = ({name: np.zeros(*each) for name, each in some.items()} for some in (inputs, outputs))
            slot.bindings.append(self._configured.create_bindings(input_buffers=sent, output_buffers=given))
            slot.inputs += sent.values()
            slot.outputs.append(given)
        return slot

    def _keep_full(self) -> Iterator[float]:
        """Send every slot again as soon as it is done; yield when each call was, on the performance counter."""
        for slot in self.slots:
            self._send(slot)
        while True:
            slot, when = self._wait()
            self._send(slot)
            yield when

    def _one_batch(self) -> float:
        """Send one batch into an empty queue and return how long it took."""
        idle, start, end = list(self.slots), time.perf_counter(), 0.0
        for _ in range(self.batch_size // self.call_frames):
            self._send(idle.pop() if idle else self._wait()[0])
        while self._in_flight:
            _, end = self._wait()
        return end - start

    def _send(self, slot: Slot) -> None:
        self._configured.wait_for_async_ready(timeout_ms=self._milliseconds, frames_count=self.call_frames)
        self._in_flight += 1
        self._last_job = self._configured.run_async(slot.bindings, functools.partial(self._done, slot))

    def _done(self, slot: Slot, *, completion_info: Any) -> None:
        """Take HailoRT's call, which comes in a thread of its own."""
        self._finished.put((slot, time.perf_counter(), completion_info.exception))

    def _wait(self) -> tuple[Slot, float]:
        try:
            slot, when, error = self._finished.get(timeout=self._seconds)
        except queue.Empty as missing:
            raise DeviceError(
                f"no frame came back from the device in {self._seconds:.0f} s, {self._in_flight} calls are under way. "
                "Try again; if it stays, reset it: `hailortcli fw-control reset`",
                reason="failed",
                is_transient=True,
            ) from missing
        self._in_flight -= 1
        if error is not None:
            raise error
        return slot, when


def round_fps(pipelines: Sequence[Pipeline], seconds: float) -> float:
    """Return frames per second of one round in which every frame goes through all pipelines, their queues kept full.

    The round lasts from one batch that is through to another, after the queues have gone round; they are empty before
    and after.

    Args:
        pipelines: Of one batch size, on one VDevice; who has the chip when is its scheduler's matter.
        seconds: How long, at least.
    """
    size = pipelines[0].batch_size
    through: Iterator[float] = (max(times) for times in zip(*(each.batches() for each in pipelines), strict=True))
    for _ in range(WARM_UP_QUEUES * -(-max(each.frames_in_flight for each in pipelines) // size)):
        start = next(through)
    end, frames = start, 0
    while end - start < seconds:
        end = next(through)
        frames += size
    for each in pipelines:
        each.drain()
    return frames / (end - start)
