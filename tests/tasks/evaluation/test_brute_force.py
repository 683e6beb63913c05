"""Whatever the data set: every number that a run reports is the one that brute force finds in what was drawn."""

from __future__ import annotations

import base64
import io
import json
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from PIL import Image

from artifacts.errors import ClipsmithError
from artifacts.manifest import Row
from artifacts.schema import check_rows
from artifacts.store.store import Store, activate
from tasks.data.pinned import DataRef, pin_both
from tasks.pipeline.accuracy import Accuracy, score
from tasks.pipeline.class_names import require_classes_apart
from tasks.pipeline.embedding import embed
from tests.tasks.evaluation import oracle
from tests.tasks.evaluation.drawn_sets import LAYOUTS, DrawnSet, drawn_sets
from tests.tasks.evaluation.oracle import ANY, Expected, Truth
from tests.tasks.evaluation.stand_in import KINDS, stand_in
from tests.thorough import amount

_LIMIT = 1_000_000
_PREPROCESS: Any = "stand-in"
_DRAWN = (
    *(
        "differ only in case, Unicode form or white space",
        "are the same tokens",
        "alike classes",
        "each caption",
        "a class without samples",
        "a picture twice",
    ),
    *("a picture in other bytes", "one encoder", "top5", "recall@10", *KINDS),
    *(f"{layout} of {what}" for layout in LAYOUTS for what in ("classes", "captions")),
)
"""What has to be among the sets, or too little is tried."""


def pinned(drawn: DrawnSet, folder: Path) -> DataRef:
    """The set as a run opens and checks it."""
    data = pin_both(None, 0, drawn.write(folder), _LIMIT, []).evaluation
    with stand_in(drawn.kind) as snapshot:
        require_classes_apart(snapshot, _PREPROCESS, data)
    return data


def scored(drawn: DrawnSet, data: DataRef) -> Accuracy:
    """The set through the steps of a run, with the stand-in encoder."""
    made = []
    for encoder in ("image", "text"):
        for precision in ("fp32", "fp16", "fp8") if encoder in drawn.optimised else ("fp32",):
            target = "pytorch" if precision == "fp32" else "onnxruntime"
            with stand_in(drawn.kind, precision) as snapshot:
                made.append(embed(snapshot, _PREPROCESS, data, encoder, precision, target, None, drawn.batch))
    return score(data, made)


def check_set(drawn: DrawnSet, folder: Path, store: Store) -> list[str]:
    """Compare everything; what became of the set, and what was in it."""
    truth = Truth(drawn)
    refusal = truth.refusal()
    try:
        data = pinned(drawn, folder)
    except ClipsmithError as error:
        assert refusal is not None, error
        assert type(error) is refusal.error and refusal.words in error.what, (refusal, error)
        named = [repr(one) in error.what and repr(other) in error.what for one, other in refusal.pairs]
        assert any(named) or not named, error
        return [refusal.words]
    assert refusal is None, f"{refusal} expected"
    try:
        accuracy = scored(drawn, data)
    except ClipsmithError as error:
        assert type(error) is truth.same_as_baseline(), error
        return [type(error).__name__]
    assert truth.same_as_baseline() is None
    try:
        expected = oracle.accuracy_table(truth)
    except oracle.Unsure:
        assume(False)
    compare_table(accuracy.rows, expected)
    compare_details(json.loads((store.path(accuracy.details) / "task_details.json").read_text()), truth)
    compare_evaluation(store.path(accuracy.evaluation), truth)
    names, asked = {key[-1] for key in expected}, truth.asked
    found = {
        "alike classes": "alike_classes" in names,
        "each caption": any(name.endswith("_each_caption") for name in names),
        "a class without samples": len({one.label for one in asked}) < len(truth.names),
        "a picture twice": len({one.picture for one in asked}) < len(asked),
        "a picture in other bytes": len({one.picture.rgb().tobytes() for one in asked})
        < len({one.picture for one in asked}),
        "one encoder": len(drawn.optimised) == 1,
        "top5": "top5" in names,
        "recall@10": "recall@10_image_to_text" in names,
        f"{drawn.layout} of {'classes' if drawn.labelled else 'captions'}": True,
        drawn.kind: True,
    }
    return ["scored", *(what for what, there in found.items() if there)]


def compare_table(rows: Sequence[Row], expected: dict[oracle.Key, Expected]) -> None:
    check_rows("accuracy", rows)
    names = ("encoder", "target", "precision", "reference", "metric")
    found = {tuple(str(row[name]) for name in names): row for row in rows}
    assert len(found) == len(rows)
    assert found.keys() == expected.keys()
    for key, wanted in expected.items():
        row, name = found[key], " ".join(key)
        assert row["samples"] == wanted.samples, name
        if wanted.value is not ANY:
            assert _equal(row["value"], wanted.value, key[-1]), (name, row["value"], wanted.value)
        _compare_interval(row, wanted.interval, name)


