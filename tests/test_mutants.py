"""The catalogue of mutants fits this tree, so that running it is never in vain; none is run here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.finding import TOPS, Checkout, Unfit

CHECKOUT = Checkout(Path(__file__).parent.parent)
EACH = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@EACH
def test_it_changes_what_it_names_into_other_python(mutant: Mutant) -> None:
    file, source = CHECKOUT.mutated(mutant)
    before = (CHECKOUT.root / file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(before))


@EACH
def test_its_tests_are_there(mutant: Mutant) -> None:
    tests = CHECKOUT.tests(mutant)
    assert len(set(tests)) == len(tests) > 0
    assert all((CHECKOUT.root / test.partition("::")[0]).is_file() for test in tests)


def test_there_are_enough_and_each_has_its_name() -> None:
    assert len(MUTANTS) >= 25
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.symbol, mutant.text) for mutant in MUTANTS}) == len(MUTANTS)


def test_they_are_spread_over_the_rooms() -> None:
    rooms = {CHECKOUT.symbol(mutant.symbol).file.parent for mutant in MUTANTS}
    assert {room.parts[0] for room in rooms} == set(TOPS)
    assert len(rooms) >= 12


@pytest.mark.parametrize(
    ("symbol", "text", "tests", "why"),
    [
        ("Store.is_not_there", "", ("test_gates.py",), "no symbol Store.is_not_there"),
        ("_judged", "", ("test_gates.py",), "put a module's name before it"),
        ("gates:_judged", "no such text", ("test_gates.py",), "has the text 0 times"),
        ("gates:_judged", "value", ("test_gates.py",), r"has the text [1-9]\d* times"),
        ("gates:_judged", "gate.drop", ("test_no_gates.py",), "there 0 times: nowhere"),
        ("gates:_judged", "gate.drop", ("test_store.py",), "there 2 times: tests/"),
        ("gates:_judged", "gate.drop", ("test_gates.py::test_no_gates",), "there 0 times: nowhere"),
    ],
)
def test_one_that_does_not_fit_says_why(symbol: str, text: str, tests: tuple[str, ...], why: str) -> None:
    mutant = Mutant("odd", symbol, text, "", tests, "")
    with pytest.raises(Unfit, match=why):
        CHECKOUT.mutated(mutant)
        CHECKOUT.tests(mutant)
