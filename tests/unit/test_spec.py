"""The spec: every limit, every rule between fields, all problems at once, and a schema that a form can show."""

from __future__ import annotations

import copy
import json
import math
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from hefjoin.errors import SpecError
from hefjoin.spec import BuildSpec, Precision, validate_spec
from tests.tiny import pair


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the spec of a pair with one value set; `path` as in messages: `models[1].mean`."""
    raw = copy.deepcopy(pair())
    for model in raw["models"]:
        del model["mean"], model["std"]
    keys = [int(key) if key.isdigit() else key for key in path.replace("[", ".").replace("]", "").split(".")]
    place: Any = raw
    for key in keys[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[keys[-1]] = value
    return raw


def problems(raw: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        validate_spec(raw)
    assert len({path for path, _ in caught.value.problems}) == len(caught.value.problems)
    return dict(caught.value.problems)


MODEL = {"name": "third", "source": "c.onnx"}
REFUSED = [
    ("name", "Tiny", "does not match"),
    ("name", "-tiny", "does not match"),
    ("name", "tiny/pair", "does not match"),
    ("name", "tiny\n", "does not match"),
    ("name", "a" * 81, "at most 80"),
    ("models", [MODEL], "at least 2"),
    ("models", [{"name": f"m{i}", "source": "a.onnx"} for i in range(9)], "at most 8"),
    ("models[0].name", "1st", "does not match"),
    ("models[0].name", "a/b", "does not match"),
    ("models[0].name", "a-b", "does not match"),
    ("models[0].name", "a" * 41, "at most 40"),
    ("models[0].source", "", "at least 1"),
    ("models[0].source", "left.pt", "neither an .onnx nor a .har"),
    ("models[0].mean", [1.0] * 5, "at most 4"),
    ("models[0].std", [1.0] * 5, "at most 4"),
    ("models[0].color", "grey", "'rgb' or 'bgr'"),
    ("models[0].input_shape", [1, 3, 8, 8, 8], "at most 4"),
    ("models[0].input_shape", [3, 8, 8], "3 dimensions, an image input has 4"),
    ("models[0].metric", "top5", "'top5' is no metric; there are top-1, top-5 (any k), iou, iou@0.3"),
    ("models[0].metric", "top-0", "is no metric"),
    ("models[0].metric", "mae\n", "is no metric"),
    ("models[0].metric", "os.path:join:x", "is no metric"),
    ("models[0].metric", "a" * 200 + ":f", "at most 200"),
    ("calibration.source", "", "at least 1"),
    ("calibration.count", 0, "greater than or equal to 1"),
    ("calibration.count", 65537, "less than or equal to 65536"),
    ("evaluation.count", 0, "greater than or equal to 1"),
    ("evaluation.count", 65537, "less than or equal to 65536"),
    ("hw_arch", "hailo10h", "'hailo8' or 'hailo8l'"),
    ("quantization.precision", "a4_w4", "'a8_w8'"),
    ("quantization.optimization_level", -1, "greater than or equal to 0"),
    ("quantization.optimization_level", 5, "less than or equal to 4"),
    ("compile.single_context", "perhaps", "valid boolean"),
    ("compile.target_fps", -1, "greater than or equal to 0"),
    ("compile.target_fps", 1.5, "valid integer"),
    ("benchmark.seconds", 0, "greater than 0"),
    ("benchmark.seconds", 3601, "less than or equal to 3600"),
    ("benchmark.batch_sizes", [], "at least 1"),
    ("benchmark.batch_sizes", [1] * 9, "at most 8"),
    ("benchmark.device", "gpu", "'hailort' or 'hailortcli'"),
    ("gates.min_snr_db", -1, "greater than or equal to 0"),
    ("gates.max_accuracy_drop", -1, "greater than or equal to 0"),
    ("gates.max_accuracy_drop", 100.5, "less than or equal to 100"),
    ("gates.min_fps", -1, "greater than or equal to 0"),
    ("gates.max_regression_percent", -1, "greater than or equal to 0"),
    ("gates.max_regression_percent", 100.5, "less than or equal to 100"),
]
REFUSED_INSIDE = [
    ("models[0].std", [1, 0, 1], "models[0].std[1]", "greater than 0"),
    ("models[0].input_shape", [1, 3, 0, 8], "models[0].input_shape[2]", "greater than 0"),
    ("benchmark.batch_sizes", [1, 0], "benchmark.batch_sizes[1]", "greater than or equal to 1"),
    ("benchmark.batch_sizes", [257], "benchmark.batch_sizes[0]", "less than or equal to 256"),
]
ALLOWED = [
    ("name", "a" * 80),
    ("name", "0.tiny_pair-2"),
    ("models", [{"name": f"m{i}", "source": "a.onnx"} for i in range(8)]),
    ("models[0].name", "A" * 40),
    ("models[0].source", "package://rapidocr/models/DET.ONNX"),
    ("models[0].source", "s3://bucket/left.har"),
    ("models[0].mean", []),
    ("models[0].color", "bgr"),
    ("models[0].input_shape", [1, 3, 8, 8]),
    ("models[0].input_shape", [1, 8, 8, 3]),
    ("models[0].metric", ""),
    ("models[0].metric", "top-5"),
    ("models[0].metric", "iou@-12.25"),
    ("models[0].metric", "our_package.metrics:edit_distance"),
    ("calibration.count", 65536),
    ("quantization.optimization_level", 4),
    ("benchmark.seconds", 3600),
    ("benchmark.batch_sizes", [256] * 8),
    ("gates.max_accuracy_drop", 100),
    ("gates.max_regression_percent", 0),
    ("gates.max_regression_percent", 100),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_each_limit_is_held_and_named(path: str, value: Any, message: str) -> None:
    found = problems(changed(path, value))
    assert list(found) == [path]
    assert message in found[path]


@pytest.mark.parametrize(("path", "value", "where", "message"), REFUSED_INSIDE)
def test_a_limit_inside_a_list_names_the_item(path: str, value: Any, where: str, message: str) -> None:
    found = problems(changed(path, value))
    assert list(found) == [where]
    assert message in found[where]


@pytest.mark.parametrize(("path", "value"), ALLOWED)
def test_what_lies_on_a_limit_is_taken(path: str, value: Any) -> None:
    validate_spec(changed(path, value))


class TestFieldsAmongEachOther:
    def test_names_must_differ_in_more_than_case(self) -> None:
        assert problems(changed("models[1].name", "LEFT")) == {
            "models[1].name": "'LEFT' is also the name of models[0]; names are scopes and must differ in more than case"
        }

    def test_mean_and_std_have_as_many_values(self) -> None:
        raw = changed("models[1].mean", [1.0])
        raw["models"][1]["std"] = [1.0, 2.0, 3.0]
        assert problems(raw) == {"models[1].std": "3 values, mean has 1 value"}

    @pytest.mark.parametrize("shape", [[1, 1, 28, 28], [1, 28, 28, 1]])
    @pytest.mark.parametrize("field", ["mean", "std"])
    def test_there_is_a_value_for_each_channel(self, shape: list[int], field: str) -> None:
        raw = changed("models[1].input_shape", shape)
        raw["models"][1][field] = [1.0, 2.0, 3.0]
        assert problems(raw) == {f"models[1].{field}": "3 values, input has 1 channel"}

    @pytest.mark.parametrize("field", ["mean", "std"])
    def test_one_of_mean_and_std_is_enough(self, field: str) -> None:
        validate_spec(changed(f"models[0].{field}", [60.0, 58.0, 57.0]))

    def test_the_api_path_refuses_them_too(self) -> None:
        raw = changed("models[1].name", "LEFT")
        raw["models"][0] |= {"mean": [1.0], "std": [1.0, 2.0]}
        with pytest.raises(ValidationError, match=r"models\[0\]\.std: 2 values.*models\[1\]\.name: 'LEFT'"):
            BuildSpec.model_validate(raw)


def test_five_mistakes_are_five_problems_with_their_paths() -> None:
    raw = {
        **pair(name="Tiny Pair", gates={"min_fps": -1}, calibration={"source": "images.npy", "count": 0}),
        "models": [
            {"name": "left", "source": "left.onnx", "colour": "bgr"},
            {"name": "right", "source": "right.onnx", "mean": [1, 2, 3], "input_shape": [1, 1, 16, 16]},
        ],
    }
    with pytest.raises(SpecError) as caught:
        validate_spec(raw, "pair.yaml")
    assert sorted(path for path, _ in caught.value.problems) == [
        "calibration.count",
        "gates.min_fps",
        "models[0].colour",
        "models[1].mean",
        "name",
    ]
    assert str(caught.value).startswith("pair.yaml has 5 problems:\n")
    assert "models[1].mean: 3 values, input has 1 channel" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 6


class TestUnknownAndMissing:
    @pytest.mark.parametrize(
        ("path", "near"),
        [
            ("nmae", "'name'"),
            ("models[0].colour", "'color'"),
            ("calibration.counts", "'count'"),
            ("quantization.precison", "'precision'"),
            ("gates.min_snr", "'min_snr_db'"),
        ],
    )
    def test_an_unknown_key_suggests_the_nearest(self, path: str, near: str) -> None:
        assert problems(changed(path, 1)) == {path: f"unknown key; did you mean {near}?"}

    def test_one_that_is_near_nothing_lists_what_is_known(self) -> None:
        assert problems(changed("calibration.zzz", 1)) == {"calibration.zzz": "unknown key; known: count, source"}

    @pytest.mark.parametrize("field", ["name", "models", "calibration"])
    def test_a_missing_field_is_named(self, field: str) -> None:
        raw = pair()
        del raw[field]
        assert problems(raw) == {field: "is required"}

    @pytest.mark.parametrize("raw", [None, [], "text", 3])
    def test_a_spec_is_a_mapping(self, raw: Any) -> None:
        assert "a mapping of fields is wanted" in problems(raw)[""]


def test_a_dumped_spec_is_taken_as_itself() -> None:
    spec = validate_spec(pair())
    assert validate_spec(json.loads(spec.model_dump_json())) == spec


class TestOnlyRealProblems:
    @pytest.mark.parametrize(("field", "value"), [("mean", math.nan), ("mean", math.inf), ("std", math.inf)])
    def test_a_normalization_is_finite(self, field: str, value: float) -> None:
        assert list(problems(changed(f"models[0].{field}", [1.0, value, 1.0]))) == [f"models[0].{field}[1]"]

    def test_a_broken_shape_is_one_problem(self) -> None:
        assert list(problems(changed("models[0].input_shape", [1, [3], 8, 8]))) == ["models[0].input_shape[1]"]

    def test_a_text_is_not_counted_as_values(self) -> None:
        raw = changed("models[0].mean", "abcd")
        raw["models"][0]["std"] = [1.0, 2.0, 3.0]
        assert list(problems(raw)) == ["models[0].mean"]

    def test_a_long_value_is_cut(self) -> None:
        assert len(problems(changed("hw_arch", "x" * 10_000))["hw_arch"]) < 300

    def test_a_missing_name_is_no_second_use(self) -> None:
        raw = changed("models[0].name", None)
        raw["models"][1]["name"] = "none"
        assert list(problems(raw)) == ["models[0].name"]


def _objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    yield from schema["$defs"].values()


class TestSchema:
    schema = BuildSpec.model_json_schema()

    def test_has_no_unions_and_no_free_dictionaries(self) -> None:
        text = json.dumps(self.schema)
        assert not [word for word in ("anyOf", "oneOf", "allOf", "patternProperties") if f'"{word}"' in text]
        for record in _objects(self.schema):
            assert record["additionalProperties"] is False

    def test_is_at_most_two_levels_deep(self) -> None:
        for name, section in self.schema["$defs"].items():
            assert "$ref" not in json.dumps(section), f"{name} holds a section of its own"

    def test_orders_the_fields_of_every_form(self) -> None:
        for record in _objects(self.schema):
            positions = [field["position"] for field in record["properties"].values()]
            assert positions == list(range(len(positions)))

    def test_every_plain_field_says_what_it_is(self) -> None:
        for record in _objects(self.schema):
            plain = {name: f for name, f in record["properties"].items() if "type" in f and name != "models"}
            assert not [name for name, field in plain.items() if not field.get("description")]

    def test_precisions_are_those_of_the_chip(self) -> None:
        table = tomllib.loads((files("hefjoin.forecast") / "hailo8.toml").read_text(encoding="utf-8"))
        assert list(get_args(Precision)) == table["precision"]["modes"]

    def test_chips_are_those_of_the_table(self) -> None:
        table = tomllib.loads((files("hefjoin.forecast") / "hailo8.toml").read_text(encoding="utf-8"))
        assert self.schema["properties"]["hw_arch"]["enum"] == list(table["chips"])
