"""`targets`, `recipes` and `gates` list what the code has, in lines that fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from artifacts.release.gates import Gates
from tasks import engines
from tasks.quantizing.recipe import BUILTIN, builtin_names
from tests.deployments.conftest import Call


def document(call: Call, command: str) -> list[dict[str, Any]]:
    code, out, err = call(command, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)[command]


@pytest.mark.parametrize("command", ["targets", "recipes", "gates"])
def test_every_name_is_there_and_every_line_fits(command: str, call: Call) -> None:
    code, out, err = call(command)
    assert (code, err) == (0, "")
    own = "name" if command == "gates" else command.removesuffix("s")
    assert [row[own] for row in document(call, command) if row[own] not in out] == []
    paths = [line for line in out.splitlines() if str(BUILTIN) in line]
    assert max(len(line) for line in out.splitlines() if line not in paths) <= 100


def test_targets_say_why_not(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class Another(type(engines.BACKENDS[0])):  # type: ignore[misc]
        def targets(self) -> tuple[str, ...]:
            return ("one", "two")

        def about(self, target: str) -> str:
            return f"another {target}"

        def why_not_run(self, target: str) -> str | None:
            return f"{target} is far away" if target == "two" else None

        def why_not_build(self, target: str) -> str | None:
            return self.why_not_run(target)

    monkeypatch.setattr(engines, "BACKENDS", (Another(),))
    one, two = document(call, "targets")
    assert one == {"target": "one", "about": "another one", "builds": True, "runs": True} | dict.fromkeys(
        ("why_not_build", "why_not_run", "why_no_fp8")
    )
    assert (two["builds"], two["runs"], two["why_not_run"]) == (False, False, "two is far away")
    lines = call("targets")[1].splitlines()
    assert lines[1].split()[-3:] == ["yes", "yes", "yes"] and lines[2].split()[-3:] == ["no", "no", "yes"]
    assert lines[-2:] == ["two is far away:", "    two (not built, not run)"]


def test_what_a_target_is_differs_from_target_to_target(call: Call) -> None:
    rows = document(call, "targets")
    assert [row["target"] for row in rows] == list(engines.known_targets())
    assert len({row["about"] for row in rows}) == len(rows)


def test_recipes_are_the_built_in_ones(call: Call) -> None:
    rows = document(call, "recipes")
    assert [row["recipe"] for row in rows] == builtin_names()
    assert all("nn.Linear" in row["about"] and row["file"] == str(BUILTIN / f"{row['recipe']}.yaml") for row in rows)


def test_gates_are_those_that_can_be_set_and_what_comes_with_them(call: Call) -> None:
    rows = document(call, "gates")
    fields = Gates.model_fields
    assert [row["key"] for row in rows] == [*(f"gates.{name}" for name in fields), None]
    brought = {gate.name for gate in Gates(max_top1_drop=0.1).gates()} - fields.keys()
    assert [row["name"] for row in rows] == [*fields, *brought]
    for row in rows[:-1]:
        (gate,) = [gate for gate in Gates(**{row["name"]: 0.5}).gates() if gate.name == row["name"]]
        assert (row["side"] == "at least") == (gate.min is not None)
        assert row["default"] == fields[row["name"]].default
