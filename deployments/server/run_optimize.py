"""Run a flow from the command line, with the configured server, or an API server of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from artifacts.store.store import BUCKET_VARIABLE
from deployments.server import result_storage
from deployments.server.embedded_api import EmbeddedApi
from deployments.server.environment import garbage_left, quiet_libraries

if TYPE_CHECKING:
    from flows.nightly import NightlyParameters
    from flows.parameters import OptimizeParameters
    from tasks.pipeline.publish import Published
    from tasks.prefect_ui.nightly_summary import Outcome

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def run_optimize(parameters: OptimizeParameters) -> Published:
    """Run `optimize` and return the published release. What libraries print goes to stderr: stdout is for the result.

    Raises:
        GateFailed: the release is published and rejected.
        ClipsmithError: any other: nothing was published.
    """

    def load() -> Callable[[OptimizeParameters], Published]:
        from flows.optimize import optimize

        return optimize

    return _run(load, parameters)


def run_nightly(parameters: NightlyParameters) -> list[Outcome]:
    """Run `nightly` and return the outcome of each variant. Of several at once each has a process of its own.

    Raises:
        VariantsFailed: some variants have no accepted release.
        ClipsmithError: any other: no variant was looked at.
    """

    def load() -> Callable[[NightlyParameters], list[Outcome]]:
        from deployments.server.variant_process import VariantProcesses
        from flows.nightly import chosen, nightly, processes
        from flows.variants import read_variants, variants_folder

        at_once = min(parameters.at_once, len(chosen(read_variants(variants_folder()), parameters.variants)))
        processes.set(VariantProcesses(at_once) if at_once > 1 else None)
        return nightly

    return _run(load, parameters)


def _run(load: Callable[[], Callable[[_Given], _Made]], parameters: _Given) -> _Made:
    with garbage_left():
        api = EmbeddedApi.start()
        quiet_libraries()
        flow = load()

    if api is not None:  # it was starting while the flow was imported
        api.wait()
    if api is not None or os.environ.get(BUCKET_VARIABLE):  # else leave a server of others as it is
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            result_storage.apply(client)
    with contextlib.redirect_stdout(sys.stderr):
        return flow(parameters)
