"""Configurations that a model script refers to: whatever JSON they hold, only layers without scope are changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hefjoin.formats.model_script import parse
from hefjoin.formats.model_script_files import config_layers, named_file, scoped_config, with_files

NAMES = st.sampled_from(["", "conv1", "left/conv1", "bbox_decoder41"])
KEYS = st.sampled_from(["name", "reg_layer", "cls_layer", "stride", "bbox_decoders", "classes"])
JSON = st.recursive(
    st.none() | st.integers() | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_once_scoped_every_layer_has_a_scope_and_nothing_more_changes(config: Any) -> None:
    scoped = scoped_config(config, "left")
    assert all("/" in layer for layer in config_layers(scoped))
    assert scoped_config(scoped, "right") == scoped
    assert len(list(config_layers(scoped))) == len(list(config_layers(config)))


def test_names_that_are_not_a_decoders_stay() -> None:
    config = {"name": "yolov8_nms", "classes": 80, "bbox_decoders": [{"name": "d41", "encoded_layer": "conv41"}]}
    assert scoped_config(config, "right") == {
        "name": "yolov8_nms",
        "classes": 80,
        "bbox_decoders": [{"name": "right/d41", "encoded_layer": "right/conv41"}],
    }


def test_a_file_is_a_quoted_first_argument_and_can_be_renamed() -> None:
    script = parse('nms_postprocess("a/b.json", meta_arch=yolov8)\nnms_postprocess(meta_arch=ssd)\nset_seed(seed=1)')
    assert list(map(named_file, script.commands)) == ["a/b.json", "", ""]
    renamed = str(with_files(script, {"a/b.json": "b.json", "": "never"})).splitlines()
    assert renamed == ['nms_postprocess("b.json", meta_arch=yolov8)', *str(script).splitlines()[1:]]


def test_a_file_may_be_given_by_its_keyword() -> None:
    (command,) = parse('nms_postprocess(meta_arch=yolov8, config_path="a/b.json")').commands
    assert named_file(command) == "a/b.json"
    renamed = with_files(parse(str(command)), {"a/b.json": "left.b.json"})
    assert str(renamed) == 'nms_postprocess(meta_arch=yolov8, config_path="left.b.json")\n'
