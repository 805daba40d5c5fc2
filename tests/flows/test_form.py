"""The parameters of a build: what the server refuses by their schema, and what the first task says of the rest."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate

from flows.build import join_and_compile, join_and_compile_file
from hefjoin.errors import SpecError
from hefjoin.spec import BuildSpec
from tests.flows.runs import task_runs
from tests.tiny import pair, write_pair

SCHEMA = parameter_schema(join_and_compile).model_dump_for_openapi()


def refusal(**parameters: Any) -> str:
    """Return what the server says of parameters; it calls the same function."""
    with pytest.raises(ValidationError) as caught:
        validate(parameters, SCHEMA, raise_on_error=True)
    return str(caught.value)


class TestSchema:
    def test_a_spec_is_the_model_and_may_be_left_out(self) -> None:
        spec, model = SCHEMA["properties"]["spec"], BuildSpec.model_json_schema()
        assert (spec["type"], list(spec["properties"])) == ("object", list(model["properties"]))
        assert (spec["required"], spec["additionalProperties"]) == (model["required"], False)
        assert not SCHEMA.get("required")
        assert "anyOf" not in json.dumps(SCHEMA)
        assert set(SCHEMA["definitions"]) == set(model["$defs"])

    def test_a_form_that_asks_for_a_file_asks_for_nothing_of_the_spec(self) -> None:
        file_schema = parameter_schema(join_and_compile_file).model_dump_for_openapi()
        assert file_schema["required"] == ["spec_file"]
        assert file_schema["properties"].keys() == SCHEMA["properties"].keys() - {"spec"}

    def test_what_comes_first_is_what_is_filled_in(self) -> None:
        ordered = sorted(SCHEMA["properties"], key=lambda name: SCHEMA["properties"][name]["position"])
        assert ordered[:2] == ["spec", "spec_file"]
        assert ordered[-1] == "force"

    def test_one_of_both_is_enough(self) -> None:
        assert validate({"spec": pair()}, SCHEMA, raise_on_error=True) == []
        assert validate({"spec_file": "s3://nets/pair.yaml"}, SCHEMA, raise_on_error=True) == []

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"colour": "bgr"}, "'spec'"),
            ({"name": "Tiny Pair"}, "'spec.name'"),
            ({"models": pair()["models"][:1]}, "'spec.models'"),
            ({"calibration": {"source": "x", "count": 0}}, "'spec.calibration.count'"),
            ({"quantization": {"precision": "a4_w4"}}, "'spec.quantization.precision'"),
            ({"benchmark": {"batch_sizes": [1, 0]}}, "'spec.benchmark.batch_sizes[1]'"),
        ],
    )
    def test_a_wrong_field_is_named(self, change: dict[str, Any], field: str) -> None:
        assert f"Validation failed for field {field}" in refusal(spec=pair(**change))

    def test_an_unknown_or_missing_key_is_named(self) -> None:
        assert "'colour' was unexpected" in refusal(spec=pair(colour="bgr"))
        assert "'models' is a required property" in refusal(spec={"name": "tiny", "calibration": {"source": "x"}})

    @pytest.mark.parametrize("spec", ["pair.yaml", 3, [], True])
    def test_a_spec_is_an_object(self, spec: Any) -> None:
        assert "is not of type 'object'" in refusal(spec=spec)


class TestFirstTask:
    def test_rules_between_fields_are_all_told_by_us(self) -> None:
        raw = copy.deepcopy(pair())
        raw["models"][1] |= {"name": "LEFT", "std": [1.0]}
        validate({"spec": raw}, SCHEMA, raise_on_error=True)
        state: Any = join_and_compile(spec=raw, return_state=True)
        error = state.result(raise_on_failure=False)
        assert isinstance(error, SpecError)
        assert [problem.path for problem in error.problems] == ["models[1].name", "models[1].std"]
        assert str(error) in state.message
        runs = task_runs(state.state_details.flow_run_id, 1)
        assert {name: run.state.name for name, run in runs.items()} == {"read spec": "Failed"}

    @pytest.mark.parametrize("parameters", [{}, {"spec": pair(), "spec_file": "pair.yaml"}])
    def test_one_of_both_has_to_be_given(self, parameters: dict[str, Any]) -> None:
        state: Any = join_and_compile(**parameters, return_state=True)
        assert "given" in state.message

    def test_a_file_gives_the_run_its_name_and_all_its_problems(self, tmp_path: Path) -> None:
        path = write_pair(tmp_path, pair(name="other", evaluation={"source": "nowhere.npy"}))
        (tmp_path / "left.onnx").unlink()
        state: Any = join_and_compile(spec_file=str(path), return_state=True)
        error = state.result(raise_on_failure=False)
        assert isinstance(error, SpecError)
        assert [problem.path for problem in error.problems] == ["models[0].source", "evaluation.source"]
        with get_client(sync_client=True) as client:
            assert client.read_flow_run(state.state_details.flow_run_id).name == "build tiny"

    def test_a_file_that_is_no_spec_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "pair.yaml"
        path.write_text(yaml.safe_dump({"name": "x"}), encoding="utf-8")
        state: Any = join_and_compile(spec_file=str(path), return_state=True)
        assert f"{path} has 2 problems" in state.message
