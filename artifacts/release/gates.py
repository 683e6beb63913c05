"""Judged gates: what the tables of a release must say for it to be accepted.

A gate judges the 95 % interval of a row where it has one, and else its value. It is met when the whole interval is on
the right side of the bound, missed when all of it is on the wrong side, and undecided when the bound lies inside: then
the release is not accepted, and the result says how many samples would settle it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from artifacts.manifest import GateResult, GateStatus, Row
from artifacts.models import Strict
from artifacts.prefect_forms import FormModel, NullAs
from artifacts.release.sample_size import samples_needed
from artifacts.schema import OVER_CHANCE, Tables, number


class Gate(Strict):
    """A bound on some rows of one table.

    `where` selects rows: for each column, the allowed values. `drop` judges how far the value falls, which is its
    negative; `change` judges how far it is from 0 in either direction. Exactly one of `min` and `max` is set; the bound
    itself is allowed. A `required` gate rejects a release in which there is nothing to judge; others are then left
    out. With `proof`, a result that would be undecided counts as failed.
    """

    name: str
    table: Literal["accuracy", "sizes", "engines"]
    column: str
    where: dict[str, tuple[str, ...]]
    drop: bool = False
    change: bool = False
    proof: bool = False
    min: float | None = None
    max: float | None = None
    required: bool = True

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        if (self.min is None) == (self.max is None):
            raise ValueError(f"the gate {self.name} needs either min or max")
        return self


Bound = Annotated[Annotated[float, Field(gt=0, le=1)] | None, NullAs("not judged", "bound")]


class Gates(FormModel):
    """The gates of a release. One that does not pass them all is published as rejected, and the run fails.

    What was set but could not be measured counts as failed. The defaults are so wide that only something broken fails
    them, and do not count where there is nothing to judge: without FP8, or without an FP16 file to compare with. A
    gate on top-1 or a recall brings one more: FP32 itself must be above chance, or the others say nothing.
    """

    min_cosine_mean: Bound = Field(
        default=0.9,
        title="Least mean cosine",
        description="Fidelity: the least mean cosine of an encoder's embeddings with FP32's.",
    )
    min_cosine_worst: Bound = Field(
        default=None, title="Least cosine of any sample", description="Fidelity: the least cosine of any sample."
    )
    max_top1_drop: Bound = Field(
        default=None,
        title="Most top-1 lost",
        description="Accuracy: the most zero-shot top-1 lost against FP16 and FP32, as a fraction of 1: 0.005 is "
        "half a point.",
    )
    max_class_recall_drop: Bound = Field(
        default=None,
        title="Most mean class recall lost",
        description="Accuracy: the most of the classes' mean recall lost against FP16 and FP32, as a fraction: rare "
        "classes count as much as common ones.",
    )
    max_recall_drop: Bound = Field(
        default=None,
        title="Most recall lost",
        description="Accuracy: the most recall@1 lost against FP16 and FP32, image to text and text to image, as a "
        "fraction.",
    )
    max_fp16_change: Bound = Field(
        default=None,
        title="Most change in FP16",
        description="Baseline: the most that FP16's own top-1 or recall@1 may differ from FP32's, up or down, as a "
        "fraction: 0.001 is a tenth of a point.",
    )
    max_size_ratio: Bound = Field(
        default=0.98, title="Largest size ratio", description="Size: the largest FP8 ONNX file as a fraction of FP16's."
    )
    min_attention_fused: Bound = Field(
        default=None,
        title="Least attention in one kernel",
        description="Engines: the least share of an FP8 engine's attention blocks that the builder made one kernel of. "
        "Only engines of TensorRT and of TensorRT for RTX tell.",
    )
    min_products_fp8: Bound = Field(
        default=None,
        title="Least products in FP8",
        description="Engines: the least share of an FP8 engine's matrix products, those of attention included, that "
        "are computed in FP8. Only engines of TensorRT and of TensorRT for RTX tell.",
    )

    def gates(self) -> tuple[Gate, ...]:
        """The gates that are on. A bound that differs from its default must be measured."""
        fields = type(self).model_fields
        gates = tuple(
            Gate(name=name, **_ROWS[name], **{name.partition("_")[0]: bound}, required=bound != fields[name].default)
            for name, bound in self
            if bound is not None
        )
        over = {
            OVER_CHANCE[0]: (self.max_top1_drop, self.max_class_recall_drop),
            OVER_CHANCE[1]: (self.max_recall_drop,),
        }
        # An evaluation set has one of the two tasks, so only that task's metric is judged.
        where = {"precision": ("fp32",), "metric": tuple(metric for metric, bounds in over.items() if any(bounds))}
        if not where["metric"]:
            return gates
        above = Gate(name="above_chance", table="accuracy", column="value", where=where, proof=True, min=0.0)
        return (*gates, above)


_COSINES: dict[str, Any] = {"table": "accuracy", "column": "value"}
_DROPS: dict[str, Any] = {"table": "accuracy", "column": "value", "drop": True}
_FP8 = {"precision": ("fp8",)}
_BASELINES = {"reference": ("fp32", "fp16")}
_ENGINES: dict[str, Any] = {"table": "engines", "where": _FP8}
_RECALLS = ("recall@1_image_to_text_difference", "recall@1_text_to_image_difference")
_ROWS: Mapping[str, dict[str, Any]] = {
    "min_cosine_mean": _COSINES | {"where": _FP8 | {"metric": ("cosine_mean",), "reference": ("fp32",)}},
    "min_cosine_worst": _COSINES | {"where": _FP8 | {"metric": ("cosine_min",), "reference": ("fp32",)}},
    "max_top1_drop": _DROPS | {"where": _FP8 | _BASELINES | {"metric": ("top1_difference",)}},
    "max_class_recall_drop": _DROPS | {"where": _FP8 | _BASELINES | {"metric": ("mean_class_recall_difference",)}},
    "max_recall_drop": _DROPS | {"where": _FP8 | _BASELINES | {"metric": _RECALLS}},
    "max_fp16_change": {
        "table": "accuracy",
        "column": "value",
        "change": True,
        "where": {"precision": ("fp16",), "reference": ("fp32",), "metric": ("top1_difference", *_RECALLS)},
    },
    # Engines are left out: a small one is mostly kernels, and FP8's may be the larger.
    "max_size_ratio": {"table": "sizes", "column": "vs_fp16", "where": _FP8 | {"target": ("onnx",)}},
    "min_attention_fused": _ENGINES | {"column": "fused_share"},
    "min_products_fp8": _ENGINES | {"column": "fp8_share"},
}


def judge(gates: Iterable[Gate], tables: Tables) -> tuple[GateResult, ...]:
    """Judge the tables of a release: one result for every row that a gate selects."""
    return tuple(result for gate in gates for result in _judge(gate, tables))


def _judge(gate: Gate, tables: Tables) -> list[GateResult]:
    rows = [
        row
        for row in tables.get(gate.table, ())
        if all(row.get(column) in allowed for column, allowed in gate.where.items())
    ]
    results = [_judge_row(gate, row) for row in rows]
    if gate.required:
        return results or [_judge_row(gate, {})]
    return [result for result in results if result.status != "not measured"]


def _judge_row(gate: Gate, row: Row) -> GateResult:
    value, low, high = _judged(gate, row)
    status = _status(gate, value, low, high)
    samples = None if low is None else row.get("samples")
    name = {column: row.get(column) for column in ("metric", "encoder", "target", "reference")}
    return GateResult(
        name=gate.name,
        status=status,
        min=gate.min,
        max=gate.max,
        value=value,
        low=low,
        high=high,
        samples=samples if isinstance(samples, int) else None,
        needed=_needed(gate, row) if status == "undecided" else None,
        **{column: None if text is None else str(text) for column, text in name.items()},
    )


def _judged(gate: Gate, row: Row) -> tuple[float | None, float | None, float | None]:
    """What is compared with the bound: (value, low, high); low and high are None without an interval."""
    value, low, high = (number(row, column) for column in (gate.column, "low", "high"))
    if low is None or high is None:
        low = high = None
    if gate.drop:
        # Subtracted from zero, not negated: a drop of 0 must not become -0.
        value, low, high = (None if x is None else 0 - x for x in (value, high, low))
    if gate.change:
        value = None if value is None else abs(value)
        if low is not None and high is not None:
            ends = (abs(low), abs(high))
            low, high = 0.0 if low <= 0 <= high else min(ends), max(ends)
    return value, low, high


def _needed(gate: Gate, row: Row) -> int | None:
    """How many samples would settle an undecided result, estimated from the measured interval."""
    value, samples = _judged(gate, row)[0], row.get("samples")
    low, high = number(row, "low"), number(row, "high")
    bound = gate.min if gate.max is None else gate.max
    if value is None or low is None or high is None or bound is None or not isinstance(samples, int):
        return None
    return samples_needed(samples, low, high, bound - value)


def _status(gate: Gate, value: float | None, low: float | None, high: float | None) -> GateStatus:
    if value is None:
        return "not measured"
    if math.isnan(value):  # such as the cosine of an all-zero embedding: more samples would not settle it
        return "failed"
    least, most = (value, value) if low is None or high is None else (low, high)
    if gate.max is not None:
        met, missed = most <= gate.max, least > gate.max
    else:
        assert gate.min is not None
        met, missed = least >= gate.min, most < gate.min
    return "passed" if met else "failed" if missed or gate.proof else "undecided"
