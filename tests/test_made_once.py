"""What test processes share is made once, is whole, and is another for whatever it is made of."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.made_once import made_once, traced_once


def test_it_is_made_once_and_never_seen_unfinished(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(new: Path) -> None:
        made.append(new)
        new.mkdir()
        time.sleep(0.05)
        (new / "last").write_text("there")

    def use(_: int) -> str:
        return (made_once(tmp_path / "shared" / "it", make) / "last").read_text()

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(use, range(4))] == ["there"] * 4
    assert len(made) == 1


def test_after_a_failure_the_next_one_makes_it(tmp_path: Path) -> None:
    def fail(new: Path) -> None:
        new.write_text("half")
        raise OSError("not today")

    with pytest.raises(OSError, match="not today"):
        made_once(tmp_path / "it", fail)
    assert made_once(tmp_path / "it", lambda new: new.write_text("whole")).read_text() == "whole"


def test_whatever_a_trace_is_of_has_a_trace_of_its_own(tmp_path: Path) -> None:
    def trace(*of: Any) -> Any:
        return of[0].name, *of[1:]

    def by_block(*of: Any) -> Any:
        return "by block", *trace(*of)

    clip, other = SimpleNamespace(name="clip"), SimpleNamespace(name="other")
    asked: list[Any] = [
        (trace, clip, {"a": 1}, "text"),
        (trace, clip, {"a": 2}, "text"),
        (trace, clip, {"a": 1}, "image"),
    ]
    asked += [(trace, other, {"a": 1}, "text"), (by_block, clip, {"a": 1}, "text")]
    for _ in range(2):
        assert [traced_once(tmp_path, *of) for of in asked] == [of[0](*of[1:]) for of in asked]
    assert len([*(tmp_path / "traces").glob("*.lock")]) == len(asked)
