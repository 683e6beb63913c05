"""Untrusted text, made harmless for the medium that shows it: one function per medium.

Names, captions, file names and messages of other libraries may hold anything, terminal escapes and markup included. Use
`visible` for the terminal and logs, `markdown` and `fenced` for Prefect's markdown pages, `exact_json` for JSON. HTML
pages and plots are made in `artifacts.report`, which calls `visible` and then escapes for HTML or SVG.
"""

from __future__ import annotations

import html
import json
import logging
import re
from typing import Any

_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f"  # control characters: they move the cursor, ring, or start an escape sequence
    r"\u2028\u2029"  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # characters that change the reading direction
    # Invisible characters (Unicode's default ignorables), except variation selectors, which emoji use.
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    r"\ud800-\udfff\ufff0-\ufffb\ufffe\uffff"  # not characters
)
_ANY = re.compile(f"[{_HIDDEN}]")
_BUT_LINES = re.compile(rf"(?!\n)[{_HIDDEN}]")
_MARKDOWN = re.compile(
    r"[\\`*\[\]|~#$]|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is no markup
    r"|(?<=\bwww)\.|:(?=//)|@(?=[\w-]+\.)"  # GitHub's markdown makes links of bare addresses
    r"|^(?:[-+](?=\s|$)|-(?=-)|=|\d+[.)](?=\s|$))",  # a list item, a heading's underline
    re.IGNORECASE,
)


def visible(text: object, *, lines: bool = False) -> str:
    r"""`text` on one line, with control and invisible characters as Python escapes them: `\x1b`, `\u202e`.

    With `lines`, line ends stay.
    """
    return (_BUT_LINES if lines else _ANY).sub(_written, str(text))


def markdown(text: object) -> str:
    """`text` on one line, escaped so that markdown shows it literally: no markup, no HTML, no links."""
    shown = visible(" ".join(str(text).split()))
    return html.escape(_MARKDOWN.sub(_backslashed, shown), quote=False)


def fenced(text: object) -> str:
    """Lines of `text` as a code block in markdown, with a fence longer than any in the text."""
    shown = visible(text, lines=True)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"


def exact_json(document: object, *, ascii_only: bool = False) -> str:
    """`document` as JSON on one line, with the same values, and escapes for all that a terminal would obey."""
    text = json.dumps(document, ensure_ascii=ascii_only, allow_nan=False)
    return _ANY.sub(lambda found: json.dumps(found[0])[1:-1], text)


class _Record(logging.LogRecord):
    """A log record whose message and traceback have passed `visible`, whichever handler writes them."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            # Formatters use this text if it is set.
            self.exc_text = visible(logging.Formatter().formatException(self.exc_info), lines=True)

    def getMessage(self) -> str:
        return visible(super().getMessage(), lines=True)


def keep_logs_inert() -> None:
    """Make all log records of this process harmless, those of libraries too, on the terminal and in Prefect."""
    logging.setLogRecordFactory(_Record)


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _backslashed(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\{found[0][-1]}"
