"""The contact sheet: which pictures it shows, and that nothing in the data gets out of its place."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from artifacts.errors import ConfigError
from tasks.data import open_dataset
from tasks.data.base import Dataset
from tasks.inspection import sheet
from tasks.inspection.inspect_source import Question, inspect_source
from tests.tasks.data.support import captioned, labelled, noise, retrieval, zero_shot
from tests.tasks.inspection.support import EVIL, messy_folder, unwatched


class Page(HTMLParser):
    """Tags with their attributes, pictures, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def pictures(self) -> list[str]:
        return [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]


def sheet_of(source: Path, tmp_path: Path, limit: int | None = None) -> tuple[str, Page]:
    found = inspect_source(Question(str(source), limit=limit), unwatched)
    assert found.dataset is not None
    sheet.write_sheet(found.dataset, found.holdings, tmp_path / "sheet.html", unwatched)
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_a_sheet_stands_alone_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    source = messy_folder(tmp_path / "<img src=x onerror=alert(1)>")
    text, page = sheet_of(source, tmp_path)
    tags = {tag for tag, _ in page.tags}
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & tags
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")
    assert EVIL in page.texts and "prefers-color-scheme: dark" in text
    assert len(page.pictures) == 15 and text.count("frame missing") == 1
    for picture in page.pictures:
        data = base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"), validate=True)
        assert max(Image.open(io.BytesIO(data)).size) <= 96
    assert "A run refuses it." in page.texts
    assert list(tmp_path.glob(".sheet*")) == [], "nothing is left beside it"


def test_captions_are_shown_with_their_pictures(tmp_path: Path) -> None:
    texts = [f"{EVIL} {number}\nsecond \u202e of {number}\n" + "x" * 900 for number in range(110)]
    texts[3] = "\n".join(f"caption {number}" for number in range(9))
    members = captioned([noise(number) for number in range(110)], texts)
    retrieval(tmp_path / "set", [members])
    _, page = sheet_of(tmp_path / "set", tmp_path)
    assert len(page.pictures) == 100 and "100 of 110 pictures" in page.texts
    assert sum(text.startswith(EVIL) for text in page.texts) in (99, 100)  # the fourth picture may be drawn
    assert max(map(len, page.texts[1:][page.texts.index("contact sheet") :])) <= 300
    assert not {"script", "i"} & {tag for tag, _ in page.tags}


def names_and_counts(page: Page) -> list[str]:
    return [text for text in page.texts if " of " in text or text.endswith((" sample", " samples"))]


def test_so_many_of_each_class_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = labelled([noise(number) for number in range(60)], [number % 3 for number in range(60)])
    source = zero_shot(tmp_path / "set", [members], names="cat\ndog\ncat\nnobody\n")
    text, page = sheet_of(source, tmp_path)
    assert len(page.pictures) == 36 and page.texts.count("12 of 20 samples") == 3
    assert "1 of 4 classes" in page.texts and "nobody" in page.texts
    assert sheet_of(source, tmp_path)[0] == text
    monkeypatch.setattr(sheet, "_MOST", 6)
    assert len(sheet_of(source, tmp_path)[1].pictures) == 6
    monkeypatch.setattr(sheet, "_MOST", 2)
    assert len(sheet_of(source, tmp_path)[1].pictures) == 2


def test_of_an_empty_set_there_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "captions.csv").write_text("file,caption\n")
    _, page = sheet_of(tmp_path / "set", tmp_path)
    assert page.pictures == []


@pytest.mark.parametrize("name", ["photo.jpg", "none/sheet.html", "folder.html", ""])
def test_a_page_goes_where_a_page_may_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="no page can be written"):
        sheet.check_place(tmp_path / name)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inspect_source(Question("digits", limit=10), unwatched)
    (tmp_path / "sheet.html").write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    dataset: Dataset = open_dataset("digits", "evaluation", 10)
    with pytest.raises(ConfigError, match="No space left"):
        sheet.write_sheet(dataset, found.holdings, tmp_path / "sheet.html", unwatched)
    assert (tmp_path / "sheet.html").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
