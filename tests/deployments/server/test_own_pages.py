"""What a server's answers become on the way to a browser: pages get our script, the rest is left as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Route

from deployments.server.own_pages import ScriptMiddleware

PAGE = "<!DOCTYPE html><html><head><title>a</title></head><body>" + "b" * 2000 + "</body></html>"
TAG = '<script src="/clipsmith/form_errors.js" defer></script></head>'
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
WITH_SCRIPT = PAGE.replace("</head>", TAG)


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A server like Prefect's: files with a tag of their own, compressed where the client takes that."""
    file = tmp_path / "index.html"
    file.write_text(PAGE)

    async def page(_: Request) -> FileResponse:
        return FileResponse(file, headers={"cache-control": "max-age=600"})

    async def pieces(_: Request) -> StreamingResponse:
        return StreamingResponse(iter([PAGE[:31], PAGE[31:40], PAGE[40:]]), media_type="text/html")

    async def headless(_: Request) -> HTMLResponse:
        return HTMLResponse("<p>a</p>", 404)

    async def data(request: Request) -> JSONResponse:
        return JSONResponse({"page": PAGE, "accept": request.headers.get("accept-encoding")})

    routes = [Route(f"/{one.__name__}", one) for one in (page, pieces, headless, data)]
    app = Starlette(routes=routes)
    app.add_middleware(GZipMiddleware)
    transport = httpx.ASGITransport(ScriptMiddleware(app))

    async def answer(path: str, method: str, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return lambda path, headers=None, method="GET": asyncio.run(answer(path, method, headers or {}))


@pytest.mark.parametrize("path", ["/page", "/pieces"])
def test_a_page_has_the_script_in_its_head(ask: Ask, path: str) -> None:
    answer = ask(path, headers=BROWSER)
    assert (answer.status_code, answer.text) == (200, WITH_SCRIPT)
    assert int(answer.headers["content-length"]) == len(WITH_SCRIPT)
    assert answer.headers["cache-control"] == "no-cache"
    assert not {"etag", "last-modified", "content-encoding"} & answer.headers.keys()


def test_a_page_that_the_browser_has_of_before_is_sent_anew(ask: Ask) -> None:
    tag = ask("/page").headers["etag"]
    for more in ({"if-none-match": tag}, {"range": "bytes=0-9"}):
        answer = ask("/page", headers=BROWSER | more)
        assert (answer.status_code, answer.text) == (200, WITH_SCRIPT)


def test_a_page_without_a_head_is_left_as_it_is(ask: Ask) -> None:
    answer = ask("/headless", headers=BROWSER)
    assert (answer.status_code, answer.text) == (404, "<p>a</p>")


def test_what_programs_ask_is_left_as_it_is(ask: Ask) -> None:
    answer = ask("/data", headers={"accept": "application/json"})
    assert "gzip" in answer.json()["accept"] and answer.headers["content-encoding"] == "gzip"
    answer = ask("/page", headers={"accept": "*/*"})
    assert answer.text == PAGE and answer.headers["cache-control"] == "max-age=600"
    told: dict[str, Any] = ask("/data", headers=BROWSER).json()
    assert told["page"] == PAGE


def test_the_script_is_served(ask: Ask) -> None:
    answer = ask("/clipsmith/form_errors.js")
    assert answer.status_code == 200 and "MutationObserver" in answer.text
    assert answer.headers["content-type"].partition(";")[0] in ("text/javascript", "application/javascript")
    assert ask("/clipsmith/form_errors.js", method="POST").status_code == 404
