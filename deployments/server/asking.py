"""What listens at a port, and what a Prefect server says about itself and its workers."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Literal

from deployments.server.own_server import HOST, use_up
from deployments.server.prefect_settings import load_settings, require_api

_ANSWER_S = 5.0


@dataclass(frozen=True)
class Server:
    """The server that runs report to: its URL without secrets, its version (None: it does not tell), and the names of
    the online workers of a pool (None: there is no such pool)."""

    url: str
    version: str | None
    workers: tuple[str, ...] | None


def listener(port: int) -> Literal["nothing", "prefect", "other"]:
    """What listens at a port of this machine. Prefect's health endpoint, which needs no password, identifies it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/api/health")
        healthy = connection.getresponse().read(100) == b"true"
    except ConnectionRefusedError:
        return "nothing"
    except (OSError, http.client.HTTPException):
        return "other"
    finally:
        connection.close()
    return "prefect" if healthy else "other"


def ask_server(pool: str) -> Server | None:
    """The server of the current settings, or of `clipsmith up`; None if there is none, so that a run starts its own.

    Raises:
        NoServer, PrefectMisconfigured: the server in the settings cannot be used.
    """
    settings = use_up(load_settings())
    if not settings.api.url:
        return None
    url = require_api(settings)
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        version = None if client.server_type == ServerType.CLOUD else client.api_version()
        try:
            client.read_work_pool(pool)
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            return Server(url, version, None)
    return Server(url, version, tuple(each.name for each in workers if each.status.value == "ONLINE"))
