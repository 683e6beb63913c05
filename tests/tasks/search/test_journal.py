"""A killed search goes on: whole lines are kept, a torn one is not, another search's file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import ConfigError
from tasks.search.journal import Journal


def test_values_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "a")
    journal.put("sensitivity", "image 0 fc1", [0.25, 1e-9, float("inf")])
    journal.put("evaluation", "x", [{"value": None}])
    again = Journal(tmp_path / "j", "a")
    assert again.get("sensitivity", "image 0 fc1") == [0.25, 1e-9, float("inf")]
    assert again.get("evaluation", "x") == [{"value": None}] and again.get("evaluation", "y") is None


def test_every_torn_end_is_survived(tmp_path: Path) -> None:
    """As after a kill at any byte: what was whole is there, and what is written next can be read again."""
    path = tmp_path / "j"
    journal = Journal(path, "a")
    for number in range(3):
        journal.put("n", str(number), number)
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends) - 1  # less the first line, which says whose it is
        torn = Journal(path, "a")
        assert [torn.get("n", str(n)) for n in range(3)] == [n if n < whole else None for n in range(3)]
        torn.put("n", "new", 7)
        assert Journal(path, "a").get("n", "new") == 7


def test_another_search_is_refused_and_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "j", "a").put("n", "1", 1)
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(ConfigError, match="another search"):
        Journal(tmp_path / "j", "b")
    assert (tmp_path / "j").read_bytes() == before


@pytest.mark.parametrize("content", [b"hello\n", b'{"kind": 1}\n', b'{"search": "a"}\n[1]\n', b"\xff\xfe\n"])
def test_what_is_no_journal_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(ConfigError, match="no journal"):
        Journal(tmp_path / "j", "a")
    assert (tmp_path / "j").read_bytes() == content
