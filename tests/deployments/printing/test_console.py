"""How wide results are printed."""

from __future__ import annotations

import os

import pytest

from deployments.printing import console


@pytest.mark.parametrize(
    ("columns", "terminals", "width"),
    [(None, (), 150), ("72", (), 72), (None, (2,), 91), ("72", (2,), 72)],
    ids=["no terminal", "COLUMNS", "a pipe to a pager", "both"],
)
def test_paper_is_as_wide_as_the_terminal_also_in_a_pipe(
    columns: str | None, terminals: tuple[int, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(number: int = 1) -> os.terminal_size:
        if number not in terminals:
            raise OSError
        return os.terminal_size((91, 30))

    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(os, "isatty", lambda number: number in terminals)
    monkeypatch.setattr(os, "get_terminal_size", size)
    assert console.stdout().width == width


def test_paragraphs_fit_a_narrow_terminal_and_are_no_wider_than_people_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for columns, longest in ((40, 40), (300, 98)):
        console.paragraph(console.Terminal(width=columns), "word " * 200)
        assert longest - 5 < max(map(len, capsys.readouterr().out.splitlines())) <= longest
