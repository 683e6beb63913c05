"""Which tests go to one process: those of a file, and those of a folder that shares what takes long to start."""

from __future__ import annotations

import pytest

from tests.conftest import FIRST, SHARING, TESTS, FileScheduling


def scope(file: str) -> str:
    """Of a test in it, by the name that pytest gives the test."""
    return FileScheduling.__new__(FileScheduling)._split_scope(f"tests/{file}::test_something[a::b]")


def test_the_files_of_the_shared_folder_are_one_and_all_others_are_their_own() -> None:
    files = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))
    sharing = [file for file in files if file.startswith(f"{SHARING}/")]
    assert len(sharing) > 3
    assert {scope(file) for file in sharing} == {f"tests/{SHARING}"}
    assert all(scope(file) == f"tests/{file}" for file in files if file not in sharing)


def test_what_comes_first_is_there() -> None:
    assert [name for name in FIRST if not (TESTS / name).exists()] == []


def test_every_test_has_a_limit(request: pytest.FixtureRequest) -> None:
    """One that hangs ends there: see `LIMIT_S`."""
    limits = [item.get_closest_marker("timeout") for item in request.session.items]
    assert all(limit is not None and limit.args[0] > 0 for limit in limits)
