"""Whether a release may be promoted without a person: it is accurate, above chance, and no worse than production."""

from __future__ import annotations

from collections.abc import Iterator

from artifacts.manifest import Manifest
from artifacts.number_words import points
from artifacts.schema import number

ACCURACY_GATES = ("max_top1_drop", "max_class_recall_drop", "max_recall_drop")
"""The gates on the task's accuracy; setting any of them adds the gate `above_chance`."""
MAX_DROP = 0.01
"""How much lower top-1 or recall@1 may be than the production release's, as a fraction: 0.01 is one point."""
_TASK = ("top1", "recall@1_image_to_text", "recall@1_text_to_image")


def why_not(release: Manifest, production: Manifest | None, max_drop: float | None) -> str | None:
    """Why a release must not be promoted automatically, in words; None if it may be.

    Args:
        release: The release to promote.
        production: The release that the alias points to; None if there is no alias yet.
        max_drop: How much lower FP8's top-1 or recall@1 may be than the production release's, as a fraction; None
            compares nothing.
    """
    open_gates = [result.name for result in release.gates if result.status != "passed"]
    if open_gates:
        return f"gates that did not pass: {', '.join(dict.fromkeys(open_gates))}"
    names = {result.name for result in release.gates}
    if not names.intersection(ACCURACY_GATES):
        return f"no gate on accuracy is set: one of {', '.join(ACCURACY_GATES)}"
    if "above_chance" not in names:
        return "nothing says that FP32 is above chance"
    if production is None or max_drop is None:
        return None
    if production.provenance.evaluation.digest != release.provenance.evaluation.digest:
        return f"{production.ref} was evaluated on other samples"
    return _worse(release, production, max_drop)


def _worse(release: Manifest, production: Manifest, max_drop: float) -> str | None:
    now, before = dict(_task(release)), dict(_task(production))
    if not now.keys() & before.keys():
        return f"no accuracy that both have, to compare with {production.ref}"
    for target, metric in sorted(now.keys() & before.keys()):
        change = now[target, metric] - before[target, metric]
        if change < -max_drop:
            return f"{metric} on {target} is {points(change, 2)} against {production.ref}"
    return None


def _task(release: Manifest) -> Iterator[tuple[tuple[str, str], float]]:
    """FP8's own accuracy, by target and metric."""
    for row in release.tables.get("accuracy", ()):
        value = number(row, "value")
        if row["precision"] == "fp8" and row["metric"] in _TASK and value is not None:
            yield (str(row["target"]), str(row["metric"])), value
