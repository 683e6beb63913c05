"""How our flows are declared: with what their docstring says of them as the description that the UI shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect import Flow, flow

from tasks.prefect_ui.known_errors import shorten_known_errors

P = ParamSpec("P")
R = TypeVar("R")


def described_flow(run_name: Callable[[], str]) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """A decorator that makes a function a flow of its name, whose runs `run_name` names.

    The description leaves out `Args:`, which the form shows beside each parameter. The log of a run tells our own
    errors without a traceback.
    """
    shorten_known_errors()

    def declared(function: Callable[P, R]) -> Flow[P, R]:
        about = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
        declare = flow(name=function.__name__, description=about, flow_run_name=run_name, persist_result=False)
        return declare(function)

    return declared
