"""`optimize` from Prefect's UI, as a person runs it: the form, a mistake in it, the run, its tables and its report."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from artifacts.store.store import Store
from flows.parameters import GROUPS
from tests.system.browser import HEIGHT, WIDTH, Album, album, browser_page, chromium
from tests.system.servers import Up, read_run, release_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

__all__ = ["album"]

pytestmark = pytest.mark.heavy

_RUN_S = 400
_TALL = 4000
_FIELD, _LABEL = ".schema-form-property", ".schema-form-property__label"
_ERROR = ".p-label__message--failed"
SAID = ".clipsmith-form-errors"
WIDTHS = (1400, 1000)
_FIGURES = ("Sizes", "Agreement with FP32", "Latency", "Calibration", "Steps")


@pytest.fixture(scope="session")
def browser() -> str:
    """Where Chromium is; skips before anything is started."""
    return chromium()


@pytest.mark.usefixtures("browser")
def test_a_run_from_the_form_to_its_report(running: Up, album: Album) -> None:
    with browser_page() as page:
        before = runs_of(running)
        open_form(page, running.ui_url)
        album.take(page, "form")
        assert groups_of(page) == [group for group, names in GROUPS.items() for _ in names]
        assert field(page, "Advanced: store").locator("textarea").input_value() == "", "as its text says"
        a_bad_number_is_refused(page, album)
        assert runs_of(running) == before
        fill(page)
        album.take(page, "form-filled")
        page.get_by_role("button", name="Submit").click()
        (started,) = eventually_new(running, before)
        run = await_completed(page, started)
        assert "store" not in read_run(running.api_url, started).parameters["parameters"]
        album.take(page, "run")
        assert {"variant:demo", "target:onnxruntime"} <= set(page.locator(".p-tag").all_inner_texts())
        assert rows_of(open_artifact(page, run, "clipsmith-accuracy"))
        table = open_artifact(page, run, "clipsmith-agreement")
        album.take(page, "agreement")
        same_as_the_release(rows_of(table), running, started)
        for name in ("sizes", "coverage", "latency", "gates", "stages"):
            assert rows_of(open_artifact(page, run, f"clipsmith-{name}"))
            album.take(page, name)
        look_at_the_report(page, run, album)
        assert percentage(open_artifact(page, run, "clipsmith-progress-build")) == 100


def open_form(page: Page, url: str) -> None:
    """From the list of deployments to the form of a custom run."""
    page.goto(f"{url}/deployments")
    page.get_by_role("link", name="optimize", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    field(page, "Advanced: store").wait_for()


def groups_of(page: Page) -> list[str]:
    """The groups of the fields, in the order in which the page shows them."""
    labels = page.locator(_LABEL).all_inner_texts()
    return [label.partition(":")[0] for label in labels if ": " in label]


def field(page: Page | Locator, label: str) -> Locator:
    """The innermost field of this name: a section has the fields in it."""
    name = re.compile(rf"^{re.escape(label)}( \(Optional\))?$")
    top = page if hasattr(page, "goto") else page.page
    return page.locator(_FIELD).filter(has=top.locator(_LABEL, has_text=name)).last


def a_bad_number_is_refused(page: Page, album: Album) -> None:
    """The form says what is wrong beside the field and beside the button, and no run is started."""
    beside = page.locator(".p-form__footer", has=page.get_by_role("button", name="Submit")).locator(SAID)
    samples = field(field(page, "Data: calibration"), "Samples")
    batch = field(field(page, "Data: evaluation"), "Batch size")
    form = page.url
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        set_number(samples, "3")
        set_number(batch, "5000")
        page.get_by_role("button", name="Submit").click()
        batch.get_by_text("5000 is greater than the maximum of 4096").wait_for()
        samples.get_by_text("3 is not valid").wait_for()
        beside.get_by_text("2 fields are not valid").wait_for()
        assert beside.inner_text() == (
            "2 fields are not valid: Data: calibration, Samples (3 is not valid; 8 to 10,000,000); "
            "Data: evaluation, Batch size (5000 is greater than the maximum of 4096)"
        )
        assert inside(page, beside), "it is beside the button, in full, where the page is scrolled to"
        album.take(page, f"form-refused-{width}")
        assert page.url == form
        beside.get_by_role("button", name="Data: calibration, Samples").click()
        assert page.evaluate("document.activeElement.value") == "3"
        assert inside(page, samples)
        set_number(batch, "32")
        set_number(samples, "16")
        page.locator(_ERROR).first.wait_for(state="detached")
        beside.wait_for(state="detached")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def inside(page: Page, place: Locator) -> bool:
    """Whether all of it is in view, and nothing is wider than the page."""
    box = place.bounding_box()
    assert box is not None and page.viewport_size is not None
    wide, tall = page.viewport_size["width"], page.viewport_size["height"]
    return box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= wide and box["y"] + box["height"] <= tall


def fill(page: Page) -> None:
    """A small run, chosen in the form's controls."""
    choose(page, field(page, "Build: recipe"), "fp8-compact")
    choose(page, field(page, "Build: targets"), "trtrtx-sm89", "trtrtx-sm120")
    assert field(page, "Build: targets").locator(".p-tag--dismissible").all_inner_texts() == ["onnxruntime"]
    set_number(field(field(page, "Data: evaluation"), "Samples"), "64")
    set_number(field(field(page, "Judge: latency"), "Rounds"), "5")


