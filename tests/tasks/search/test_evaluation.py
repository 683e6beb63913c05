"""What an evaluation runs, and what it still knows of those before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.search import evaluation
from tasks.search.choice import Choice
from tasks.search.evaluation import Evaluator
from tasks.search.units import Unit
from tests.tasks.search.support import ENCODERS, Prepared, all_units


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that ONNX Runtime runs, as they come."""
    original, found = evaluation.embed_onnx, []

    def embed_onnx(path: Path, feeds: Any) -> Any:
        found.append(path.name)
        return original(path, feeds)

    monkeypatch.setattr(evaluation, "embed_onnx", embed_onnx)
    return found


@pytest.fixture
def fresh(plain: Prepared) -> Evaluator:
    """One that has run nothing."""
    return replace(plain.evaluator, _known={})


def without_one(unit: Unit) -> Choice:
    return Choice(excluded=frozenset([unit]))


def test_only_an_encoder_that_has_another_choice_is_run(plain: Prepared, fresh: Evaluator, runs: list[str]) -> None:
    fresh.rows(Choice())
    assert runs == ["fp16.onnx", "fp8.onnx"] * len(ENCODERS)
    fresh.rows(without_one(all_units(plain, "image")[0]))
    assert runs[4:] == ["fp8.onnx"]


def test_what_was_long_ago_is_let_go_of_and_comes_out_the_same(
    plain: Prepared, fresh: Evaluator, runs: list[str]
) -> None:
    units = all_units(plain, "image")
    first = fresh.rows(Choice())
    for number in range(2 * evaluation._KNOWN):
        fresh.rows(without_one(units[number % len(units)]))
        assert len(fresh._known) <= evaluation._KNOWN
    assert runs.count("fp16.onnx") == len(ENCODERS), "FP16 is needed each time, and always known"
    before = len(runs)
    assert repr(fresh.rows(Choice())) == repr(first)
    assert runs[before:] == ["fp8.onnx"], "the pictures' encoder alone: the other's has been in use all the time"
