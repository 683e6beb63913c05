"""What CLIP_benchmark's layout says of a set beside its shards: its type, the names of its classes, and templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from artifacts.errors import DataError, DataNotFound
from tasks.data.base import Classes
from tasks.data.rows import read_utf8
from tasks.data.templates import DEFAULT_TEMPLATES, read_benchmark_templates

NAMES, _TEMPLATES, TYPE = "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"
_TYPES = ("classification", "retrieval")
_MULTILABEL = re.compile(r"multi[-_ ]?label.*")
_OTHER_NAMES = ("classnames.json", "class_names.txt", "class_names.json", "classes.txt", "classes.json", "labels.txt")
_SHOWN = 5
_ONE_A_LINE = "one class a line and nothing else, the first being class 0"


def is_classification(root: Path) -> bool:
    """What `dataset_type.txt` says; without it, whether there are names of classes or templates, in whatever form.

    Raises:
        DataError: a type that cannot be evaluated.
    """
    path = root / TYPE
    if not path.is_file():
        names = (NAMES, _TEMPLATES, _in_json(_TEMPLATES), *_OTHER_NAMES)
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
    """Names and templates; a class whose line is blank has no name, and keeps its number.

    Raises:
        DataNotFound: there is no `classnames.txt`.
        DataError: a file that is not one name, or one template, a line.
    """
    path, templates = root / NAMES, root / _TEMPLATES
    if not path.is_file():
        raise no_names(root)
    if templates.is_file():
        return Classes(_names(path), read_benchmark_templates(templates), published=True)
    as_json = root / _in_json(_TEMPLATES)
    if as_json.is_file():
        raise DataError(
            "the templates are in JSON",
            where=as_json,
            expected=f"{_TEMPLATES}: one template a line, with {{c}} for the class",
            fix=f"write them into {_TEMPLATES}, or remove the file to use the default templates",
        )
    return Classes(_names(path), DEFAULT_TEMPLATES, published=True)


def no_names(root: Path) -> DataNotFound:
    """The error about a set for classification without names."""
    other = next((name for name in _OTHER_NAMES if (root / name).is_file()), None)
    fix = "add it" if other is None else f"write the names of {other} into {NAMES}, one a line"
    if (root.parent / NAMES).is_file():  # the folder of a split was named
        fix = f"name the folder above, and the split: wds:{root.parent}:{root.name}"
    return DataNotFound(
        "there are no class names",
        where=root / NAMES,
        expected=_ONE_A_LINE,
        fix=fix,
    )


def nameless_notes(names: Sequence[str], labels: Counter[int]) -> Iterator[str]:
    """What a run says of classes without a name; `labels` counts the samples of each class."""
    nameless = [place for place, name in enumerate(names) if not name]
    if nameless:
        samples = sum(labels[place] for place in nameless)
        which = ", ".join(map(str, nameless[:_SHOWN])) + (", ..." if len(nameless) > _SHOWN else "")
        yield (
            f"{len(nameless)} of {len(names)} classes have no name in {NAMES} ({which}): their prompts are the "
            f"templates without one; samples of theirs: {samples:,}"
        )


def from_one_note(names: Sequence[str], labels: Counter[int]) -> Iterator[str]:
    """What a run says of labels that may count from 1: nobody can tell while the last class has no samples."""
    used = [label for label, count in labels.items() if count]
    if used and min(used) == 1 and len(names) > 2:
        yield f"no sample is of class 0 ({names[0]!r}): if the labels count from 1, each of them is wrong"


def out_of_range(label: int, where: str, classes: int, used: Counter[int]) -> DataError:
    """The error about a class that `classnames.txt` does not have; `used` counts the samples of each class."""
    if (min(used), max(used)) == (1, classes):
        what, fix = ": no sample is of class 0, so that the labels count from 1", "subtract 1 from every class"
    elif label == -1:
        what, fix = ", as hidden labels of test splits have it", "use a split with labels"
    else:
        what, fix = "", "correct the class, or the class names"
    return DataError(
        f"class {label} is out of range{what}",
        where=where,
        expected=f"0 to {classes - 1}: {NAMES} names {classes} classes",
        fix=fix,
    )


def _in_json(name: str) -> str:
    return f"{Path(name).stem}.json"


# --- classnames.txt ----------------------------------------------------------------------------------------


def _names(path: Path) -> tuple[str, ...]:
    """One a line; blank lines at the end are none. Two classes may have one name: ImageNet's are known for it."""
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", read_utf8(path))]
    while lines and not lines[-1]:
        del lines[-1]
    if not lines:
        raise _no_list("the file holds no class", path)
    for what, is_so in _MISTAKEN.items():
        if is_so(lines):
            raise _no_list(what, path)
    return tuple(lines)


def _no_list(what: str, path: Path) -> DataError:
    return DataError(what, where=path, expected=_ONE_A_LINE, fix="write the file again so")


def _is_list_of_a_language(lines: Sequence[str]) -> bool:
    return (lines[0][:1], lines[-1][-1:]) in (("[", "]"), ("{", "}"))


def _are_quoted(lines: Sequence[str]) -> bool:
    return all(re.fullmatch(r"""(?P<quote>["']).*(?P=quote)\s*,?""", line) for line in lines)


def _are_numbered(lines: Sequence[str]) -> bool:
    found = [re.match(r"([0-9]+)\s*[:;,\t)]\s*\S", line) for line in lines]
    numbers = [int(match[1]) for match in found if match is not None]
    return len(lines) > 1 and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1)))


def _have_ids(lines: Sequence[str]) -> bool:
    return all(re.match(r"n[0-9]{8}\b", line) for line in lines)


def _have_columns(lines: Sequence[str]) -> bool:
    return all("\t" in line for line in lines)


def _are_double_spaced(lines: Sequence[str]) -> bool:
    """One blank line is a class without a name; each second one is a file whose line ends were doubled."""
    return len(lines) > 3 and all(bool(line) == (place % 2 == 0) for place, line in enumerate(lines))


_MISTAKEN: dict[str, Callable[[Sequence[str]], bool]] = {
    "the class names are a list in JSON or Python": _is_list_of_a_language,
    "the class names stand in quotes, which would become part of every prompt": _are_quoted,
    "the lines are numbered, which would become part of every prompt": _are_numbered,
    "the lines begin with WordNet's ids, which would become part of every prompt": _have_ids,
    "the lines have several columns, which would become part of every prompt": _have_columns,
    "every second line is blank": _are_double_spaced,
}
