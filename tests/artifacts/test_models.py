"""What is said of values that a model does not take: the keys that it has, and the nearest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from artifacts.errors import ProfileError, UnknownTarget
from artifacts.models import Complaint, Strict, all_complaints, complaints, problems


class Inner(Strict):
    samples: int = Field(default=1, ge=1)
    batch: int = 1


class Outer(Strict):
    name: str = ""
    inner: Inner = Inner()
    several: list[Inner] = Field(default=[])
    maybe: Inner | None = None
    short: int = Field(default=1, alias="in-short")


def said(values: dict[str, Any], *own: str) -> list[Complaint]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert "\n" not in problems(Outer, caught.value, own)
    return complaints(Outer, caught.value, own)


@pytest.mark.parametrize("at", ["inner", "maybe"])
def test_a_key_that_there_is_not_brings_those_that_there_are(at: str) -> None:
    (found,) = said({at: {"sample": 3}})
    assert found == Complaint(f"{at}.sample", "Extra inputs are not permitted", ("samples", "batch"), "samples")
    ending = "(did you mean samples? valid keys: samples, batch)"
    assert found.sentence() == f"{at}.sample: Extra inputs are not permitted {ending}"


def test_in_a_list_and_by_their_written_names() -> None:
    (found,) = said({"several": [{}, {"bat": 1}]})
    assert (found.key, found.nearest) == ("several.1.bat", "batch")
    (found,) = said({"in_short": 2})
    assert (found.valid, found.nearest) == (("name", "inner", "several", "maybe", "in-short"), "in-short")


class Picky(Strict):
    targets: list[str] = Field(default=[])
    two: list[int] = Field(default=[1, 2], min_length=2)
    low: int = 0
    high: int = 9
    inner: Inner = Inner()

    @field_validator("targets")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in ("a", "b"):
                raise UnknownTarget(f"no {name}", expected="a or b", fix="correct it")
        return names

    @model_validator(mode="after")
    def _ordered(self) -> Picky:
        if self.low > self.high:
            raise ProfileError("low is high")
        return self


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"targets": ["c"]}, [("targets", "no c")]),
        ({"targets": ["a", "c", "d", "b"]}, [("targets", "no c"), ("targets", "no d")]),
        ({"high": 1, "low": 2}, [("high", "low is high")]),
        ({"two": [1, 2], "high": 1, "low": 2}, [("high", "low is high")]),
        (
            {"inner": {"samples": 0, "sample": 1}, "targets": ["c"]},
            [
                ("targets", "no c"),
                ("inner.samples", "Input should be greater than or equal to 1"),
                ("inner.sample", "Extra inputs are not permitted"),
            ],
        ),
    ],
)
def test_an_error_of_ours_hides_no_other(values: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    given = copy.deepcopy(values)
    assert [(each.key, each.what) for each in all_complaints(Picky, values)] == expected
    assert values == given
    for each in all_complaints(Picky, values):
        if each.key == "targets":
            assert (each.expected, each.fix) == ("a or b", "correct it")


def test_an_error_that_no_single_value_makes_has_no_key() -> None:
    class Pair(Strict):
        one: int = 5

        @model_validator(mode="after")
        def _never(self) -> Pair:
            raise ProfileError("never")

    assert [(each.key, each.sentence()) for each in all_complaints(Pair, {"one": 1})] == [("", "never")]


def test_keys_that_nobody_writes_are_not_named() -> None:
    (found,) = said({"nam": ""}, "name")
    assert "name" not in found.valid and found.nearest is None


def test_every_complaint_is_there_and_a_value_has_no_keys() -> None:
    found = said({"inner": {"samples": 0, "batch": "x", "xyz": 1}, "zzzz": 1})
    assert [each.key for each in found] == ["inner.samples", "inner.batch", "inner.xyz", "zzzz"]
    assert [bool(each.valid) for each in found] == [False, False, True, True]
    assert [each.nearest for each in found] == [None] * 4
    assert found[0].sentence() == "inner.samples: Input should be greater than or equal to 1"
