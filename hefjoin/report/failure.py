"""Why a build failed, as markdown for the Prefect UI: the error's own words, and its numbers as a table."""

from __future__ import annotations

from collections.abc import Iterator

from hefjoin.errors import FitError, HefJoinError, JoinError, SpecError
from hefjoin.report.markdown import code, escaped, table
from hefjoin.report.words import duration_text

NEXT = {
    2: "Mend this and start the build again; stages that ended are reused.",
    5: "Start the build again when the store answers; stages that ended are reused.",
}
"""The next step, where an error's message has none of its own; by exit code."""
MOST_LINES = 30
"""Of a log; its end says why."""


def failure_markdown(error: HefJoinError, title: str) -> str:
    """Return why a build failed.

    Args:
        error: Why.
        title: Which build: `build tiny`.
    """
    return "\n\n".join([f"## {escaped(title)} failed", *_said(error), *_next(error)]) + "\n"


def _said(error: HefJoinError) -> Iterator[str]:
    if isinstance(error, SpecError) and error.message.count("\n") == len(error.problems):
        yield escaped(error.message.partition("\n")[0])
        yield table(("Field", "Problem"), error.problems)
    elif isinstance(error, JoinError):
        yield "The models may not share one input:"
        models = list(dict.fromkeys(model for row in error.disagreements for model, _ in row.values))
        rows = [
            (row.what, *(dict(row.values).get(model, "–") for model in models), row.remedy)
            for row in error.disagreements
        ]
        yield table(("What", *models, "What to do"), rows)
    else:
        yield code(error.message)
    if isinstance(error, FitError):
        yield from _fit(error)
    if tail := error.attributes.get("log_tail"):
        yield "The end of the compiler's log:"
        yield code("\n".join(tail.splitlines()[-MOST_LINES:]))


def _fit(error: FitError) -> Iterator[str]:
    if error.need:
        needs = sorted(error.need.items(), key=lambda each: -each[1] / (error.have.get(each[0]) or 1))
        rows = [(name, f"{need:,g}", f"{error.have[name]:,g}" if name in error.have else "–") for name, need in needs]
        yield table(("Resource, the scarcest first", "Needed", "There are"), rows)
    attempts = error.attributes.get("attempts") or []
    if len(attempts) > 1:
        rows = [(each["label"], duration_text(each["seconds"]), each["message"]) for each in attempts]
        yield table(("Attempt", "Time", "Why it did not fit"), rows)


def _next(error: HefJoinError) -> Iterator[str]:
    if next_step := NEXT.get(error.exit_code):
        yield next_step
