"""What an evaluation runs, and what it still knows of those before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts.manifest import Encoder
from tasks.search import evaluation
from tasks.search.choice import Choice
from tasks.search.evaluation import Evaluator
from tasks.search.units import Unit, units_of
from tests.tasks.search.support import ENCODERS, RECIPE, Prepared


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


def units(evaluator: Evaluator, encoder: Encoder) -> tuple[Unit, ...]:
    graph = evaluator.graphs[encoder]
    return units_of(graph.skeleton, RECIPE, graph.amax, ())


def without_one(evaluator: Evaluator, encoder: Encoder, number: int) -> Choice:
    return Choice(excluded=frozenset([units(evaluator, encoder)[number]]))


def test_only_an_encoder_that_has_another_choice_is_run(fresh: Evaluator, runs: list[str]) -> None:
    fresh.rows(Choice())
    assert runs == ["fp16.onnx", "fp8.onnx"] * len(ENCODERS)
    fresh.rows(without_one(fresh, "image", 0))
    assert runs[4:] == ["fp8.onnx"]


def test_what_was_long_ago_is_let_go_of_and_comes_out_the_same(fresh: Evaluator, runs: list[str]) -> None:
    first = fresh.rows(Choice())
    for number in range(2 * evaluation._KNOWN):
        fresh.rows(without_one(fresh, "image", number % len(units(fresh, "image"))))
        assert len(fresh._known) <= evaluation._KNOWN
    assert runs.count("fp16.onnx") == len(ENCODERS), "FP16 is needed each time, and always known"
    before = len(runs)
    assert repr(fresh.rows(Choice())) == repr(first)
    assert runs[before:] == ["fp8.onnx"], "the pictures' encoder alone: the other's has been in use all the time"
