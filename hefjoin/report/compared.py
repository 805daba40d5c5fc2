"""A row of the comparison before a join, in words: the same on the terminal and in the report."""

from __future__ import annotations

from hefjoin.results.checked import Comparison, Verdict

VERDICTS: dict[Verdict, str] = {
    "agrees": "agrees",
    "handled": "handled",
    "look": "look at this",
    "fails": "the build would fail",
}


def found_text(row: Comparison, separator: str = ", ") -> str:
    """Return the value of each model or set; once where all have the same.

    >>> found_text(Comparison(what="batch", values=(("a", "1"), ("b", "4")), verdict="handled"))
    'a: 1, b: 4'
    """
    values = dict.fromkeys(value for _, value in row.values)
    if len(values) == 1:
        return next(iter(values))
    return separator.join(f"{name}: {value}" for name, value in row.values)
