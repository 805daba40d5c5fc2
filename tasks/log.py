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
        is_chatter = record.name == "hefjoin.progress" or (
            record.name == "hefjoin.sdk" and not any(mark in record.getMessage() for mark in MARKS)
        )
        if is_chatter:
            record.send_to_api = False
        if record.exc_info and isinstance(record.exc_info[1], HefJoinError):
            record.exc_info = None
        return True


def keep_to_the_point() -> None:
    """Let only what a person wants to read reach the pages of runs; once is enough for a process."""
    for name in ("hefjoin.progress", "hefjoin.sdk", "prefect.task_runs", "prefect.flow_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Worth) for each in logger.filters):
            logger.addFilter(_Worth())
