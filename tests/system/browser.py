"""A headless Chromium that looks at Prefect's UI as a person does, and where it keeps what it has seen."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system import debian, servers

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH, HEIGHT = 1680, 950
_TALLEST = 8000


def chromium() -> str:
    """Where the distribution's Chromium is, installing it where that is possible; playwright downloads none."""
    found = shutil.which("chromium")
    if found is None:
        debian.install("chromium")
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed, and cannot be installed here (that takes root and apt-get)")
    return found


@contextmanager
def browser_page(*options: str, logged_in: bool = True) -> Iterator[Page]:
    """A fresh page, logged in where `tests.system.servers` has started the server. It reaches the loopback only: the UI
    must not need anything else."""
    from playwright.sync_api import sync_playwright

    options += ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(options))
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(30_000)
            if logged_in:
                page.add_init_script(_log_in())
            yield page
        finally:
            browser.close()


def _log_in() -> str:
    """What keeps the passwords where Prefect's pages look for them, each in its own."""
    kept = {page: base64.b64encode(word.encode()).decode() for page, word in servers.PASSWORDS.items()}
    return f"const kept = {json.dumps(kept)}[origin]; if (kept) localStorage.setItem('prefect-password', kept)"


class Album:
    """Screenshots, numbered in the order they were taken; none without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._count = 0

    def take(self, page: Page, name: str) -> None:
        """The whole page: its scrolling parts are made as tall as what they hold."""
        if self.folder is None:
            return
        page.wait_for_timeout(800)  # pictures and animations
        size = page.viewport_size
        assert size is not None
        tallest = page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(one => one.scrollHeight))")
        page.set_viewport_size({"width": size["width"], "height": min(int(tallest) + 40, _TALLEST)})
        page.wait_for_timeout(500)
        self._count += 1
        page.screenshot(path=self.folder / f"{self._count}-{name}.png")
        page.set_viewport_size(size)


@pytest.fixture
def album() -> Album:
    """In the folder $CLIPSMITH_SCREENSHOTS, for people to look at; seconds each, so without it there are none."""
    named = os.environ.get("CLIPSMITH_SCREENSHOTS")
    if not named:
        return Album(None)
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    return Album(folder)
