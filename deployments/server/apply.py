"""Everything that a Prefect server should know: pool, deployments, schedules, automations."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.errors import NoServer
from deployments.server.definitions import POOL, apply_definitions, read_definitions
from deployments.server.home_lock import home_lock


@dataclass(frozen=True)
class Applied:
    """What the server has now."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def apply_all(pool: str = POOL) -> Applied:
    """Create or update all of it on the server of the current settings; again is harmless."""
    from prefect.client.orchestration import get_client

    from deployments.server import result_storage
    from deployments.server.automations import apply_automations

    # Two that find no automation of a name at the same moment would both create it.
    with home_lock("apply"), get_client(sync_client=True) as client:
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
    """The API of the current settings.

    Raises:
        NoServer: there is none, or it does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    problem: Exception | str | None = "PREFECT_API_URL is not set"
    if url:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    if problem is not None:
        raise NoServer(
            f"no Prefect server to deploy to: {problem}",
            where=url,
            expected="PREFECT_API_URL=http://HOST:PORT/api of a running server",
            fix="set it, or start everything on this machine with `clipsmith up`",
        )
    assert url is not None
    return url
