"""Values of any declared type, with text in every place for text that tries all that terminals and pages understand."""

from __future__ import annotations

import collections.abc
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from artifacts import manifest

CANARY = "canary.example"
TERMINAL = "\x1b[2J\x1b]8;;http://canary.example/\x07link\x1b]8;;\x07\x9b31m\r\b\x00\x7f"
UNSEEN = "\u2028\u2029\u202e\u2066\u200b\u200d\ufeff\xad\U000e0041\udcff\ufffe"
RICH = "[bold]b[/bold] [link=http://canary.example]x[/link] [/] \\[red] :bug: back\\"
MARKDOWN = (
    "![i](http://canary.example/i.png) [j](javascript:alert(1)) <http://canary.example> http://canary.example "
    "www.canary.example a@canary.example |cell| `code` **b** ~~s~~ __u__ [r][d]\n\n[d]: http://canary.example\n"
    "# heading\n```mermaid\ngraph TD\n```\n- item"
)
HTML = (
    "<script>alert(1)</script><img src=http://canary.example/x onerror=alert(1)>\"' onload=alert(1) '<style>*{}</style>"
    "<svg><foreignObject><iframe src=//canary.example></iframe></foreignObject></svg><a href=javascript:alert(1)>a</a>"
    "</td></title></textarea>--> ]]> <![CDATA[ <!ENTITY x SYSTEM 'file:///'> &lt;b&gt; &#60;script&#62; {{ 7 * 7 }} $x$"
)
HOSTILE = f"{HTML}{TERMINAL}{RICH}{UNSEEN}{MARKDOWN}"


def poisoned(kind: Any, text: str = HOSTILE, **given: Any) -> Any:  # noqa: C901  (a case for each kind of type)
    """A value of a type, `text` wherever text may be; `given` are fields that are to be these. Nothing is validated."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return poisoned(arguments[0], text)
    if origin in (Union, types.UnionType):
        return poisoned(next((each for each in arguments if each in (str, float)), arguments[0]), text)
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        return tuple(poisoned(each, text) for each in arguments if each is not Ellipsis)
    if origin in (list, collections.abc.Sequence):
        return [poisoned(arguments[0], text)]
    if origin is frozenset:
        return frozenset({poisoned(arguments[0], text)})
    if origin in (dict, collections.abc.Mapping):
        return {poisoned(arguments[0], text): poisoned(arguments[1], text)}
    simple = {str: text, Path: Path(text), bool: True, int: 3, float: 0.5, type(None): None}
    if kind in simple:
        return simple[kind]
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        names = [each.name for each in fields(kind)] if is_dataclass(kind) else kind._fields
        return kind(**_values(kind, names, text, given))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_construct(**_values(kind, list(kind.model_fields), text, given))
    return text


def _values(kind: Any, names: Any, text: str, given: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, localns=vars(manifest), include_extras=True)
    return {name: given[name] if name in given else poisoned(hints[name], text) for name in names}
