"""Every error says what, where, what was expected and what to do, and survives a process boundary."""

from __future__ import annotations

import inspect
import pickle

import pytest

from artifacts import errors
from artifacts.errors import ClipsmithError

CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, ClipsmithError) and member.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", CLASSES)
def test_survives_pickling(error: type[ClipsmithError]) -> None:
    """Prefect stores exceptions, and a child process sends them."""
    original = error("lost", where="/tmp/x", expected="one", fix="look")
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert (copy.what, copy.where, copy.expected, copy.fix) == ("lost", "/tmp/x", "one", "look")
    assert str(copy) == str(original)


def test_a_failed_gate_brings_its_release_along() -> None:
    original = errors.GateFailed.of("small@2 is rejected", release="small@2", new=True, where="/store", fix="look")
    copy = pickle.loads(pickle.dumps(original))
    assert (copy.release, copy.new, str(copy)) == ("small@2", True, str(original))


def test_message_holds_every_part_in_order() -> None:
    message = str(ClipsmithError("lost", where="here", expected="one", fix="look"))
    positions = [message.index(part) for part in ("lost", "here", "one", "look")]
    assert positions == sorted(positions)
    assert str(ClipsmithError("lost")) == "lost"


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_a_docstring(error: type[ClipsmithError]) -> None:
    assert error.__doc__
