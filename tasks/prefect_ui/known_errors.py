"""Our own errors in the log of a run: what happened, where, and what to do, where Prefect adds a traceback, twice."""

from __future__ import annotations

import logging

from artifacts.errors import ClipsmithError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
ENDS_RUN = "ends_run"
"""An attribute of the records that tell of such an error."""
_SAID_AGAIN = "Engine execution exited with unexpected exception"


class KnownErrors(logging.Filter):
    """Takes the traceback from records of our own errors, and leaves out what Prefect says a second time.

    Errors that are none of ours keep all.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is worth a line; it is changed in place, for the terminal and Prefect's pages."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ClipsmithError):
            return True
        if record.msg == _SAID_AGAIN:
            return False
        record.msg, record.args = record.getMessage().replace(repr(error), str(error)), ()
        record.exc_info = record.exc_text = None
        setattr(record, ENDS_RUN, True)
        return True


_filter = KnownErrors()


def shorten_known_errors() -> None:
    """Apply `KnownErrors` to the logs of flow and task runs of this process. Again, it changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)
