"""How the pages of `hefjoin.report` are filled in."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def page_environment() -> Environment:
    """Return Jinja2 for this folder's templates: everything is escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("hefjoin.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
