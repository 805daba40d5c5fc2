"""The printed schemas, against a validator that is not ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator, ValidationError

from flows.cli import main
from hefjoin.manifest import SCHEMA_VERSION, Manifest
from tests.builds import device_manifest, labelled_manifest, make_manifest, repaired_manifest
from tests.tiny import pair


def schema(what: str) -> Draft202012Validator:
    done = CliRunner().invoke(main, ["schema", what])
    assert done.exit_code == 0
    found = json.loads(done.output)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


@pytest.mark.parametrize("make", [make_manifest, device_manifest, labelled_manifest, repaired_manifest])
def test_manifests_are_what_their_schema_says(make: object) -> None:
    assert callable(make)
    manifest: Manifest = make()
    schema("manifest").validate(json.loads(manifest.model_dump_json()))


def test_a_manifest_of_another_version_or_with_something_missing_is_refused() -> None:
    good = json.loads(make_manifest().model_dump_json())
    for bad in (good | {"schema_version": SCHEMA_VERSION - 1}, {k: v for k, v in good.items() if k != "compiled"}):
        with pytest.raises(ValidationError):
            schema("manifest").validate(bad)


def test_the_schema_says_its_version() -> None:
    assert schema("manifest").schema["$id"] == f"urn:hefjoin:manifest:{SCHEMA_VERSION}"


def test_specs_are_what_their_schema_says() -> None:
    validator = schema("spec")
    validator.validate(pair())
    for path in (Path(__file__).resolve().parents[2] / "hefjoin/examples").rglob("*.yaml"):
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    with pytest.raises(ValidationError):
        validator.validate(pair() | {"no_such_field": 1})
