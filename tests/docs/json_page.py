"""`docs/json.md`, made from `tests.docs.documents` and `artifacts.schema`: `python -m tests.docs.json_page`
writes it. `check` holds a real document to the same data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artifacts.schema import SCHEMAS, Column
from artifacts.schema import Table as Schema
from deployments.commands.options import SCHEMA
from tests.docs.documents import (
    DOCUMENTS,
    ERROR_DOCUMENT,
    FORECAST,
    MANIFEST,
    Choice,
    Document,
    Fixed,
    Key,
    Many,
    Part,
    Rows,
    Type,
)

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
_HEAD = f"""# JSON documents and tables

<!-- not run by the tests: python -m tests.docs (writes this page, which a test compares) -->

This page is made from the code (`python -m tests.docs.json_page`), and the tests hold printed documents to it. With
`--json` a command prints one document on standard output and nothing else. Where nothing is said below, a command that
ends with another [exit code](exit-codes.md) than 0 prints [that of an error](#an-error); standard error says the same.

Every document has the key `schema` beside those below: it is {SCHEMA}. A key that goes, or comes to mean something
else, makes it another number and is named in the [changelog](../CHANGELOG.md).

What programs may rely on: every key below is always there unless it says *may be left out*, and has its type, unit and
meaning; it is null only where that is said. Keys may be added, so pass over those that you do not know; the order of
keys means nothing. Sentences, as in `note`, are for people and change freely. Manifests of format 1 stay readable for
later versions of clipsmith; an older one refuses a manifest with a key that it does not know.

Times are UTC in ISO 8601. A digest is a SHA-256 in hexadecimal digits. No number is NaN or infinite.

"""
_TYPES = {"str": "string", "int": "integer", "float": "number"}
_JSON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
}


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD, "## What commands print\n\n"]
    for command, document in DOCUMENTS.items():
        parts.append(_document(f"`{command}`", document))
    parts += [_document("`optimize --dry-run`", FORECAST), _document("An error", ERROR_DOCUMENT)]
    parts += ["## Parts of documents\n\n", *(_part(part) for part in sorted(shared(), key=lambda part: part.name))]
    parts += ["## The manifest\n\n", f"{MANIFEST.about} Canonical JSON: sorted keys, no spaces.\n\n", _keys(MANIFEST)]
    parts.append("## Tables\n\n")
    parts.append(
        "Under `tables` each table is a list of rows, objects with these keys; an exported folder has the same in "
        "`tables/NAME.parquet`.\n\n"
    )
    parts += [_table(table) for table in SCHEMAS.values()]
    return "".join(parts).rstrip() + "\n"


def shared() -> list[Part]:
    """Every part that a key of a document or of the manifest has as its type, once."""
    found: dict[str, Part] = {}
    parts = (*(each.part for each in (*DOCUMENTS.values(), FORECAST, ERROR_DOCUMENT)), MANIFEST)
    waiting: list[Type] = [key.type for part in parts for key in part.keys]
    while waiting:
        known = waiting.pop()
        if isinstance(known, Many):
            waiting.append(known.of)
        elif isinstance(known, Fixed):
            waiting += known.of
        elif isinstance(known, Part):
            assert found.setdefault(known.name, known) == known, f"two parts are called {known.name}"
            waiting += [key.type for key in known.keys]
    return list(found.values())


def _document(title: str, document: Document) -> str:
    also = f"{document.also}\n\n" if document.also else ""
    return f"### {title}\n\n{also}{_keys(document.part)}"


def _part(part: Part) -> str:
    return f"### {part.name[0].upper()}{part.name[1:]}\n\n{part.about}\n\n{_keys(part)}"


def _keys(part: Part) -> str:
    return "| key | type | |\n|---|---|---|\n" + "".join(map(_row, part.keys)) + "\n"


def _row(key: Key) -> str:
    about = "; ".join(text for text in (key.about, "may be left out" if key.optional else "") if text)
    words = f"{about} ({key.unit})" if about and key.unit else about or key.unit
    return f"| `{key.name}` | {_type(key.type)}{' or null' if key.nullable else ''} | {words} |\n"


def _type(known: Type) -> str:
    if isinstance(known, Part):
        return f"[{known.name}](#{known.name.replace(' ', '-')})"
    if isinstance(known, Choice):
        return ", ".join(f"`{word}`" for word in known.words)
    if isinstance(known, Many):
        return f"list of {_type(known.of)}" if known.kind == "list" else f"object, by name: {_type(known.of)}"
    if isinstance(known, Fixed):
        return f"list: {', '.join(map(_type, known.of))}"
    if isinstance(known, Rows):
        return "list of rows" if known.table else "object, by name: [rows](#tables)"
    return known


def _table(table: Schema) -> str:
    left_out = " Left out of a release whose run was not asked for it." if table.optional else ""
    rows = "".join(map(_column, table.columns))
    return f"### `{table.name}`\n\n{table.about}{left_out}\n\n| column | type | |\n|---|---|---|\n{rows}\n"


def _column(column: Column) -> str:
    words = f"{column.about} ({column.unit})" if column.unit else column.about
    return f"| `{column.name}` | {_TYPES[column.kind]}{' or null' if column.nullable else ''} | {words} |\n"


def check_document(document: Document, printed: dict[str, Any], seen: set[tuple[str, str]]) -> Iterator[str]:
    """What in a printed document is not as described, its schema included; see `check`."""
    if printed.get("schema") != SCHEMA:
        yield f".schema: {printed.get('schema')!r} is not {SCHEMA}"
    yield from check(document.part, {name: value for name, value in printed.items() if name != "schema"}, seen)


def check(part: Part, value: Any, seen: set[tuple[str, str]], where: str = "") -> Iterator[str]:
    """What in an object is not as its part says; the keys that it has are added to `seen`."""
    if not isinstance(value, dict):
        yield f"{where or part.name}: no object"
        return
    known = {key.name: key for key in part.keys}
    yield from (f"{where}.{name}: not described" for name in value.keys() - known.keys())
    for name, key in known.items():
        if name in value:
            seen.add((part.name, name))
            yield from _value(key, value[name], seen, f"{where}.{name}")
        elif not key.optional:
            yield f"{where}.{name}: described, and not there"


def _value(key: Key, value: Any, seen: set[tuple[str, str]], where: str) -> Iterator[str]:
    if value is not None:
        yield from _fits(key.type, value, seen, where)
    elif not key.nullable:
        yield f"{where}: null"


def _fits(known: Type, value: Any, seen: set[tuple[str, str]], where: str) -> Iterator[str]:
    if isinstance(known, Part):
        yield from check(known, value, seen, where)
    elif isinstance(known, Choice):
        if value not in known.words:
            yield f"{where}: {value!r} is none of {', '.join(known.words)}"
    elif isinstance(known, Rows):
        yield from _rows(known, value, where)
    elif isinstance(known, Many | Fixed):
        yield from _several(known, value, seen, where)
    elif known != "any" and (not isinstance(value, _JSON[known]) or isinstance(value, bool) != (known == "boolean")):
        yield f"{where}: {value!r} is no {known}"


def _several(known: Many | Fixed, value: Any, seen: set[tuple[str, str]], where: str) -> Iterator[str]:
    wanted: type = dict if isinstance(known, Many) and known.kind == "map" else list
    if not isinstance(value, wanted):
        yield f"{where}: no {wanted.__name__}"
        return
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    if isinstance(known, Fixed) and len(items) != len(known.of):
        yield f"{where}: {len(items)} entries"
        return
    for at, (name, item) in enumerate(items):
        yield from _fits(known.of if isinstance(known, Many) else known.of[at], item, seen, f"{where}.{name}")


def _rows(known: Rows, value: Any, where: str) -> Iterator[str]:
    from artifacts.errors import ClipsmithError
    from artifacts.schema import check_tables

    try:
        check_tables({known.table: value} if known.table else value)
    except (ClipsmithError, AttributeError) as error:
        yield f"{where}: {error}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
