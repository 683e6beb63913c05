"""`classnames.txt`: names as people write them down, and files that are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import DataError
from tasks.data.base import Classes
from tasks.data.name_list import nameless_notes, read_class_names

THREE = ("cat", "dog", "horse")


def listed(root: Path, names: bytes | str) -> Path:
    """A file that holds this."""
    (root / "classnames.txt").write_bytes(names if isinstance(names, bytes) else names.encode())
    return root / "classnames.txt"


def of(*names: str) -> Classes:
    """Classes with these names."""
    return Classes(names, ("a {}.",), published=True)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("cat\ndog\nhorse", THREE),
        (b"\xef\xbb\xbfcat\r\ndog\r\nhorse\r\n", THREE),
        ("cat\rdog\rhorse\r", THREE),
        (" cat\ndog \n\thorse\n\n\n", THREE),
        ("\ncat\n\n\ndog", ("", "cat", "", "", "dog")),
        ("cat\n\ndog\n", ("cat", "", "dog")),
        ("0\n1\n2", ("0", "1", "2")),
        ("0 degrees\n1 degree", ("0 degrees", "1 degree")),
        ("it's\n'em", ("it's", "'em")),
        ("[sic]\nb", ("[sic]", "b")),
        ("n01440764 tench\nother", ("n01440764 tench", "other")),
    ],
)
def test_names(tmp_path: Path, names: bytes | str, wanted: tuple[str, ...]) -> None:
    assert read_class_names(listed(tmp_path, names)) == wanted


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("", "holds no class"),
        ("\n \n", "holds no class"),
        ('["cat", "dog"]', "a list in JSON or Python"),
        ('{\n "0": "cat",\n "1": "dog"\n}\n', "a list in JSON or Python"),
        ("'cat',\n'dog',\n", "stand in quotes"),
        ("0: cat\n1: dog\n", "lines are numbered"),
        ("1,cat\n2,dog\n", "lines are numbered"),
        ("0\tcat\n1\tdog\n", "lines are numbered"),
        ("n01440764 tench\nn01443537 goldfish\n", "WordNet"),
        ("cat\tx\ndog\ty\n", "several columns"),
        ("cat\n\ndog\n\nhorse\n", "every second line is blank"),
    ],
)
def test_files_that_are_no_list_of_names(tmp_path: Path, names: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_class_names(listed(tmp_path, names))
    assert caught.value.where == str(tmp_path / "classnames.txt")


def test_classes_without_a_name_are_counted() -> None:
    assert nameless_notes(of(*THREE), {}) == nameless_notes(None, {}) == ()
    (note,) = nameless_notes(of("a", *[""] * 7), {0: 9, 1: 2, 7: 3})
    assert note.startswith("7 of 8 classes have no name in classnames.txt (1, 2, 3, 4, 5, ...)")
    assert "samples of theirs: 5" in note
