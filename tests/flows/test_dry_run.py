"""What a dry run says of the cache is what a run finds there; nothing is done or written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from artifacts.errors import NotEnoughSpace
from artifacts.store.store import Store
from flows import dry_run
from flows.dry_run import Forecast, forecast
from flows.parameters import OptimizeParameters
from flows.planned_steps import LastTimes
from tests.flows.conftest import small_parameters
from tests.flows.keyed import Base

Look = Callable[..., Forecast]


@pytest.fixture
def look(base: Base, monkeypatch: pytest.MonkeyPatch) -> Look:
    """`look(calibration__samples=8)`: what is said of such a run on the base's store, and by what that left in the
    cache."""

    def kept(step: Any, arguments: Any) -> Any:
        bound = inspect.signature(step.fn).bind(*arguments)
        bound.apply_defaults()
        text = base.kept.get(step.cache_policy.compute_key(None, dict(bound.arguments), {}))
        return None if text is None else resolve_name(step.cache_policy.result).model_validate_json(text)

    monkeypatch.setattr(dry_run, "kept", kept)

    def call(store: Path | None = None, model: Path | str = base.model, **changes: Any) -> Forecast:
        values = small_parameters(model, store or base.store.root, **changes)
        return forecast(OptimizeParameters.model_validate(values))

    return call


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"calibration__samples": 8},
        {"recipe": "fp8-no-attention"},
        {"latency__rounds": 6},
        {"profile__opt": 16},
        {"evaluation__samples": 30},
        {"precisions": ["fp16"]},
    ],
    ids=str,
)
def test_what_is_said_to_be_cached_is(changes: dict[str, Any], base: Base, look: Look) -> None:
    said = look(**changes)
    _, runner = base.run(**changes)
    assert said.steps == runner.planned
    assert set(said.steps) - said.cached == runner.done
    assert bool(runner.done) == bool(changes)


def test_what_decides_over_others_ends_the_look(look: Look) -> None:
    said = look(calibration__sufficiency=True)
    first = ["check", "parity", "trace image", "trace text", "study image", "calibrate image"]
    assert [str(step) for step in said.steps[:6]] == first
    assert said.cached == set(said.steps[:4])


def test_no_builder_is_asked(look: Look) -> None:
    """What becomes of attention decides over all that follows, so that nothing of it is said to be cached."""
    said = look(recipe="fp8-auto", targets=["trtrtx-sm89", "onnxruntime"])
    assert [str(step) for step in said.steps[4:7]] == [
        *("probe image trtrtx-sm89", "probe text trtrtx-sm89", "calibrate image")
    ]
    assert said.cached == set(said.steps[:4])


def test_time_and_room(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    times = LastTimes("small@1", dict.fromkeys(look().steps, 2.0))
    monkeypatch.setattr("flows.wiring.last_times", lambda *_: times)
    said = look(latency__rounds=6)
    assert (said.times, said.seconds) == (times, 4.0)
    assert said.needed is not None and 0 < said.needed < said.free
    assert look().seconds == 0


def test_nothing_is_made_where_there_is_no_store(look: Look, tmp_path: Path) -> None:
    said = look(store=tmp_path / "none" / "store")
    assert said.cached == frozenset() and said.times is None and said.seconds is None and said.steps
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_here_is_not_fetched(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.checkpoints.locating._download", lambda *_, **__: pytest.fail("it is downloaded"))
    said = look(model="openai/clip-vit-base-patch32")
    assert (said.cached, said.needed) == (frozenset(), None) and len(said.steps) == 30


def test_a_disk_that_is_too_small_is_told(look: Look, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.pipeline.disk_space.estimate_bytes", lambda *_: 10**18)
    with pytest.raises(NotEnoughSpace) as caught:
        look(store=store.root)
    assert caught.value.where == str(store.root)
