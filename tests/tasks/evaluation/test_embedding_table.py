"""Several targets beside one FP32 reference."""

from __future__ import annotations

from collections import Counter

import numpy as np

from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.evaluation.embedding_table import EmbeddingTable
from tests.tasks.support import Case


def test_fp32_has_its_rows_once_and_every_target_its_own(store: Store) -> None:
    data, dataset = pin_data("digits", "evaluation", 40)
    case = Case(store, data, {"fp16": 0.001, "fp8": 0.3})
    arrays = {
        (encoder, target, precision): (case.indices if encoder == "image" else case.texts, array)
        for (encoder, precision), array in case.arrays.items()
        for target in (("pytorch",) if precision == "fp32" else ("ort", "trt"))
    }
    arrays["image", "trt", "fp8"] = (case.indices, np.roll(case.arrays["image", "fp8"], 1, axis=0))
    table = EmbeddingTable(dataset, arrays)
    rows = list(table.task_rows())
    about = ("target", "precision", "reference", "metric")
    assert set(Counter(tuple(row[name] for name in about) for row in rows).values()) == {1}
    assert table.targets() == ["ort", "trt"]
    top1 = {row["target"]: row["value"] for row in rows if (row["precision"], row["metric"]) == ("fp8", "top1")}
    assert top1.keys() == {"ort", "trt"}
    assert top1["ort"] != top1["trt"]


def test_only_pictures_that_every_runtime_decoded_are_compared(store: Store) -> None:
    data, dataset = pin_data("digits", "evaluation", 40)
    case = Case(store, data, {"fp16": 0.0, "fp8": 0.0})
    arrays = {
        (encoder, "pytorch" if precision == "fp32" else "ort", precision): (
            (case.indices, array) if encoder == "image" else (case.texts, array)
        )
        for (encoder, precision), array in case.arrays.items()
    }
    kept = [row for row in range(40) if row != 7]
    arrays["image", "ort", "fp8"] = ([case.indices[row] for row in kept], case.arrays["image", "fp8"][kept])
    table = EmbeddingTable(dataset, arrays)
    assert table.indices == [case.indices[row] for row in kept]
    rows = {(r["precision"], r["metric"]): r for r in table.task_rows() if r["reference"] in ("labels", "fp32")}
    assert rows["fp8", "top1_difference"]["value"] == 0 and rows["fp8", "top1_difference"]["samples"] == 39
    assert rows["fp8", "top1"]["value"] == rows["fp32", "top1"]["value"]
