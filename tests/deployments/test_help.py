"""Help texts: lists come from the registries, every option has words, and reads as a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.commands.listing_command import LISTS, ListingCommand
from tests.deployments.every_command import COMMANDS

Help = Callable[[str], str]


@pytest.fixture
def shown(call: Any, monkeypatch: pytest.MonkeyPatch) -> Help:
    """`shown("optimize")`: the help of a command as one line of words, however it is wrapped."""
    monkeypatch.setenv("TERMINAL_WIDTH", "100")

    def of(command: str) -> str:
        code, out, err = call(*command.split(), "--help")
        assert code == 0, err
        return " ".join(line.strip("│ ").strip() for line in out.splitlines()).replace("  ", " ")

    return of


def test_registries_are_named(shown: Help) -> None:
    from tasks.engines import BACKENDS
    from tasks.families import FAMILIES
    from tasks.quantizing.recipe import BUILTIN

    words = " ".join(shown("optimize").split())
    for name in (
        *(target for backend in BACKENDS for target in backend.targets()),
        *(path.stem for path in BUILTIN.glob("*.yaml")),
        *(family.name for family in FAMILIES),
    ):
        assert f" {name}," in words or f" {name}." in words or f"({name}," in words or f" {name})" in words, name


def test_a_registered_backend_is_named(shown: Help, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import engines

    class Another(type(engines.BACKENDS[0])):  # type: ignore[misc]
        def targets(self) -> tuple[str, ...]:
            return ("another-runtime",)

    monkeypatch.setattr(engines, "BACKENDS", (*engines.BACKENDS, Another()))
    assert "another-runtime" in shown("optimize")


def test_every_list_is_one_that_is_known(shown: Help) -> None:
    named = {
        name
        for command in COMMANDS.values()
        for parameter in command.params
        for name in LISTS
        if f"{{{name}}}" in (getattr(parameter, "help", None) or "")
    }
    del shown
    assert named == LISTS.keys(), "a list that no help has"
    for name, command in COMMANDS.items():
        texts = [command.help or "", *((getattr(parameter, "help", None) or "") for parameter in command.params)]
        assert isinstance(command, ListingCommand) or not any("{" in text for text in texts), name
        assert "{" not in (command.help or ""), f"{name}: the list of commands shows it as it stands"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_has_words(command: str) -> None:
    for parameter in COMMANDS[command].params:
        text = getattr(parameter, "help", None) or ""
        assert text[:1].isupper() or text.startswith("plain"), parameter.name
        assert text.endswith("."), parameter.name


def test_the_pages_have_the_same_lists() -> None:
    from tasks.engines import known_targets
    from tasks.quantizing.recipe import builtin_names

    docs = Path(__file__).parents[2] / "docs"
    (line,) = [text for text in (docs / "your-own-model.md").read_text().splitlines() if "--targets T,T" in text]
    told = line.replace("and ", "").split("T,T")[1].replace(" or ", ", ").split(",")
    names = [name.strip() for name in told]
    assert {f"trtrtx-sm{name}" if name.isdecimal() else name for name in names} == set(known_targets())
    (line,) = [text for text in (docs / "your-own-model.md").read_text().splitlines() if "--recipe NAME|FILE" in text]
    assert [name.strip() for name in line.split("NAME|FILE")[1].split(", or")[0].split(",")] == builtin_names()
    table = [text.split("`")[1] for text in (docs / "recipes.md").read_text().splitlines() if text.startswith("| `fp8")]
    assert table == builtin_names()
