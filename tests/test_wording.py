"""Another wording turns the test red that made it, and only that one; what is kept is of tests that there are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import BadArchive, ClipsmithError
from tests import wording
from tests.conftest import ROOT
from tests.wording import compared, refusal

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """`says("a", "3 samples", ...)`: the test `a` runs, with refusals of these words; what was said before is kept."""
    monkeypatch.setattr(wording, "KEPT", tmp_path / "wording.json")
    wording.KEPT.write_text("{}")

    def run(test: str, *words: str, update: bool = False) -> None:
        monkeypatch.setenv(wording.UPDATE, "1" * update)
        with compared(test):
            for what in words:
                with refusal(BadArchive, "m.tar"):
                    raise BadArchive(what, where=tmp_path / "m.tar")

    run("a", "3 samples", "no end", update=True)
    return run


@pytest.mark.parametrize("words", [("4 samples", "no end"), ("samples", "no end"), ("3 samples",), ("no end",), ()])
def test_other_words_are_red_in_their_own_test(says: Says, words: tuple[str, ...]) -> None:
    says("a", "3 samples", "no end")
    says("b")
    with pytest.raises(AssertionError):
        says("a", *words)
    says("b", "new", update=True)
    says("a", *words, update=True)
    says("a", *words)
    says("b", "new")


def test_words_that_nobody_keeps_are_red(says: Says) -> None:
    with pytest.raises(AssertionError):
        says("b", "3 samples")


def test_a_test_that_failed_is_not_written_down(says: Says) -> None:
    with pytest.raises(ZeroDivisionError), compared("a"):
        raise ZeroDivisionError
    says("a", "3 samples", "no end")


@pytest.mark.parametrize("error", [BadArchive("x"), BadArchive("x", where="n.tar")])
def test_another_place_is_red(error: ClipsmithError) -> None:
    with pytest.raises(AssertionError, match="place"), refusal(BadArchive, "m.tar"):
        raise error


def test_what_differs_from_run_to_run_is_left_out(tmp_path: Path) -> None:
    error = BadArchive(f"{tmp_path}/1 of 9 in '/home/x/clip12': sha256:{'0a' * 32}", where="memory://x/y", fix="3.25 s")
    assert wording.written(error) == [
        "BadArchive: FOLDER/1 of 9 in 'FOLDER/clip': sha256:DIGEST",
        "  where: memory://x/y",
        "  next: 3.25 s",
    ]


def test_every_wording_is_of_a_test_that_is_there() -> None:
    files = {test.partition("::")[0] for test in wording.kept()}
    there = {f"{file}::{name}" for file in files if (ROOT / file).exists() for name in functions(ROOT / file)}
    assert {test.partition("[")[0] for test in wording.kept()} - there == set()


def functions(file: Path) -> set[str]:
    """Of a test file, those that use `refusal`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in found if "refusal(" in ast.unparse(node)}
