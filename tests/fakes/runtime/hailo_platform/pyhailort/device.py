"""A device opened for control: what it is, its temperature, its power. It does not claim the chip."""

from __future__ import annotations

import time
from enum import IntEnum
from types import SimpleNamespace, TracebackType

from hailo_platform.pyhailort import _pyhailort, chip
from hailo_platform.pyhailort._pyhailort import (
    AveragingFactor,
    DvmTypes,
    MeasurementBufferIndex,
    PowerMeasurementTypes,
    SamplingPeriod,
)
from hailo_platform.pyhailort.errors import HailoRTException, error_of


class DeviceArchitectureTypes(IntEnum):
    HAILO8_A0 = 0
    HAILO8 = 1
    HAILO8L = 2
    HAILO15H = 3
    HAILO15L = 4
    HAILO15M = 5
    HAILO10H = 6


class Device:
    def __init__(self, device_id: str | None = None) -> None:
        switches = chip.settings()
        if device_id is None and not switches.devices:
            raise HailoRTException("HailoRT device not found in the system")
        self._id = device_id or switches.devices[0]
        for is_wrong, status in (
            (self._id not in switches.devices, "2"),
            (not switches.permission, "36"),
            (not switches.is_driver_right, "76"),
        ):
            if is_wrong:
                raise _pyhailort.HailoRTStatusException(status)
        self._control: Control | None = Control(self._id)

    @staticmethod
    def scan() -> list[str]:
        return list(chip.settings().devices)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        self._control = None

    @property
    def device_id(self) -> str:
        return self._id

    @property
    def control(self) -> Control:
        if self._control is None:
            raise error_of(6)
        return self._control


class Control:
    def __init__(self, device_id: str) -> None:
        self._id = device_id
        self._power = chip.PowerSensor()

    def identify(self) -> SimpleNamespace:
        switches = chip.settings()
        return SimpleNamespace(
            protocol_version=2,
            firmware_version=f"{switches.firmware or switches.version} (release,app)",
            logger_version=0,
            board_name="Hailo-8\0\0",
            is_release=True,
            device_architecture=DeviceArchitectureTypes[switches.architecture],
            serial_number="HLLWM2A000000000\0",
            part_number="HM218B1C2FAE\0",
            product_name="HAILO-8 AI ACC M.2 M KEY MODULE\0",
        )

    def get_chip_temperature(self) -> SimpleNamespace:
        if not chip.settings().thermal_sensor:
            raise error_of(18)
        return SimpleNamespace(ts0_temperature=47.5, ts1_temperature=48.25, sample_count=1)

    def get_throttling_state(self) -> bool:
        """Return whether throttling is switched on, not whether the chip is slowed down."""
        return chip.settings().protection

    def _get_health_information(self) -> SimpleNamespace:
        return SimpleNamespace(
            current_temperature_throttling_level=1 if chip.settings().throttling else -1,
            current_overcurrent_zone=0,
            temperature_throttling_active=chip.settings().protection,
        )

    def set_power_measurement(
        self,
        buffer_index: MeasurementBufferIndex = MeasurementBufferIndex.MEASUREMENT_BUFFER_INDEX_0,
        dvm: DvmTypes = DvmTypes.AUTO,
        measurement_type: PowerMeasurementTypes = PowerMeasurementTypes.AUTO,
    ) -> None:
        if not chip.settings().power_sensor:
            raise error_of(48)
        self._power.is_set = True

    def start_power_measurement(
        self,
        averaging_factor: AveragingFactor = AveragingFactor.AVERAGE_256,
        sampling_period: SamplingPeriod = SamplingPeriod.PERIOD_1100us,
    ) -> None:
        if not self._power.is_set:
            raise error_of(18)
        self._power.since = time.perf_counter()
        chip.PowerSensor.running.add(self._id)

    def get_power_measurement(
        self,
        buffer_index: MeasurementBufferIndex = MeasurementBufferIndex.MEASUREMENT_BUFFER_INDEX_0,
        should_clear: bool = True,
    ) -> SimpleNamespace:
        if self._power.since is None:
            raise error_of(18)
        samples = int((time.perf_counter() - self._power.since) / chip.POWER_SECONDS)
        if should_clear and samples:
            self._power.since = time.perf_counter()
        watts = chip.settings().power_w if samples else 0.0
        return SimpleNamespace(
            average_value=watts,
            average_time_value_milliseconds=1e3 * chip.POWER_SECONDS,
            min_value=0.9 * watts,
            max_value=1.1 * watts,
            total_number_of_samples=samples,
        )

    def stop_power_measurement(self) -> None:
        self._power.since = None
        chip.PowerSensor.running.discard(self._id)
