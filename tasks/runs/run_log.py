"""What a step tells whoever watches the run: in the run's log in the UI, and in the terminal."""

from __future__ import annotations


def say(message: str) -> None:
    """Log it with the flow run; outside of one nobody watches."""
    from prefect.context import FlowRunContext
    from prefect.logging.loggers import flow_run_logger

    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        flow_run_logger(context.flow_run).info(message)
