"""What `step.py` does where releases of the SDK differ; that it does its work is tested through `run_step`."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hefjoin.sdk import step

LEFT, RIGHT = {"resnet": "left"}, {"resnet": "right"}


class InvalidArgumentsException(Exception):
    """As the SDK names it."""


class Runner:
    """A `ClientRunner` of a release that takes no dictionaries of scopes."""

    def __init__(self, refusal: Exception) -> None:
        self.refusal = refusal
        self.calls: list[tuple[Any, Any]] = []

    def join(self, runner: Any, scope1_name: Any, scope2_name: Any, join_action: str) -> None:
        assert join_action == "auto"
        self.calls.append((scope1_name, scope2_name))
        if isinstance(scope1_name, dict):
            raise self.refusal


SDK: Any = SimpleNamespace(JoinAction=SimpleNamespace(AUTO_JOIN_INPUTS="auto"))


class TestScopes:
    @pytest.mark.parametrize(
        "refusal", [TypeError("expected str"), InvalidArgumentsException("scope1_name must be a string")]
    )
    def test_a_release_without_dictionaries_gets_the_new_names(self, refusal: Exception) -> None:
        runner = Runner(refusal)
        step._join(SDK, runner, None, LEFT, RIGHT)
        assert runner.calls == [(LEFT, RIGHT), ("left", "right")]

    def test_another_refusal_is_passed_on(self) -> None:
        runner = Runner(InvalidArgumentsException("the inputs differ"))
        with pytest.raises(InvalidArgumentsException, match="the inputs differ"):
            step._join(SDK, runner, None, LEFT, RIGHT)
        assert len(runner.calls) == 1

    def test_a_string_cannot_name_several_scopes(self) -> None:
        runner = Runner(TypeError("expected str"))
        with pytest.raises(TypeError, match="expected str"):
            step._join(SDK, runner, None, {"left": "left", "middle": "middle"}, RIGHT)
        assert len(runner.calls) == 1


class TestResolvedScript:
    def har(self, folder: Path, mode: Any, **members: str) -> str:
        path = folder / "compiled.har"
        with tarfile.open(path, mode) as archive:
            for name, text in members.items():
                entry = tarfile.TarInfo(name.replace("__", "."))
                entry.size = len(text)
                archive.addfile(entry, BytesIO(text.encode()))
        return str(path)

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    def test_is_found_beside_the_users_own(self, tmp_path: Path, mode: str) -> None:
        har = self.har(tmp_path, mode, net__alls="own", net__auto__alls="resolved")
        assert step._member(har, ".auto.alls") == b"resolved"

    def test_may_be_absent(self, tmp_path: Path) -> None:
        assert step._member(self.har(tmp_path, "w", net__alls="own"), ".auto.alls") is None


class Analyzed:
    """A `ClientRunner` whose statistics are one flat dictionary, or one of dictionaries."""

    def __init__(self, statistics: dict[str, Any]) -> None:
        self.statistics = statistics

    def analyze_noise(self, frames: Any, batch_size: int, data_count: int) -> None:
        assert (batch_size, data_count) == (1, len(frames))

    def get_params_statistics(self) -> dict[str, Any]:
        return self.statistics

    def get_hn_dict(self) -> dict[str, Any]:
        return {"layers": {"a/conv1": {}, "a/fc1": {}, "a/output_layer1": {}}}


class TestNoise:
    def test_all_figures_are_taken_where_they_are_told(self) -> None:
        place = "a/conv1/layer_noise_analysis/"
        told = {"snr": [31.0, 29.5], "cosine": [0.99], "own_snr": [40.0], "own_cosine": [0.999]}
        found = step._noise(Analyzed({f"{place}{kind}": value for kind, value in told.items()}), [0, 0])
        assert found == {"a/conv1": {"snr_db": 29.5, "cosine": 0.99, "own_snr_db": 40.0, "own_cosine": 0.999}}

    def test_the_simple_analysis_serves_where_the_advanced_one_was_not_made(self) -> None:
        statistics = {
            "a/conv1": {"layer_noise_analysis/partial_snr": 20.0},
            "a/fc1": {"layer_noise_analysis/partial_snr": 20.0, "layer_noise_analysis/snr": 18.0},
        }
        assert step._noise(Analyzed(statistics), [0]) == {"a/conv1": {"snr_db": 20.0}, "a/fc1": {"snr_db": 18.0}}


def test_an_output_is_compared_by_number_and_by_bit() -> None:
    import numpy as np

    exact = np.array([[1.0, -4.0], [2.0, 3.0]], np.float32)
    same = step._compared("left/fc1", exact.copy(), exact)
    other = step._compared("left/fc1", exact + np.float32(0.5), exact)
    assert same == {
        "layer": "left/fc1", "frames": 2, "max_abs_difference": 0.0, "largest_value": 4.0, "is_bit_equal": True
    }  # fmt: skip
    assert (other["max_abs_difference"], other["is_bit_equal"]) == (0.5, False)


def test_a_network_that_cannot_run_as_parsed_costs_a_comparison_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(har: str) -> Any:
        raise MemoryError(f"no room for {har}")

    assert step._as_parsed(SimpleNamespace(ClientRunner=fails), "joined.har", [], [], []) == {}  # type: ignore[arg-type]
    told = "[warning] the network as parsed cannot be compared: MemoryError: no room for joined.har\n"
    assert capsys.readouterr().out == told
