"""The docs keep up with the code: every field, every option, every link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from pydantic import BaseModel

from flows.cli import main
from hefjoin.spec import BuildSpec

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(<?([^)>\s]+)>?\)")
ADR_LINES = 40


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and the models of its fields, to any depth."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from sections(kind)


def chapter(title: str) -> str:
    """Return the text of the chapter of spec.md whose heading begins with `title`."""
    text = (DOCS / "spec.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(title)}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"spec.md has no chapter {title}"
    return found.group()


@pytest.mark.parametrize("section", dict.fromkeys(sections(BuildSpec)), ids=lambda section: section.__name__)
def test_the_chapter_of_a_section_has_its_fields_and_no_others(section: type[BaseModel]) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", chapter(section.__name__), re.MULTILINE)
    assert documented == list(section.model_fields)


def test_every_command_and_option_is_documented() -> None:
    text = chapter("The command line")
    wanted = set()
    for name, command in main.commands.items():
        wanted.add(f"hefjoin {name}")
        options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
        wanted |= {option for parameter in options for option in parameter.opts}
    wanted |= {option for parameter in main.params for option in parameter.opts if option.startswith("--")}
    assert {term for term in wanted if not re.search(rf"{re.escape(term)}(?![\w-])", text)} == set()


def test_the_examples_of_a_spec_in_the_docs_are_specs() -> None:
    import yaml

    from hefjoin.spec import validate_spec

    blocks = [block for page in PAGES for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    specs = [validate_spec(yaml.safe_load(block)) for block in blocks]
    assert {"pair", "faces"} <= {spec.name for spec in specs}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_relative_links_resolve(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    broken = [
        link for link in links if not ((page.parent / link.partition("#")[0]) if link[0] != "#" else page).exists()
    ]
    assert broken == []


def test_every_decision_is_short_and_in_the_index() -> None:
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    decisions = sorted((DOCS / "adr").glob("0*.md"))
    assert decisions
    assert [path.name for path in decisions if f"({path.name})" not in index] == []
    long = [path.name for path in decisions if len(path.read_text(encoding="utf-8").splitlines()) > ADR_LINES]
    assert long == []
