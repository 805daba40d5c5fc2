"""What the parameters of a flow look like from outside: in Prefect's form, in its API, in the list of runs.

The rule: the server refuses what JSON Schema can say, and the first task all else, in our words. So a spec has a
model's schema, but Prefect, whose text would name one problem in pydantic's words, hands it on as it came.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue


class Like:
    """Gives what may be anything the JSON Schema of a model, unchecked here: `Annotated[Any, Like(BuildSpec)]`."""

    def __init__(self, model: type[BaseModel]) -> None:
        """Take the model to look like."""
        self.model = model

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the model's schema."""
        del core_schema
        return handler(self.model.__pydantic_core_schema__)


def build_name() -> str:
    """Return the name of a build's run before its spec is read: after the name in it, else after its file."""
    given = flow_run.parameters
    spec = given.get("spec")
    name = spec.get("name") if isinstance(spec, dict) else getattr(spec, "name", None)
    return f"build {name or PurePosixPath(given.get('spec_file') or 'nothing').stem}"


def rename(name: str) -> None:
    """Name the run that is running."""
    if flow_run.name != name:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, name=name)
