"""Class names, templates and types as people publish them beside shards: read, said or refused with the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from artifacts.errors import DataError, DataNotFound
from tasks.data.published_classes import from_one_note, is_classification, out_of_range, read_classes
from tasks.data.templates import DEFAULT_TEMPLATES

THREE = ("cat", "dog", "horse")


def classes(root: Path, names: bytes | str) -> tuple[str, ...]:
    data = names if isinstance(names, bytes) else names.encode()
    (root / "classnames.txt").write_bytes(data)
    return read_classes(root).names


@pytest.mark.parametrize("other", ["classnames.json", "classes.txt"])
def test_names_in_another_file(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_text('["cat"]')
    assert is_classification(tmp_path)
    with pytest.raises(DataNotFound, match=f"write the names of {other} into classnames.txt"):
        read_classes(tmp_path)


def test_the_folder_of_a_split_is_told_from_the_set(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text("cat")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataNotFound, match=f"wds:{tmp_path}:test"):
        read_classes(tmp_path / "test")


@pytest.mark.parametrize(
    ("templates", "wanted"),
    [
        ("a {c}.\n\nthe {c} or a {c}", ("a {}.", "the {} or a {}")),
        ("a photo of a {}.\r\nthe {}\r\n", ("a photo of a {}.", "the {}")),
    ],
)
def test_templates(tmp_path: Path, templates: str, wanted: tuple[str, ...]) -> None:
    (tmp_path / "zeroshot_classification_templates.txt").write_text(templates, newline="")
    (tmp_path / "classnames.txt").write_text("cat")
    assert read_classes(tmp_path).templates == wanted


@pytest.mark.parametrize(
    "line",
    ["a photo of {article} {c}.", "a {c[0]}", "a {c} {}", "a {0}", "a {name}", "lambda c: f'a {c}'", "f'a {c}',"],
)
def test_templates_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "zeroshot_classification_templates.txt").write_text(f"a {{c}}\n{line}\n")
    (tmp_path / "classnames.txt").write_text("cat")
    with pytest.raises(DataError, match="line 2"):
        read_classes(tmp_path)


def test_templates_in_json_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text("cat")
    assert read_classes(tmp_path).templates == DEFAULT_TEMPLATES
    (tmp_path / "zeroshot_classification_templates.json").write_text('["a {c}"]')
    with pytest.raises(DataError, match="templates are in JSON"):
        read_classes(tmp_path)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("classification", True), ("Retrieval\r\n", False), ("\ufeffclassification\n", True)]
)
def test_types(tmp_path: Path, kind: str, wanted: bool) -> None:
    (tmp_path / "dataset_type.txt").write_text(kind, encoding="utf-8")
    assert is_classification(tmp_path) is wanted


@pytest.mark.parametrize("kind", ["multilabel", "multi-label", "Multi_Label\n"])
def test_multi_label_sets_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "dataset_type.txt").write_text(kind)
    with pytest.raises(DataError, match="several classes each"):
        is_classification(tmp_path)


@pytest.mark.parametrize(
    ("label", "used", "reason"),
    [
        (3, {1: 2, 2: 1, 3: 1}, "the labels count from 1"),
        (3, {0: 2, 3: 1}, "out of range\n"),
        (3, {1: 2, 3: 1, 9: 1}, "out of range\n"),
        (-1, {-1: 4}, "hidden labels"),
    ],
)
def test_labels_out_of_range(label: int, used: dict[int, int], reason: str) -> None:
    assert reason in str(out_of_range(label, "s1.cls", 3, Counter(used)))


def test_labels_that_may_count_from_one_are_said() -> None:
    assert list(from_one_note(THREE, Counter({0: 1, 1: 1}))) == []
    assert list(from_one_note(THREE, Counter({2: 4}))) == []
    (note,) = from_one_note(THREE, Counter({1: 1, 2: 4}))
    assert "no sample is of class 0 ('cat')" in note