def _equal(value: Any, wanted: float | None, metric: str) -> bool:
    """Shares to the last digits; what is computed in FP32, to its precision."""
    if value is None or wanted is None:
        return value is wanted
    far = {"snr_db": 1e-2, "max_abs": 1e-5, "cosine_mean": 1e-6, "cosine_min": 1e-6}.get(metric, 1e-12)
    return math.isclose(value, wanted, rel_tol=far, abs_tol=far)


def _compare_interval(row: Row, wanted: Any, name: str) -> None:
    value, low, high = row["value"], row["low"], row["high"]
    if wanted is None:
        assert low is None and high is None, name
        return
    assert isinstance(value, float) and isinstance(low, float) and isinstance(high, float), name
    if isinstance(wanted, tuple):
        assert (low, high) == pytest.approx(wanted, abs=1e-12), name
        return
    # Both are drawn at random: ours lies where 1.5 % more or less of the other's draws would put it.
    for end, percent, bound in ((low, 2.5, min), (high, 97.5, max)):
        near = [bound(float(end), value) for end in np.percentile(wanted, (percent - 1.5, percent + 1.5))]
        assert near[0] - 1e-12 <= end <= near[1] + 1e-12, (name, end, near)


def compare_details(details: dict[str, Any], truth: Truth) -> None:
    classes = oracle.class_table(truth)
    assert len(details["classes"]) == len(classes)
    for row, wanted in zip(details["classes"], classes, strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)
    assert details["alike"] == oracle.alike_groups(truth)
    every = oracle.changes(truth)
    compare_changes(details["changed"], every, near=oracle.NEAR if truth.drawn.kind == "rough" else 0.0)


def compare_changes(rows: Sequence[dict[str, Any]], every: Sequence[oracle.Change], near: float) -> None:
    """The ten that change most: first those that flip, then by how far the margin moves, then as they come."""
    by_id = {change.asked.id: change for change in every}
    assert "" not in by_id
    shown = [by_id[row["sample"]] for row in rows]
    keys = [(not change.flipped, -change.moved, every.index(change)) for change in shown]
    rest = [(not c.flipped, -c.moved, n) for n, c in enumerate(every) if c not in shown]
    assert len(set(keys)) == len(rows) == min(10, len(every))
    for one, other in [*pairwise(keys), *((keys[-1], key) for key in rest)]:
        assert one <= other or (one[0] == other[0] and abs(one[1] - other[1]) < near), (one, other)
    for row, change in zip(rows, shown, strict=True):
        assert row["truth"] == change.truth
        assert (row["fp32_margin"], row["fp8_margin"]) == pytest.approx(change.margins, abs=oracle.NEAR)
        if change.sure:
            assert (row["fp32"], row["fp8"]) == tuple(" > ".join(best) for best in change.best)
        data = base64.b64decode(row["thumbnail"].removeprefix("data:image/jpeg;base64,"))
        small = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)
        # A small JPEG of noise keeps little but its mean.
        assert abs(small.mean() - change.asked.picture.rgb().mean()) < 10


def compare_evaluation(folder: Path, truth: Truth) -> None:
    table = pd.read_parquet(folder / "samples.parquet")
    assert table["caption"].tolist() == [sample.caption for sample in truth.samples]
    assert table["image_hash"].tolist() == truth.hashes
    assert table["id"].is_unique
    labels = [sample.label for sample in truth.samples]
    assert table["label"].tolist() == labels if truth.names else table["label"].isna().all()
    content = json.loads((folder / "classes.json").read_text())
    wanted = {"names": list(truth.names), "templates": list(truth.templates)} if truth.names else None
    assert content == wanted


# Of each layout, with classes or captions, and of each kind of encoder.
@pytest.mark.parametrize("examples", [3, pytest.param(amount(8, 150), marks=pytest.mark.heavy, id="long")])
def test_every_number_is_that_of_brute_force(examples: int, tmp_path: Path) -> None:
    store, became = Store.open(tmp_path / "store"), Counter[str]()

    def try_set(drawn: DrawnSet) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder, activate(store):
            became.update(check_set(drawn, Path(folder), store))

    for number, (layout, labelled, kind) in enumerate(product(LAYOUTS, (True, False), KINDS)):
        calm = settings(
            max_examples=examples * (3 if labelled and layout == "folder" else 1),  # many are refused
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # to make a set smaller takes minutes
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        # Not `derandomize`: it would draw the same numbers for each of them.
        calm(seed(number)(given(drawn_sets(layout, labelled, kind))(try_set)))()
    assert became["scored"] > 12 * examples / 2, became
    assert set(_DRAWN) <= became.keys(), became
