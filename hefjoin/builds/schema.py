"""The JSON Schema of what hefjoin reads and leaves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema

from hefjoin import __version__
from hefjoin.manifest import SCHEMA_VERSION, Manifest
from hefjoin.results.covered import PAGE_VERSION, CalibrationPage
from hefjoin.spec import BuildSpec


def json_schema(what: Literal["spec", "manifest", "calibration"]) -> dict[str, Any]:
    """Return the schema of a spec, a manifest or the JSON of `hefjoin calibration`, as JSON Schema 2020-12.

    Its `$id` says which version it is of.
    """
    if what == "spec":
        name, schema = f"urn:hefjoin:spec:{__version__}", BuildSpec.model_json_schema()
    elif what == "manifest":
        name, schema = f"urn:hefjoin:manifest:{SCHEMA_VERSION}", Manifest.model_json_schema(mode="serialization")
    else:
        name = f"urn:hefjoin:calibration:{PAGE_VERSION}"
        schema = CalibrationPage.model_json_schema(mode="serialization")
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": name, **schema}
