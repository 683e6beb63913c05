"""Messages of a step for people who watch the run: in the run's log in the UI, and in the terminal."""

from __future__ import annotations


def say(message: str) -> None:
    """Log a message with the flow run; outside of a flow run it is dropped."""
    from prefect.context import FlowRunContext
    from prefect.logging.loggers import flow_run_logger

    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        flow_run_logger(context.flow_run).info(message)
