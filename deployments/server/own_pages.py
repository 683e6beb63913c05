"""Protects the servers that we start from web pages of other origins: only programs and the servers' own pages may use
them (besides needing the password)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.server.own_server import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def own_origins(port: int) -> str:
    """The origins of a server's own pages, in the form of PREFECT_SERVER_CORS_ALLOWED_ORIGINS."""
    return ",".join(f"http://{name}:{port}" for name in LOOPBACK)


def create_app() -> ASGIApp:
    """Prefect's server, restricted to loopback host names and the origins of PREFECT_SERVER_CORS_ALLOWED_ORIGINS.

    Requests of Prefect's services to their own API do not pass through these checks.
    """
    from prefect.server.api.server import create_app as create_prefect
    from prefect.settings import get_current_settings
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    origins = get_current_settings().server.api.cors_allowed_origins.split(",")
    return TrustedHostMiddleware(OriginMiddleware(create_prefect(), origins), LOOPBACK, www_redirect=False)


class OriginMiddleware:
    """Refuses requests from pages of other origins: CORS only hides answers, and does not cover WebSockets."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        origin = Headers(scope=scope).get("origin") if scope["type"] in ("http", "websocket") else None
        if origin is None or origin in self._origins or "*" in self._origins:
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("a page of this origin may not ask", 403)(scope, receive, send)
