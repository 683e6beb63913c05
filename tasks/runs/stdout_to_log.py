"""Redirecting what libraries print to stdout into the log, as stdout is for the result of `--json`."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

_LOG = logging.getLogger("clipsmith.libraries")


@contextlib.contextmanager
def prints_to_log() -> Iterator[None]:
    """Send what is printed inside the block to the debug log, line by line."""
    buffer = io.StringIO()
    try:
        with contextlib.redirect_stdout(buffer):
            yield
    finally:
        for line in buffer.getvalue().splitlines():
            _LOG.debug("%s", line)


def quiet_polygraphy() -> None:
    """Let Polygraphy and onnx-graphsurgeon print only errors, as their loggers write to stdout."""
    from onnx_graphsurgeon.logger import G_LOGGER as graphsurgeon
    from polygraphy.logger import G_LOGGER as polygraphy

    polygraphy.module_severity = polygraphy.ERROR
    graphsurgeon.severity = graphsurgeon.ERROR
