"""Gates and gate results in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from artifacts import number_words as show
from artifacts.manifest import GateResult, GateStatus
from artifacts.release.gates import Gates
from artifacts.release.sample_size import POWER
from artifacts.schema import OVER_CHANCE

ORDER: tuple[GateStatus, ...] = get_args(GateStatus)
"""Statuses, the most urgent first."""

_LABELS = {
    "min_cosine_mean": "mean cosine with FP32",
    "min_cosine_worst": "worst sample's cosine with FP32",
    "max_top1_drop": "zero-shot top-1 drop",
    "max_class_recall_drop": "mean per-class recall drop",
    "max_recall_drop": "recall@1 drop",
    "max_fp16_change": "change of FP16's own accuracy",
    "above_chance": "FP32's zero-shot top-1 above chance",
    OVER_CHANCE[1]: "FP32's image-to-text recall@1 above chance",
    "max_size_ratio": "FP8 ONNX file as a share of FP16's",
    "min_attention_fused": "FP8 attention blocks in one kernel",
    "min_products_fp8": "matrix products in FP8",
}
_POINTS = " points"
_SIDES: dict[str, Literal["at least", "at most"]] = {"min": "at least", "max": "at most"}
_IN_POINTS = ("_drop", "_change", "_chance")
_DIRECTIONS = {
    "recall@1_image_to_text_difference": "image-to-text ",
    "recall@1_text_to_image_difference": "text-to-image ",
}


_NEEDS = {
    "max_top1_drop": "an evaluation set with labels, and FP8",
    "max_class_recall_drop": "an evaluation set with labels, and FP8",
    "max_recall_drop": "an evaluation set with captions and without labels, and FP8",
    "max_fp16_change": "an evaluation set with labels or captions, and FP16",
    "above_chance": "an evaluation set with labels or captions",
    "max_size_ratio": "both FP16 and FP8",
    "min_attention_fused": "an FP8 engine of TensorRT or TensorRT for RTX",
    "min_products_fp8": "an FP8 engine of TensorRT or TensorRT for RTX",
}
_RATIOS = ("max_size_ratio", "min_attention_fused", "min_products_fp8")


class GateKind(NamedTuple):
    """A gate: what it judges, whether its bound is a minimum or maximum, its unit, what it needs to be judged, its
    default bound (None: not judged), and its key in the parameters (None: other gates add it)."""

    name: str
    holds: str
    side: Literal["at least", "at most"]
    unit: str
    needs: str
    default: float | None
    key: str | None


class GateWords(NamedTuple):
    """A result in words: what was judged, of which row, the value, its 95 % interval (or nothing), and the bound."""

    what: str
    where: str
    measured: str
    interval: str
    bound: str


def kinds() -> list[GateKind]:
    """Every gate that there is."""
    fields = [(name, field.description or "", field.default) for name, field in Gates.model_fields.items()]
    set_by_people = [
        GateKind(name, holds, _SIDES[name[:3]], _unit(name), _NEEDS.get(name, "FP8"), default, f"gates.{name}")
        for name, holds, default in fields
    ]
    name, holds = "above_chance", "FP32's own top-1 or recall@1 is above chance. A gate on either brings it along."
    return [*set_by_people, GateKind(name, holds, "at least", _unit(name), _NEEDS[name], None, None)]


def _unit(name: str) -> str:
    if name.endswith(_IN_POINTS):
        return "fraction of 1 (0.01 is a point)"
    return "ratio" if name in _RATIOS else "cosine"


def words(result: GateResult) -> GateWords:
    """One result in plain words; an unknown gate (of another version) is called by its name."""
    metric = result.metric or ""
    what = _DIRECTIONS.get(metric, "") + _LABELS.get(metric, _LABELS.get(result.name, result.name))
    if result.reference and result.name.endswith(("_drop", "_change")):
        what += f" against {result.reference.upper()}"
    side, bound = ("at least", result.min) if result.max is None else ("at most", result.max)
    return GateWords(
        what=what,
        where=", ".join(place for place in (result.encoder, result.target) if place),
        measured=_number(result.name, result.value),
        interval=_interval(result),
        bound=f"{side} {_bound(result.name, bound)}",
    )


def sentence(result: GateResult) -> str:
    """`max_top1_drop failed: ...`, with the measured value, the bound, and what would settle an undecided result."""
    said = words(result)
    of = f" ({said.where})" if said.where else ""
    found = f"{result.name} {result.status}: {said.what}{of}"
    if result.value is None:
        return f"{found}, asked for {said.bound}, needs {_NEEDS.get(result.name, 'FP8')}"
    interval = f" (95 % interval {said.interval})" if said.interval else ""
    return f"{found} is {said.measured}{interval}, asked for {said.bound}{_outlook(result)}"


def tally(results: Sequence[GateResult]) -> str:
    """`1 failed, 3 passed`, the most urgent status first."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])


def _outlook(result: GateResult) -> str:
    if result.name == "above_chance" and result.status == "failed":
        pairs = "labels belong to these pictures and class names"
        if result.metric == OVER_CHANCE[1]:
            pairs = "captions belong to these pictures"
        return f": accuracy is at chance; do the {pairs}?"
    if result.status != "undecided" or result.samples is None:
        return ""
    if result.needed is None:
        return "; no number of samples would settle it: what was measured is the bound itself"
    more = f"{result.needed - result.samples:,} more samples than these {result.samples:,}"
    return f"; {more} would settle it with a probability of {POWER:.0%}, if they are like these"


def _interval(result: GateResult) -> str:
    if result.low is None or result.high is None:
        return ""
    low, high = (_number(result.name, end) for end in (result.low, result.high))
    return f"{low.removesuffix(_POINTS)} to {high.removesuffix(_POINTS)}"


def _bound(name: str, value: float | None) -> str:
    """A bound with as few digits as it needs."""
    if value is None:
        return show.NONE
    if name.endswith(_IN_POINTS):
        return f"{value * 100:.6g}{_POINTS}"
    return f"{value * 100:.6g} %" if name in _RATIOS else f"{value:.6g}"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return show.NONE
    if name.endswith(_IN_POINTS):
        return show.loss(value)
    return show.percent(value) if name in _RATIOS else show.metric(name.partition("_")[2], value)
