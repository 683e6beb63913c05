"""The files beside a set's shards in CLIP_benchmark's layout: its type, the names of its classes, and templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifacts.errors import DataError, DataNotFound
from tasks.data.base import Classes
from tasks.data.name_list import CLASS_NAMES, ONE_A_LINE, read_class_names
from tasks.data.rows import read_utf8
from tasks.data.templates import DEFAULT_TEMPLATES, read_benchmark_templates

_TEMPLATES, TYPE = "zeroshot_classification_templates.txt", "dataset_type.txt"
_TYPES = ("classification", "retrieval")
_MULTILABEL = re.compile(r"multi[-_ ]?label.*")
_OTHER_NAMES = ("classnames.json", "class_names.txt", "class_names.json", "classes.txt", "classes.json", "labels.txt")


def is_classification(root: Path) -> bool:
    """Whether a set is for classification: by `dataset_type.txt`, or else by the presence of class names or templates.

    Raises:
        DataError: the set's type cannot be evaluated.
    """
    path = root / TYPE
    if not path.is_file():
        names = (CLASS_NAMES, _TEMPLATES, _in_json(_TEMPLATES), *_OTHER_NAMES)
        return any((root / name).is_file() for name in names)
    kind = read_utf8(path).strip().lower()
    if kind not in _TYPES:
        several = _MULTILABEL.fullmatch(kind)
        raise DataError(
            f"{kind[:40]!r} is not a type of data set that can be evaluated"
            + (": its pictures have several classes each" if several else ""),
            where=f"{path}, line 1",
            expected="classification (one class to a picture) or retrieval",
            fix="use another data set",
        )
    return kind == "classification"


def read_classes(root: Path) -> Classes:
    """The names and templates of the classes; a class whose line is blank has no name but keeps its number.

    Raises:
        DataNotFound: there is no `classnames.txt`.
        DataError: a file does not have one name, or one template, per line.
    """
    path, templates = root / CLASS_NAMES, root / _TEMPLATES
    if not path.is_file():
        raise no_names(root)
    if templates.is_file():
        return Classes(read_class_names(path), read_benchmark_templates(templates), published=True)
    as_json = root / _in_json(_TEMPLATES)
    if as_json.is_file():
        raise DataError(
            "the templates are in JSON",
            where=as_json,
            expected=f"{_TEMPLATES}: one template a line, with {{c}} for the class",
            fix=f"write them into {_TEMPLATES}, or remove the file to use the default templates",
        )
    return Classes(read_class_names(path), DEFAULT_TEMPLATES, published=True)


def no_names(root: Path) -> DataNotFound:
    """The error about a classification set without class names."""
    other = next((name for name in _OTHER_NAMES if (root / name).is_file()), None)
    fix = "add it" if other is None else f"write the names of {other} into {CLASS_NAMES}, one a line"
    if (root.parent / CLASS_NAMES).is_file():  # the user named the folder of a split
        fix = f"name the folder above, and the split: wds:{root.parent}:{root.name}"
    return DataNotFound("there are no class names", where=root / CLASS_NAMES, expected=ONE_A_LINE, fix=fix)


def from_one_note(names: Sequence[str], labels: Counter[int]) -> Iterator[str]:
    """A note if the labels may count from 1, which cannot be known while the last class has no samples."""
    used = [label for label, count in labels.items() if count]
    if used and min(used) == 1 and len(names) > 2:
        yield f"no sample is of class 0 ({names[0]!r}): if the labels count from 1, each of them is wrong"


def out_of_range(label: int, where: str, classes: int, used: Counter[int]) -> DataError:
    """The error about a class number that is not in `classnames.txt`; `used` counts the samples of each class."""
    if (min(used), max(used)) == (1, classes):
        what, fix = ": no sample is of class 0, so that the labels count from 1", "subtract 1 from every class"
    elif label == -1:
        what, fix = ", as hidden labels of test splits have it", "use a split with labels"
    else:
        what, fix = "", "correct the class, or the class names"
    return DataError(
        f"class {label} is out of range{what}",
        where=where,
        expected=f"0 to {classes - 1}: {CLASS_NAMES} names {classes} classes",
        fix=fix,
    )


def _in_json(name: str) -> str:
    return f"{Path(name).stem}.json"
