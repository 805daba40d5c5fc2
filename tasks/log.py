"""What of a build's log is worth a line in Prefect's page of a run.

The rule: progress is shown as progress, the compiler's lines are in its log file, and an error that was raised on
purpose is said in its own words; so none of them is sent as lines and tracebacks too.
"""

from __future__ import annotations

import logging

from hefjoin.errors import HefJoinError

MARKS = ("[warning]", "[error]")
"""What the compiler puts into lines that a person should see."""


class _Worth(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        is_told = record.exc_info is not None and isinstance(record.exc_info[1], HefJoinError)
        if is_told:
            record.exc_info = None
        if is_told or _is_chatter(record):
            record.send_to_api = False
        return True


def _is_chatter(record: logging.LogRecord) -> bool:
    """Return whether something else says it better: a progress artifact, a log file, a stage, the run's state."""
    if record.name == "hefjoin.sdk":
        return not any(mark in record.getMessage() for mark in MARKS)
    is_state = record.name == "prefect.task_runs" and record.getMessage().startswith("Finished in state")
    return is_state or record.name == "hefjoin.progress"


def keep_to_the_point() -> None:
    """Let what a person wants to read reach the pages of runs, and nothing else; once is enough for a process."""
    own = logging.getLogger("hefjoin")
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)
    for name in ("hefjoin.progress", "hefjoin.sdk", "prefect.task_runs", "prefect.flow_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Worth) for each in logger.filters):
            logger.addFilter(_Worth())
