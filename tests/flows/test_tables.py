"""What a release says of its engines, from what they tell and what their graphs hold."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.manifest import Row
from artifacts.schema import check_rows
from flows.tables import engine_rows
from tasks.engines.plan import Made
from tasks.pipeline.engine_build import BuiltEngine
from tasks.pipeline.graph_audit import GraphAudit
from tests.artifacts.conftest import make_row

BLOCKS = ("layers.0.attn", "layers.1.attn")
NODES = [f"{block}/{product}" for block in BLOCKS for product in ("MatMul", "MatMul_2")] + ["fc/MatMul"]
FP8 = dict.fromkeys(NODES, "fp8")
FUSED = (tuple(NODES[:2]), tuple(NODES[2:4]))


def row_of(made: Made | None) -> Row | None:
    """The row of an engine whose graph has two attention blocks and a linear layer, all in FP8."""
    kinds = {"MatMul": "bmm_qk", "MatMul_2": "bmm_pv"}
    coverage = [
        make_row(
            "coverage",
            module=node.partition("/")[0],
            kind="linear" if node == "fc/MatMul" else kinds[node.partition("/")[2]],
            actual="fp8",
            node=node,
        )
        for node in NODES
    ] + [make_row("coverage", module="embedding", kind="embedding", actual="fp16", node="embedding/Gather")]
    about: dict[str, Any] = {"encoder": "text", "precision": "fp8"}
    audit = GraphAudit.model_construct(**about, coverage=tuple(coverage))
    engine = BuiltEngine.model_construct(**about, target="trtrtx-sm89", made=made)
    rows = engine_rows([audit], [engine])
    check_rows("engines", rows)
    return rows[0] if rows else None


def told(**changes: Any) -> Row:
    row = row_of(Made(**{"launches": 9, "products": FP8, "fused": FUSED} | changes))
    assert row is not None
    return row


def test_all_fused_and_in_fp8() -> None:
    names = {"encoder": "text", "target": "trtrtx-sm89", "precision": "fp8"}
    shares = {"fused_share": 1.0, "fp8_share": 1.0, "apart": None, "not_fp8": None}
    counts = {"launches": 9, "attention": 2, "attention_fused": 2, "products": 5, "products_fp8": 5, "unknown": 0}
    assert told() == names | shares | counts


def test_attention_that_fell_apart_is_named() -> None:
    row = told(fused=FUSED[:1])
    assert (row["attention_fused"], row["fused_share"], row["apart"]) == (1, 0.5, "layers.1.attn")
    assert told(fused=())["apart"] == "layers.0.attn and 1 more"


def test_a_kernel_with_half_of_an_attention_is_not_the_whole() -> None:
    assert told(fused=(NODES[:1], *FUSED[1:]))["attention_fused"] == 1


def test_products_that_fell_back_are_named() -> None:
    row = told(products=FP8 | {"fc/MatMul": "fp16"})
    assert (row["products_fp8"], row["fp8_share"], row["not_fp8"]) == (4, 0.8, "fc/MatMul")


@pytest.mark.parametrize("products", [{n: FP8[n] for n in NODES[1:]}, FP8 | {NODES[0]: "unknown"}])
def test_what_an_engine_does_not_tell_is_no_share(products: dict[str, str]) -> None:
    row = told(products=products)
    assert (row["fp8_share"], row["products_fp8"], row["unknown"], row["not_fp8"]) == (None, 4, 1, None)


def test_a_block_that_is_not_told_of_is_neither_fused_nor_apart() -> None:
    row = told(products={n: FP8[n] for n in NODES[1:]}, fused=FUSED[1:])
    assert (row["attention_fused"], row["fused_share"], row["apart"]) == (1, None, None)


def test_an_engine_that_tells_nothing_has_no_row() -> None:
    assert row_of(None) is None
