"""Everything that a Prefect server should know: pool, deployments, schedules, automations."""

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
    """What the server has now."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def apply_all(pool: str = POOL, *, replace: Replace | None = None) -> Applied:
    """Create or update all of it on the server of the current settings; again is harmless.

    `replace` is asked before a nightly schedule that is there becomes another, and given what would change, a line
    each.

    Raises:
        What `replace` raises: nothing was changed.
    """
    from prefect.client.orchestration import get_client

    from deployments.server import result_storage
    from deployments.server.automations import apply_automations

    # Two that find no automation of a name at the same moment would both create it.
    with home_lock("apply"), get_client(sync_client=True) as client:
        if replace is not None and (lines := replaced_nights(client)):
            replace(lines)
        environment = result_storage.apply(client)
        return Applied(
            deployments=tuple(apply_definitions(client, pool=pool, environment=environment)),
            automations=tuple(apply_automations(client)),
        )


def load_flows() -> None:
    """Import what `apply_all` needs, which takes seconds the first time."""
    for definition in read_definitions().deployments:
        definition.flow()


def require_server() -> str:
    """The API of the current settings, or of `clipsmith up`.

    Raises:
        NoServer, PrefectMisconfigured: there is none that can be used.
        ConfigError: the webhook may not be called.
    """
    from deployments.server.automations import webhook_url

    webhook_url()
    settings = use_up(load_settings())
    url = require_api(settings)
    require_home(settings)  # the lock of `apply_all` is there
    return url
