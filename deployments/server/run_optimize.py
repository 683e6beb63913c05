"""Run the main flow from the command line: on the server that is configured, or on an API of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from artifacts.store.store import BUCKET_VARIABLE
from deployments.server import result_storage
from deployments.server.embedded_api import EmbeddedApi
from deployments.server.environment import garbage_left, quiet_libraries

if TYPE_CHECKING:
    from flows.parameters import OptimizeParameters
    from tasks.pipeline.publish import Published


def run_optimize(parameters: OptimizeParameters) -> Published:
    """The release that the run has published. Whatever a library prints goes to stderr: stdout is for the result.

    Raises:
        GateFailed: it is rejected; any other ClipsmithError: nothing was published.
    """
    with garbage_left():
        api = EmbeddedApi.start()
        quiet_libraries()
        from flows.optimize import optimize

    if api is not None:  # it has been starting while the flow was imported
        api.wait()
    if api is not None or os.environ.get(BUCKET_VARIABLE):  # another's server keeps what it was told otherwise
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            result_storage.apply(client)
    with contextlib.redirect_stdout(sys.stderr):
        return optimize(parameters)
