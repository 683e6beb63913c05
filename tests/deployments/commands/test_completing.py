"""What TAB offers, as a shell asks for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.store.store import Store
from tests.deployments.conftest import MODEL, Call

Offered = Callable[..., list[str]]


@pytest.fixture
def offered(call: Call, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """`offered("show", "dem")`: what is offered for the last word, as bash is told it."""

    def of(*words: object) -> list[str]:
        # Else the program's name, and that of the variable, would be those of `python -m pytest`.
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
        monkeypatch.setenv("_CLIPSMITH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["clipsmith", *map(str, words)]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        code, out, err = call()
        assert (code, err) == (0, "")
        return out.split()

    return of


@pytest.mark.usefixtures("releases")
def test_releases_of_the_store_that_is_named(call: Call, offered: Offered, store: Store) -> None:
    assert call("promote", f"{MODEL}@1", "--alias", "production", "--store", store.root)[0] == 0
    found = offered("show", "--store", store.root, "openai")
    assert sorted(found) == sorted([MODEL, f"{MODEL}@1", f"{MODEL}@2", f"{MODEL}@3", f"{MODEL}:production"])
    assert offered("show", "--store", store.root, f"{MODEL}@2") == [f"{MODEL}@2"]


@pytest.mark.usefixtures("releases")
def test_releases_of_the_usual_store(offered: Offered, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_STORE", str(store.root))
    assert offered("export", f"{MODEL}@3") == [f"{MODEL}@3"]


def test_without_a_store_nothing_is_offered_said_or_made(offered: Offered, tmp_path: Path) -> None:
    assert offered("show", "--store", tmp_path / "none", "d") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("optimize", "--recipe", "fp8-"), ["fp8-auto", "fp8-compact", "fp8-no-attention"]),
        (("check", "demo", "--recipe", "fp8-n"), ["fp8-no-attention"]),
        (("optimize", "--targets", "ten"), ["tensorrt"]),
        (("optimize", "--targets", "trtrtx-sm120,trtrtx-sm12"), ["trtrtx-sm120,trtrtx-sm121"]),
        (("optimi",), ["optimize"]),
    ],
)
def test_names_of_the_code(words: tuple[str, ...], expected: list[str], offered: Offered) -> None:
    assert offered(*words) == expected
