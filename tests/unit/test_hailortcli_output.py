"""How the CSV, JSON and text of `hailortcli` are read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.devices import hailortcli_output as output
from hefjoin.errors import ToolchainError

DEVICE_ID = "0000:01:00.0"
RUN_HEADER = (
    "net_name,status,status_description,fps,num_of_frames,send_rate,recv_rate,hw_latency,overall_latency,min_power,"
    "average_power,max_power,min_current,average_current,max_current,min_temp,average_temp,max_temp\n"
)
BENCHMARK_HEADER = (
    "net_name,fps,hw_only_fps,num_of_frames,num_of_frames_hw_only,hw_latency,overall_latency,min_power,average_power,"
    "max_power\n"
)


class TestRunCsv:
    def test_throughput_with_sensors(self) -> None:
        row = "net,0,HAILO_SUCCESS,1025.61,5130,1235.04,8.2,,,2.04,2.11,2.19,,,,48.31,48.9,49.5\n"
        assert output.runs(RUN_HEADER + row) == [
            output.Run(
                "net",
                fps=1025.61,
                frames=5130,
                power_w=output.Spread(2.04, 2.11, 2.19),
                temperature_c=output.Spread(48.31, 48.9, 49.5),
            )
        ]

    def test_with_latency_the_fps_are_empty_not_zero(self) -> None:
        row = "net,0,HAILO_SUCCESS,,2000,,,1.9,2.31,,,,,,,,,\n"
        assert output.runs(RUN_HEADER + row) == [
            output.Run("net", frames=2000, hw_latency_ms=1.9, overall_latency_ms=2.31)
        ]

    def test_a_failed_run_has_14_columns_and_no_end_of_line(self) -> None:
        row = "net,74,HAILO_OUT_OF_PHYSICAL_DEVICES" + 11 * ","
        assert len(row.split(",")) == 14
        (run,) = output.runs(RUN_HEADER + row)
        assert run == output.Run("net", problem="status 74: HAILO_OUT_OF_PHYSICAL_DEVICES")

    def test_two_failed_groups_on_one_line_are_no_run(self) -> None:
        row = "a,4,HAILO_TIMEOUT" + 11 * ","
        with pytest.raises(ToolchainError):
            output.runs(RUN_HEADER + row + row)

    def test_numbers_large_and_absent(self) -> None:
        row = "net,0,HAILO_SUCCESS,1.02561e+06,N/A,,,,,nan,2.11,2.19,,,,,,\n"
        (run,) = output.runs(RUN_HEADER + row)
        assert (run.fps, run.frames, run.power_w) == (1025610.0, None, None)

    def test_only_a_header_is_no_run(self) -> None:
        assert output.runs(RUN_HEADER) == []

    def test_other_columns_are_named(self) -> None:
        with pytest.raises(ToolchainError, match="no column fps"):
            output.runs("net_name,status,status_description\nnet,0,HAILO_SUCCESS\n")


class TestRun2Json:
    CONTENT = {
        "time": "Mon Sep 29 10:00:00 2025",
        "inference_mode": "full_async",
        "network_groups": [{"name": "net", "full_hef_path": "a.hef", "FPS": "1234.567890"}],
        "time_to_run": "5.00 seconds",
    }

    def test_fps_is_text(self) -> None:
        assert output.run2(json.dumps(self.CONTENT)) == [output.Run("net", fps=1234.56789)]

    def test_latencies_are_numbers_and_sensors_text_with_units(self) -> None:
        group = {"name": "net", "full_hef_path": "a.hef", "hw_latency": 1.9, "overall_latency": 2.3}
        power = {"min": "2.040000 W", "max": "2.190000 W", "average": "2.110000 W"}
        temperature = {"min": "48.300000 C", "max": "49.000000 C", "average": "48.600000 C"}
        device = {"device_id": DEVICE_ID, "power": power, "temperature": temperature}
        (run,) = output.run2(json.dumps({**self.CONTENT, "network_groups": [group], "devices": [device]}))
        assert run == output.Run(
            "net",
            hw_latency_ms=1.9,
            overall_latency_ms=2.3,
            power_w=output.Spread(2.04, 2.11, 2.19),
            temperature_c=output.Spread(48.3, 48.6, 49.0),
        )

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"network_groups": [{}]}', '{"network_groups": 3}'])
    def test_another_form_is_named(self, text: str) -> None:
        with pytest.raises(ToolchainError, match="run2 wrote something else"):
            output.run2(text)


class TestBenchmarkCsv:
    @pytest.mark.parametrize(("power", "found"), [("2.04,2.11,2.19", output.Spread(2.04, 2.11, 2.19)), (",,", None)])
    def test_one_row(self, power: str, found: output.Spread | None) -> None:
        row = f"net,1025.4,1025.61,15381,15384,1.9,,{power}\n"
        assert output.benchmark(BENCHMARK_HEADER + row) == [output.Summary("net", 1025.4, 1025.61, 1.9, found)]


class TestQuestions:
    def test_scan(self) -> None:
        assert output.devices("Hailo devices not found\n") == []
        assert output.devices("Hailo Devices:\n[-] Device: 0000:01:00.0\n[-] Device: b\n") == ["0000:01:00.0", "b"]

    def test_identify_prints_nothing_without_a_device(self) -> None:
        assert output.identity("") == output.Identity("", "")

    def test_identify(self) -> None:
        text = (
            "Executing on device: 0000:01:00.0\nIdentifying board\nControl Protocol Version: 2\n"
            "Firmware Version: 4.23.0 (release,app,extended context switch buffer)\nLogger Version: 0\n"
            "Board Name: Hailo-8\nDevice Architecture: HAILO8L\nSerial Number: <N/A>\n\n"
        )
        assert output.identity(text) == output.Identity("HAILO8L", "4.23.0")


@pytest.mark.parametrize("read", [output.runs, output.run2, output.benchmark], ids=lambda read: read.__name__)
@given(text=st.text() | st.text().map((RUN_HEADER + "net,0,").__add__) | st.text().map(BENCHMARK_HEADER.__add__))
def test_any_text_is_read_or_refused(read: Callable[[str], list[Any]], text: str) -> None:
    with suppress(ToolchainError):
        assert isinstance(read(text), list)


@given(st.floats(min_value=0, max_value=1e9, width=32) | st.none(), st.integers(0, 10**7))
def test_what_is_written_is_read(fps: float | None, frames: int) -> None:
    written = io.StringIO()
    cells = ["net", 0, "HAILO_SUCCESS", "" if fps is None else repr(fps), frames, *[""] * 13]
    csv.writer(written, lineterminator="\n").writerow(cells)
    assert output.runs(RUN_HEADER + written.getvalue()) == [output.Run("net", fps=fps, frames=frames)]
