"""Gate results as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, get_args

from artifacts import format as show
from artifacts.manifest import GateResult, GateStatus


ORDER: tuple[GateStatus, ...] = get_args(GateStatus)
"""Statuses, the most urgent first."""

_LABELS = {
    "min_cosine_mean": "mean cosine with FP32",
    "min_cosine_worst": "worst sample's cosine with FP32",
    "max_top1_drop": "zero-shot top-1 drop",
    "max_recall_drop": "recall@1 drop",
    "max_size_ratio": "FP8 ONNX file as a share of FP16's",
}
_DIRECTIONS = {
    "recall@1_image_to_text_difference": "image-to-text ",
    "recall@1_text_to_image_difference": "text-to-image ",
}


class GateWords(NamedTuple):
    """What was judged, of what, the measured value with its interval, and the bound."""

    what: str
    where: str
    measured: str
    bound: str


def words(result: GateResult) -> GateWords:
    """One result in plain words; a gate that this version does not know goes by its name."""
    what = _DIRECTIONS.get(result.metric or "", "") + _LABELS.get(result.name, result.name)
    if result.reference and result.name.endswith("_drop"):
        what += f" against {result.reference.upper()}"
    side, bound = ("at least", result.min) if result.max is None else ("at most", result.max)
    return GateWords(
        what=what,
        where=", ".join(place for place in (result.encoder, result.target) if place),
        measured=_measured(result),
        bound=f"{side} {_number(result.name, bound)}",
    )


def sentence(result: GateResult) -> str:
    """`max_top1_drop failed: ...`, with what was measured and what was asked for."""
    said = words(result)
    of = f" ({said.where})" if said.where else ""
    found = "was not measured" if result.value is None else f"is {said.measured}"
    return f"{result.name} {result.status}: {said.what}{of} {found}, asked for {said.bound}"


def tally(results: Sequence[GateResult]) -> str:
    """`1 failed, 3 passed`: the most urgent first."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])


def _measured(result: GateResult) -> str:
    if result.value is None:
        return show.NONE
    text = _number(result.name, result.value)
    if result.low is None or result.high is None:
        return text
    low, high = (_number(result.name, end) for end in (result.low, result.high))
    return f"{text} (95 % interval {low} to {high})"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return show.NONE
    if name.endswith("_drop"):
        return show.loss(value)
    return show.percent(value) if name == "max_size_ratio" else show.metric(name.partition("_")[2], value)
