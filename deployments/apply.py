"""Everything that a Prefect server should know: pool, deployments, schedules, automations."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from artifacts.errors import NoServer
from deployments.definitions import POOL, apply_definitions, read_definitions


@dataclass(frozen=True)
class Applied:
    """What the server has now."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def apply_all(pool: str = POOL) -> Applied:
    """Create or update all of it on the server of the current settings; again is harmless."""
    from prefect.client.orchestration import get_client

    from deployments import result_storage
    from deployments.automations import apply_automations

    with _one_at_a_time(), get_client(sync_client=True) as client:
        environment = result_storage.apply(client)
        return Applied(
            deployments=tuple(apply_definitions(client, pool=pool, environment=environment)),
            automations=tuple(apply_automations(client)),
        )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two that find no automation of a name at the same moment would both create it."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "clipsmith-apply.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
