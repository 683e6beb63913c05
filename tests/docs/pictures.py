"""The pictures of the documentation: the form, a run and a report of the demo, in a real server and a Chromium.

`python -m tests.docs.pictures` writes them into docs/pictures; it takes two minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from artifacts import places
from artifacts.store.store import Store
from tests.system.browser import browser_page
from tests.system.servers import release_of, trigger, up, wait_for
from tests.system.stack.test_ui import field, open_form, set_number

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 1400, 900
_RUN_S = 400
_DRAWN_MS = 3000
_ABOVE_LOG = 570


def take_form(ui_url: str, folder: Path) -> None:
    """A screenshot of the end of the form, whose button was pressed with a number out of bounds far above it."""
    with browser_page() as page:
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        open_form(page, ui_url)
        set_number(field(field(page, "Data: evaluation"), "Batch size"), "5000")
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("1 field is not valid").wait_for()
        page.wait_for_timeout(_DRAWN_MS)
        page.screenshot(path=folder / "form.png")


def take(ui_url: str, run: str, report: Path, folder: Path) -> None:
    """Screenshots of a run that has ended, without its log, and of a report."""
    with browser_page() as page:
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.goto(f"{ui_url}/runs/flow-run/{run}")
        page.wait_for_timeout(_DRAWN_MS)
        page.screenshot(path=folder / "run.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": _ABOVE_LOG})
        page.goto(report.as_uri())
        page.screenshot(path=folder / "report.png")


def main() -> None:
    """Run the demo and take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clipsmith-pictures-") as name, up(Path(name)) as server:
        run = trigger(server.api_url, "optimize/optimize")
        assert wait_for(server.api_url, run, _RUN_S).is_completed()
        store = Store.open(server.environment["CLIPSMITH_STORE"], writable=False)
        report = store.read(store.find(release_of(server.api_url, run)), places.REPORT)
        take(server.ui_url, str(run.id), report, FOLDER)
        take_form(server.ui_url, FOLDER)


if __name__ == "__main__":
    main()
