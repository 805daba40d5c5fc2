"""The chip's own sensors, read beside a measurement: power, temperature, throttling.

The rules:

1. A sensor is read no faster than it has something new to say.
2. What cannot be read is "not available" with the chip's own reason, never 0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

from hefjoin.results.measured import Range

SAMPLE_SECONDS = 0.6
"""A little more than the 563 ms after which the power sensor has a new value: 2 · 1100 µs · 256, HailoRT's defaults."""
STOP_SECONDS = 10.0

ValueT = TypeVar("ValueT")


class Sensors:
    """Samples a device in a thread of its own while the `with` block runs; the figures are there afterwards."""

    def __init__(self, control: Any, failures: tuple[type[Exception], ...]) -> None:
        """Prepare to sample.

        Args:
            control: `hailo_platform.Device.control`.
            failures: What its calls raise where a board has no such sensor.
        """
        self._control = control
        self._failures = failures
        self._powers: list[Range] = []
        self._temperatures: list[float] = []
        self._throttled: list[bool] = []
        self._missing: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="hailo-sensors", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(STOP_SECONDS)

    @property
    def power_w(self) -> Range | None:
        """Power, watts; the mean is weighted by how many samples the chip took for each value."""
        samples = sum(power.samples for power in self._powers)
        if not samples:
            return None
        mean = sum(power.mean * power.samples for power in self._powers) / samples
        low, high = min(power.low for power in self._powers), max(power.high for power in self._powers)
        return Range(low=low, mean=mean, high=high, samples=samples)

    @property
    def temperature_c(self) -> Range | None:
        """Temperature of the warmer of the chip's two sensors, °C."""
        found = self._temperatures
        if not found:
            return None
        return Range(low=min(found), mean=sum(found) / len(found), high=max(found), samples=len(found))

    @property
    def is_throttled(self) -> bool | None:
        """Whether the chip slowed itself down at any sample; None where it cannot be asked."""
        return any(self._throttled) if self._throttled else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, and why."""
        missing = dict(self._missing)
        if self.power_w is None:
            missing.setdefault("power", f"the measurement was over before the sensor's first {SAMPLE_SECONDS} s")
        return tuple(f"{what}: not available ({why})" for what, why in missing.items())

    def _sample(self) -> None:
        self._try("power", self._start_power)
        is_started = "power" not in self._missing
        try:
            while True:
                self._try("temperature", self._read_temperature)
                self._try("throttling", self._read_throttling)
                if self._ended.wait(SAMPLE_SECONDS):
                    break
                self._try("power", self._read_power)
        finally:
            if is_started:
                with suppress(*self._failures):
                    self._control.stop_power_measurement()

    def _try(self, what: str, call: Callable[[], object]) -> None:
        """Make a call unless an earlier one showed that the board cannot answer."""
        if what in self._missing:
            return
        try:
            call()
        except self._failures as error:
            self._missing[what] = str(error)

    def _start_power(self) -> None:
        self._control.set_power_measurement()
        self._control.start_power_measurement()

    def _read_power(self) -> None:
        found = self._control.get_power_measurement()
        if found.total_number_of_samples:
            self._powers.append(
                Range(
                    low=found.min_value,
                    mean=found.average_value,
                    high=found.max_value,
                    samples=found.total_number_of_samples,
                )
            )

    def _read_temperature(self) -> None:
        found = self._control.get_chip_temperature()
        self._temperatures.append(max(found.ts0_temperature, found.ts1_temperature))

    def _read_throttling(self) -> None:
        """Read what slows the chip down now: a temperature level above none (-1), or too high a current (zone not 0).

        `get_throttling_state` does not say it: it is true on every chip whose protection is switched on.
        """
        health = getattr(self._control, "_get_health_information", None)
        if health is None:
            self._missing["throttling"] = "this HailoRT does not say it"
            return
        found = health()
        too_warm = int(found.current_temperature_throttling_level) >= 0
        self._throttled.append(too_warm or int(found.current_overcurrent_zone) != 0)