def choose(page: Page, drop_down: Locator, *options: str) -> None:
    """Pick options of a drop-down; where several can be chosen, picking one that was chosen takes it away."""
    drop_down.locator(".p-select-button__control").press("Space")
    for option in options:
        page.get_by_role("option", name=option, exact=True).click()
    drop_down.locator(_LABEL).first.click()


def set_number(number: Locator, value: str) -> None:
    """Type a number, in a field that may offer a word beside it."""
    tab = number.get_by_role("button", name="number", exact=True)
    if tab.count():
        tab.click()
    number.locator("input[type=number]").fill(value)


def runs_of(running: Up) -> set[UUID]:
    """All runs of optimize."""
    with SyncPrefectClient(running.api_url) as client:
        return {run.id for run in client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["optimize"])))}


def eventually_new(running: Up, before: set[UUID]) -> set[UUID]:
    """The runs that were not there before, as soon as there is one."""
    deadline = time.monotonic() + 30
    while not (found := runs_of(running) - before):
        assert time.monotonic() < deadline, "the form has started no run"
        time.sleep(0.2)
    return found


def await_completed(page: Page, run: UUID) -> str:
    """From the form, over the deployment's runs, to the finished run; the run's page."""
    page.wait_for_url(re.compile(r"/deployments/deployment/[0-9a-f-]{36}($|\?)"))
    page.reload()  # it asks for runs once it is open, perhaps too early for this one, and then every half a minute
    page.locator(f"a[href*='/runs/flow-run/{run}']").first.click()
    page.wait_for_url(re.compile(f"/runs/flow-run/{run}"))
    ended = page.locator(".page-heading-flow-run__meta .state-badge", has_text=re.compile("Completed|Failed|Crashed"))
    ended.wait_for(timeout=_RUN_S * 1000)
    assert ended.inner_text() == "Completed"
    return page.url.partition("?")[0]


def open_artifact(page: Page, run: str, key: str) -> Locator:
    """From the run's page to one of its artifacts."""
    page.set_viewport_size({"width": WIDTH, "height": _TALL})  # the list holds only what fits
    page.goto(run)
    page.locator(".p-tab", has_text="Artifacts").click()
    page.locator("a[href*='/artifacts/artifact/']", has_text=re.compile(f"{key}(?![a-z-])")).first.click()
    page.wait_for_url(re.compile("/artifacts/artifact/"))
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.get_by_text("Show raw data").wait_for()
    return page.locator("body")


def rows_of(place: Locator) -> list[dict[str, str]]:
    """What the page shows of a table artifact."""
    place.locator("tbody tr").first.wait_for()
    heads = place.locator("thead th").all_inner_texts()
    cells = [line.locator("td").all_inner_texts() for line in place.locator("tbody tr").all()]
    return [dict(zip(heads, map(str.strip, line), strict=True)) for line in cells]


def same_as_the_release(shown: list[dict[str, str]], running: Up, run: UUID) -> None:
    """Every agreement on the page is the one in the Parquet table of the published release, to six digits."""
    import pandas as pd

    store = Store.open(running.environment["CLIPSMITH_STORE"], writable=False)
    kept = pd.read_parquet(store.read(store.find(release_of(running.api_url, run)), "tables/accuracy.parquet"))
    keys = ["encoder", "target", "precision", "reference", "metric"]
    expected = {tuple(row[key] for key in keys): float(row["value"]) for row in kept.to_dict("records")}
    found = {tuple(row[key] for key in keys): float(row["value"]) for row in shown}
    assert found and found == pytest.approx({key: expected[key] for key in found}, abs=1e-6)
    assert found["image", "onnxruntime", "fp8", "fp32", "cosine_mean"] > 0.99


def look_at_the_report(page: Page, run: str, album: Album) -> None:
    """Its headings are there and its pictures are drawn."""
    open_artifact(page, run, "clipsmith-report")
    for name in _FIGURES:
        page.get_by_role("heading", name=name, exact=True).wait_for()
    album.take(page, "report")
    assert drawn(page) == dict.fromkeys(_FIGURES, True)
    open_artifact(page, run, "clipsmith-precision-map")
    page.get_by_role("heading", name="text encoder").wait_for()
    album.take(page, "precision-map")
    assert drawn(page) == {"image encoder": True, "text encoder": True}


def drawn(page: Page) -> dict[str, Any]:
    """The pictures of the page, and whether each was decoded, once the page has loaded all."""
    page.wait_for_function("[...document.querySelectorAll('main img, article img')].every(one => one.complete)")
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('main img, article img')]"
        ".map(one => [one.alt, one.complete && one.naturalWidth > 100]))"
    )


def percentage(place: Locator) -> float:
    """What a progress artifact stands at."""
    return float(re.findall(r"([\d.]+)\s*%", place.inner_text())[0])
