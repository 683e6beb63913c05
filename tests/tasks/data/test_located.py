"""Files are found however a table spells them: slashes, absolute paths, Unicode forms, and folders of pictures."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from tasks.data.located import Located
from tests.tasks.data.support import pictures, refused, said

FORMS = ("NFC", "NFD")


def table(folder: Path, *files: str) -> Path:
    """A table of these files."""
    text = "".join(f"{file},caption {number}\n" for number, file in enumerate(files))
    (folder / "captions.csv").write_text("file,caption\n" + text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("in_table", FORMS)
def test_letters_may_be_composed_or_not(tmp_path: Path, on_disk: str, in_table: str) -> None:
    name = "fotos \u00fc/caf\u00e9 100%#+.png"
    pictures(tmp_path, unicodedata.normalize(on_disk, name))  # type: ignore[arg-type]
    table(tmp_path, unicodedata.normalize(in_table, name))  # type: ignore[arg-type]
    assert said(tmp_path) == [(name, "caption 0")]


def test_both_forms_of_a_name_are_one_picture(tmp_path: Path) -> None:
    pictures(tmp_path, "caf\u00e9.png")
    text = "file,caption\ncaf\u00e9.png,x\ncafe\u0301.png,x\n"
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8")
    assert said(tmp_path) == [("caf\u00e9.png", "x")]


def test_backslashes_stand_for_slashes_unless_they_are_the_name(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img\\b.png")
    assert [name for name, _ in said(table(tmp_path, "img\\a.png", "img\\b.png"))] == ["img\\a.png", "img\\b.png"]


@pytest.mark.parametrize("name", ["..\\secret.png", "img\\..\\..\\secret.png", "C:\\img\\a.png", "C:/img/a.png"])
def test_backslashes_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, "secret.png")
    refused(table(pictures(tmp_path / "set", "img/a.png"), name), "plain relative path", "line 2")


def test_absolute_paths_inside_the_folder(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", "img/a.png")
    assert said(table(folder, str(folder / "img" / "a.png"))) == [("img/a.png", "caption 0")]
    refused(table(folder, str(tmp_path / "set2" / "a.png")), "plain relative path")


def test_pictures_in_a_folder_beside_the_table(tmp_path: Path) -> None:
    pictures(tmp_path, "Images/a.png", "images/more/b.png", "c.png", "Images/c.png")
    assert [name for name, _ in said(table(tmp_path, "a.png", "b.png", "c.png"))] == ["a.png", "b.png", "c.png"]
    pictures(tmp_path, "other/a.png")
    refused(table(tmp_path, "a.png"), "several folders have a file 'a.png'", "Images/a.png, other/a.png")


def test_links_of_the_hub_s_cache(tmp_path: Path) -> None:
    """A snapshot is made of links to files beside it; a link anywhere else leaves the folder."""
    repository = tmp_path / "datasets--org--set"
    pictures(repository / "blobs", "one", "two")
    snapshot = repository / "snapshots" / "abc"
    for number, (name, blob) in enumerate((("cat/a.png", "one"), ("dog/b.png", "two"))):
        (snapshot / name).parent.mkdir(parents=True)
        (snapshot / name).symlink_to(os.path.relpath(repository / "blobs" / blob, (snapshot / name).parent))
        assert (snapshot / name).is_file(), number
    assert [name for name, _ in said(snapshot)] == ["cat/a.png", "dog/b.png"]
    pictures(tmp_path, "secret.png")
    (snapshot / "cat" / "c.png").symlink_to(tmp_path / "secret.png")
    refused(snapshot, "leaves the folder")


def test_a_folder_is_listed_once_whatever_the_number_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call for each file took most of the time of opening a large set."""
    names = [f"img/{number}.png" for number in range(60)]
    pictures(tmp_path, *names)
    located = Located(tmp_path)
    calls: list[object] = []
    for function in ("stat", "lstat", "scandir"):
        real = getattr(os, function)
        monkeypatch.setattr(os, function, lambda *a, _real=real, **k: (calls.append(a), _real(*a, **k))[1])
    found = [located.file(name, "") for name in names]
    monkeypatch.undo()
    assert found == [tmp_path.resolve() / name for name in names]
    assert 0 < len(calls) < 20


def test_a_folder_that_may_be_entered_but_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    pictures(tmp_path, "img/a.png")
    monkeypatch.setattr(os, "scandir", refuse)
    assert Located(tmp_path).file("img/a.png", "") == tmp_path.resolve() / "img" / "a.png"


def test_a_folder_whose_name_is_too_long(tmp_path: Path) -> None:
    refused(table(pictures(tmp_path, "a.png"), f"{'x' * 300}/a.png"), "File name too long")
