"""The script that we add to Prefect's pages, in a real browser, on pages as they are and as they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from deployments.server import own_pages
from tests.system.browser import browser_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.heavy

SAID = ".clipsmith-form-errors"
FOOTER = """<div class="p-form__footer"><button>Cancel</button><button>Submit</button></div>"""
FORM = """<form class="p-form flow-run-create-form-v2">%s</form>"""


def field(name: str, message: str = "", about: str = "", inside: str = "") -> str:
    """A field of the form, as Prefect's pages have it."""
    failed = f"""<div class="p-label__message p-label__message--failed">{message}</div>""" if message else ""
    return f"""<div class="p-label"><div class="p-label__header"><label class="p-label__label">
        <span class="schema-form-property__label">{name} (Optional)</span></label>
        <div class="schema-form-property__description">{about}</div></div>
        <div class="p-label__body"><input value="{name}">{inside}</div>{failed}</div>"""


ANY = "7 is not valid under any of the given schemas"
KNOWN = {
    "a field": (field("Rounds", "1 is too small"), "1 field is not valid: Rounds (1 is too small)"),
    "in groups": (
        field("parameters", inside=field("Data", inside=field("Samples", "too few"))),
        "1 field is not valid: Data, Samples (too few)",
    ),
    "the group of a field says it too": (
        field("Data", "something is wrong", inside=field("Samples", "too few")),
        "1 field is not valid: Data, Samples (too few)",
    ),
    "the description says what is valid": (
        field("Samples", ANY, "How many. More are all. 8 to 10,000."),
        "1 field is not valid: Samples (7 is not valid; 8 to 10,000)",
    ),
    "nothing says what is valid": (field("Samples", ANY), "1 field is not valid: Samples (7 is not valid)"),
    "many": (
        "".join(field(name, "no") for name in "abcde"),
        "5 fields are not valid: a (no); b (no); c (no); and 2 more",
    ),
    "markup": (field("a", "&lt;img src=x&gt;"), "1 field is not valid: a (<img src=x>)"),
}
UNKNOWN = {
    "another form": """<form class="p-form">%s</form>""" % (field("a", "no") + FOOTER),
    "no footer": FORM % field("a", "no"),
    "a footer elsewhere": FORM % field("a", "no") + FOOTER,
    "a message of no field": FORM % ("""<p class="p-label__message--failed">no</p>""" + FOOTER),
    "nothing is wrong": FORM % (field("a") + FOOTER),
    "no page": "",
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with the script, which fails a test whose page has thrown."""
    with browser_page(logged_in=False) as page:
        yield page


def opened(page: Page, body: str) -> list[str]:
    """Show the body on a page that has the script; what the page throws or logs is in the list."""
    said: list[str] = []
    page.goto("about:blank")
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.add_script_tag(path=own_pages._SCRIPT)
    page.evaluate("html => { document.body.innerHTML = html }", body)
    _frames(page)
    return said


def _frames(page: Page) -> None:
    """Wait until the script has looked at what was changed: it does in the next frame."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_not_valid_stands_beside_the_button(page: Page, name: str) -> None:
    body, expected = KNOWN[name]
    said = opened(page, FORM % (body + FOOTER))
    assert page.locator(f".p-form__footer > {SAID}:first-child").inner_text() == expected
    assert said == []


@pytest.mark.parametrize("name", UNKNOWN)
def test_pages_that_it_does_not_know_are_left_alone(page: Page, name: str) -> None:
    said = opened(page, UNKNOWN[name])
    assert page.locator(SAID).count() == 0
    assert page.evaluate("document.body.innerHTML") == page.evaluate(
        "html => { const made = document.createElement('body'); made.innerHTML = html; return made.innerHTML }",
        UNKNOWN[name],
    )
    assert said == []


def test_it_follows_the_form_and_goes_away(page: Page) -> None:
    said = opened(page, FORM % (field("a", "no") + field("b", "no") + FOOTER))
    line, messages = page.locator(SAID), "document.querySelectorAll('.p-label__message--failed')"
    page.evaluate(f"{messages}[0].firstChild.data = 'still not'")
    _frames(page)
    assert line.inner_text() == "2 fields are not valid: a (still not); b (no)"
    line.get_by_role("button", name="b").click()
    assert page.evaluate("document.activeElement.value") == "b"
    page.evaluate(f"{messages}[0].remove()")
    _frames(page)
    assert line.inner_text() == "1 field is not valid: b (no)"
    page.evaluate(f"{messages}[0].remove()")
    _frames(page)
    assert line.count() == 0
    assert said == []
