"""Applying our definitions to a Prefect server: work pool, deployments, schedules, automations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deployments.server.definitions import POOL, apply_definitions, read_definitions, replaced_nights
from deployments.server.home_lock import home_lock
from deployments.server.own_server import use_up
from deployments.server.prefect_settings import load_settings, require_api, require_home

Replace = Callable[[list[str]], None]


@dataclass(frozen=True)
class Applied:
    """What the server has after `apply_all`."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def apply_all(pool: str = POOL, *, replace: Replace | None = None) -> Applied:
    """Create or update pool, deployments, schedules and automations on the server of the current settings.

    Applying again changes nothing. Before an existing nightly schedule or the runs' bucket is replaced, or calls of the
    webhook end, `replace` is called with the changes, one line each; it raises to refuse, and then nothing was changed.
    """
    from prefect.client.orchestration import get_client

    from deployments.server import result_storage
    from deployments.server.automations import apply_automations, ended_calls

    # Locked: two processes that find no automation of a name at the same moment would both create it.
    with home_lock("apply"), get_client(sync_client=True) as client:
        if replace is not None:
            lines = [*replaced_nights(client), *result_storage.replaced(client), *ended_calls(client)]
            if lines:
                replace(lines)
        environment = result_storage.apply(client)
        return Applied(
            deployments=tuple(apply_definitions(client, pool=pool, environment=environment)),
            automations=tuple(apply_automations(client)),
        )


def load_flows() -> None:
    """Import the modules that `apply_all` needs, which takes seconds the first time."""
    for definition in read_definitions().deployments:
        definition.flow()


def require_server() -> str:
    """The API's URL: of the server in the current settings, or of `clipsmith up`.

    Raises:
        NoServer, PrefectMisconfigured: no server can be used.
        ConfigError: the webhook's address is not allowed.
    """
    from deployments.server.automations import webhook_url

    webhook_url()
    settings = use_up(load_settings())
    url = require_api(settings)
    require_home(settings)  # for the lock of `apply_all`
    return url
