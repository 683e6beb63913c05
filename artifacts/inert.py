"""Text that may hold anything, made harmless for the medium that shows it: a seam for each.

Names, captions, file names and the errors of other libraries are somebody else's. What shows them goes through here:
terminal and logs take `visible`, Prefect's pages of markdown `markdown` and `fenced`, JSON `exact_json`. HTML pages and
plots are made in `artifacts.report`, which takes `visible` before it escapes what their languages mean.
"""

from __future__ import annotations

import html
import json
import logging
import re
from typing import Any

_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f"  # controls: what moves a cursor, rings, or starts a sequence that a terminal obeys
    r"\u2028\u2029"  # lines and paragraphs end
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the reading direction
    # What Unicode lets be ignored, and so cannot be seen; not the selectors of a sign's variant, as of an emoji.
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    r"\ud800-\udfff\ufff0-\ufffb\ufffe\uffff"  # what is no character
)
_ANY = re.compile(f"[{_HIDDEN}]")
_BUT_LINES = re.compile(rf"(?!\n)[{_HIDDEN}]")
_MARKDOWN = re.compile(
    r"[\\`*\[\]|~#$]|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is one
    r"|(?<=\bwww)\.|:(?=//)|@(?=[\w-]+\.)"  # GitHub's dialect makes links of bare addresses
    r"|^(?:[-+](?=\s|$)|-(?=-)|=|\d+[.)](?=\s|$))",  # a list, a heading's underline
    re.IGNORECASE,
)


def visible(text: object, *, lines: bool = False) -> str:
    r"""`text` on one line; what cannot be seen, or is obeyed instead of shown, as Python writes it: `\x1b`, `\u202e`.

    With `lines`, ends of lines stay.
    """
    return (_BUT_LINES if lines else _ANY).sub(_written, str(text))


def markdown(text: object) -> str:
    """`text` on one line as markdown, which markdown and the HTML in it show as it is; no link is made of it."""
    shown = visible(" ".join(str(text).split()))
    return html.escape(_MARKDOWN.sub(_backslashed, shown), quote=False)


def fenced(text: object) -> str:
    """Lines of `text` as a block of code in markdown, which nothing in them ends."""
    shown = visible(text, lines=True)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"


def exact_json(document: object, *, ascii_only: bool = False) -> str:
    """`document` as JSON on one line: exactly what it says, and nothing that a terminal obeys."""
    text = json.dumps(document, ensure_ascii=ascii_only, allow_nan=False)
    return _ANY.sub(lambda found: json.dumps(found[0])[1:-1], text)


class _Record(logging.LogRecord):
    """A record whose message and traceback are visible text, for whichever handler."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            # Formatters take what is there already.
            self.exc_text = visible(logging.Formatter().formatException(self.exc_info), lines=True)

    def getMessage(self) -> str:
        return visible(super().getMessage(), lines=True)


def keep_logs_inert() -> None:
    """For the whole process, and for the logs of its libraries: on the terminal, and in what Prefect's server keeps."""
    logging.setLogRecordFactory(_Record)


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _backslashed(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\{found[0][-1]}"
