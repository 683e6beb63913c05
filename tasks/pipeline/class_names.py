"""Checks that the prompts of different classes are different tokens, without which their accuracy means nothing."""

from __future__ import annotations

from artifacts.errors import DataError
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.base import Classes
from tasks.data.pinned import DataRef
from tasks.data.templates import fill


def require_classes_apart(snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef) -> None:
    """Refuse a user's labels if two of them become the same tokens under every template.

    Published sets with a list of classes are accepted all the same: the report names classes that are alike.

    Raises:
        DataError: there are two such labels; the message names the first two.
    """
    dataset = data.open()
    if dataset.classes is None or dataset.classes.published:
        return
    processor = Preprocess.of(snapshot, preprocess)
    alike = _alike(dataset.classes, processor)
    if alike is not None:
        one, other = alike
        raise DataError(
            f"the labels {one!r} and {other!r} are the same tokens to this model under every template",
            where=dataset.source,
            expected="classes whose prompts differ",
            fix="give them names that the model's tokenizer tells apart, or make them one class",
        )


def _alike(classes: Classes, processor: Preprocess) -> tuple[str, str] | None:
    """Two classes with the same tokens under all templates, or None. Each template is applied only to classes that are
    still alike."""
    groups = [list(classes.names)]
    for template in classes.templates:
        groups = [part for group in groups for part in _split(group, template, processor)]
        if not groups:
            return None
    return groups[0][0], groups[0][1]


def _split(names: list[str], template: str, processor: Preprocess) -> list[list[str]]:
    """The groups of two or more `names` that become the same tokens under a template."""
    first = processor.first_alike([fill(template, name) for name in names])
    together: dict[int, list[str]] = {}
    for name, place in zip(names, first.tolist(), strict=True):
        together.setdefault(place, []).append(name)
    return [group for group in together.values() if len(group) > 1]
