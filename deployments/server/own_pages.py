"""The pages of the servers that we start: those of other origins are kept out (besides needing the password), and
Prefect's own get a script of ours, which says beside a form's Submit button what is not valid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deployments.server.own_server import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SCRIPT = Path(__file__).with_name("form_errors.js")
_SCRIPT_PATH = f"/clipsmith/{_SCRIPT.name}"
_END_OF_HEAD = b"</head>"
_TAG = f'<script src="{_SCRIPT_PATH}" defer></script>'.encode()
_NEVER_ASKED = ("accept-encoding", "if-none-match", "if-modified-since", "range")
_NOT_THE_FILES = ("content-length", "etag", "last-modified", "accept-ranges", "cache-control")


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
    return TrustedHostMiddleware(
        OriginMiddleware(ScriptMiddleware(create_prefect()), origins), LOOPBACK, www_redirect=False
    )


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


class ScriptMiddleware:
    """Adds our script to the pages that a browser opens, and serves it. Other answers are left as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import FileResponse

        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif scope["path"] == _SCRIPT_PATH:
            await FileResponse(_SCRIPT, headers={"cache-control": "no-cache"})(scope, receive, send)
        elif "text/html" in Headers(scope=scope).get("accept", ""):
            # Asked for whole and uncompressed: the script cannot be added to less.
            asked = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") not in _NEVER_ASKED]
            await self._app({**scope, "headers": asked}, receive, _Page(send))
        else:
            await self._app(scope, receive, send)


class _Page:
    """Sends an answer on; an HTML page as soon as it is whole, with our script in its head."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        from starlette.datastructures import Headers

        if message["type"] == "http.response.start":
            told = Headers(raw=message["headers"])
            if told.get("content-type", "").startswith("text/html") and "content-encoding" not in told:
                self._start = message
                return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, self._start = self._start, None
        body = self._body.replace(_END_OF_HEAD, _TAG + _END_OF_HEAD, 1)
        kept = [(name, value) for name, value in start["headers"] if name.decode("latin-1") not in _NOT_THE_FILES]
        kept += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-cache")]
        await self._send({**start, "headers": kept})
        await self._send({"type": "http.response.body", "body": body})
