"""Records carry their own digest: what was written is read back, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from artifacts.errors import DamagedLedger
from artifacts.records import dump, load_strictly, parse


class Thing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    values: tuple[float | None, ...] = ()


def read(data: bytes) -> Thing:
    return parse(Thing, data, where="here", error=DamagedLedger, what="the thing")


@given(st.text(), st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_round_trip(name: str, values: list[float | None]) -> None:
    try:
        data = dump(Thing(name=name, values=tuple(values)))
    except UnicodeEncodeError:  # a lone surrogate is not text
        return
    assert read(data) == Thing(name=name, values=tuple(values))
    assert json.loads(data)["name"] == name


def test_every_flipped_bit_is_found() -> None:
    data = dump(Thing(name="weights", values=(0.1, None)))
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(DamagedLedger):
            read(bytes(changed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"name":"a","values":[NaN]}',
        b'{"name":"a","name":"b"}',
        b'{"name":1e999}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_record_is_refused_with_what_and_where(data: bytes) -> None:
    with pytest.raises(DamagedLedger, match="the thing cannot be read") as caught:
        read(data)
    assert caught.value.where == "here"


@pytest.mark.parametrize("change", [{"extra": 1}, {"name": None}, {"digest": "0" * 64}])
def test_other_fields_and_wrong_digests_are_refused(change: dict[str, Any]) -> None:
    content = json.loads(dump(Thing(name="a"))) | change
    with pytest.raises(DamagedLedger):
        read(json.dumps(content, separators=(",", ":"), sort_keys=True).encode())


def test_the_same_content_in_another_form_is_refused() -> None:
    """One release, one sequence of bytes: digests and signatures speak of bytes."""
    content = json.loads(dump(Thing(name="a")))
    with pytest.raises(DamagedLedger, match="does not match its own digest"):
        read(json.dumps(content).encode())


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "[NaN]", "[-Infinity]", '{"x": {"b": 1, "b": 1}}'])
def test_strict_json(text: str) -> None:
    json.loads(text)  # Python lets it through
    with pytest.raises(ValueError, match=r"duplicate key|is not JSON"):
        load_strictly(text)
