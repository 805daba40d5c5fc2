"""Text as markdown shows it, and the few shapes that hefjoin writes in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    """Return text that markdown shows as it is, on one line."""
    return re.sub(r"([\\`*|\[\]<>&])", r"\\\1", re.sub(r"[\r\n]+", " ", text))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    lines = [headings, ["---"] * len(headings), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return lines to copy, fenced by more backticks than they hold in a row."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}\n{text}\n{fence}"
