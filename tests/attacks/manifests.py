"""Manifests that were made to harm whoever reads them: each with what it is after, and why it fails.

`stage` says how far it gets: `size` is refused by counting its bytes, `parse` by the JSON reader, `shape` by looking at
what was parsed, `model` when the manifest is built, `place` when it is put beside what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from artifacts import limits
from artifacts.manifest import Manifest
from artifacts.schema import new_row
from tests.attacks.forging import SIZES, forged

Stage = Literal["size", "parse", "shape", "model", "place"]


@dataclass(frozen=True)
class Forgery:
    """One of them: its bytes are made from a genuine manifest's."""

    name: str
    stage: Stage
    why: str
    make: Callable[[Manifest], bytes]


def _edit(name: str, stage: Stage, why: str, **changes: Any) -> Forgery:
    """Fields are replaced; `provenance__x` is the field x of the provenance."""

    def edit(content: dict[str, Any]) -> None:
        for path, value in changes.items():
            *folders, last = path.split("__")
            place = content
            for folder in folders:
                place = place[folder]
            place[last] = value

    return Forgery(name, stage, why, lambda manifest: forged(manifest, edit))


def _bytes(name: str, stage: Stage, why: str, data: Callable[[], bytes]) -> Forgery:
    return Forgery(name, stage, why, lambda _: data())


def _tables(name: str, why: str, **tables: Any) -> Forgery:
    return _edit(name, "shape", why, tables=tables)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _file(number: int) -> dict[str, Any]:
    sha = f"{number:064x}"
    return {"path": f"f/{number}", "kind": "thing", "object": sha, "member": "a.bin", "sha256": sha, "size": 1}


_HEAD = b'{"digest":"' + b"0" * 64 + b'",'

FORGERIES = (
    # --- too much of it ----------------------------------------------------------------------------------------------
    _bytes(
        "empty-objects",
        "size",
        "A million of the smallest files, three bytes each: each became an object and a page of complaints, 0.9 GB. "
        "What may be a value is counted on the bytes, and there are too many.",
        lambda: _HEAD + b'"files":[' + b"{}," * 1_000_000 + b"{}]}",
    ),
    _bytes(
        "empty-lists",
        "size",
        "Lists in a list cost 64 bytes for three. They are counted as the objects are.",
        lambda: _HEAD + b'"files":[' + b"[]," * 1_000_000 + b"[]]}",
    ),
    _bytes(
        "zeros",
        "size",
        "Numbers of one digit are two bytes of the archive and eight of the list. Commas are counted.",
        lambda: _HEAD + b'"files":[' + b"0," * 1_000_000 + b"0]}",
    ),
    _bytes(
        "many-keys",
        "size",
        "A mapping of half a million keys, which also have to be told apart. Commas are counted.",
        lambda: _HEAD + b",".join(b'"%x":0' % number for number in range(500_000)) + b"}",
    ),
    _bytes(
        "large",
        "size",
        "Nine megabytes of spaces, which cost nothing in a compressed archive. Bytes are counted before anything.",
        lambda: b" " * (limits.MANIFEST.bytes + 1),
    ),
    _bytes(
        "deep-lists",
        "parse",
        "A hundred thousand lists in each other overflow the stack of a reader that calls itself. Ours stops.",
        lambda: b"[" * 100_000 + b"]" * 100_000,
    ),
    _bytes(
        "deep-mappings",
        "parse",
        "The same with mappings. The reader stops.",
        lambda: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ),
    _edit(
        "deep-parameters",
        "shape",
        "Forty levels are no trouble to the reader, but to what walks through them later. Levels are counted.",
        provenance__parameters=_nested(40),
    ),
    _edit(
        "deep-recipe",
        "shape",
        "Five hundred levels, below what the reader refuses. Levels are counted.",
        provenance__recipe_content=_nested(500),
    ),
    _edit(
        "wide-parameters",
        "shape",
        "Parameters may be anything, so this would be a release, copied again whenever it is looked at. Values are "
        "counted.",
        provenance__parameters={"a": [0] * (limits.OTHER_VALUES + 1)},
    ),
    _edit(
        "many-files",
        "shape",
        "Every file has a digest to compute and a path to try. Files are counted.",
        files=[_file(number) for number in range(limits.FILES + 1)],
    ),
    _edit(
        "empty-files",
        "model",
        "Few enough to be files, each without its six fields: sixty thousand complaints. The first ends it.",
        files=[{}] * limits.FILES,
    ),
    _edit("many-gates", "shape", "Gates are counted too.", gates=[{}] * (limits.GATES + 1)),
    _edit(
        "empty-gates",
        "model",
        "As many gates as may be, none of them one. The first ends it.",
        gates=[{}] * limits.GATES,
    ),
    _edit(
        "many-digests",
        "model",
        "Ten thousand weights without digests, a complaint each; the first is told, and how many more there are.",
        provenance__source__weights={f"{number}.safetensors": "x" for number in range(10_000)},
    ),
    _tables(
        "many-rows",
        "Rows of a table become a page, a plot and a frame. Rows are counted.",
        sizes=[SIZES] * (limits.ROWS + 1),
    ),
    # --- texts and numbers -------------------------------------------------------------------------------------------
    _edit(
        "long-text",
        "shape",
        "A note of a million characters is a line of a million characters wherever releases are listed. Characters are "
        "counted.",
        provenance__recipe="x" * 1_000_000,
    ),
    _edit("long-key", "shape", "So are those of keys.", provenance__packages={"x" * 100_000: "1"}),
    _edit(
        "long-field",
        "shape",
        "An unknown field of a hundred thousand characters would be repeated in the message. Keys are measured first.",
        **{"x" * 100_000: 1},
    ),
    _edit(
        "unknown-field",
        "model",
        "As long as a key may be, and unknown: what is wrong is told in 240 characters.",
        **{"x" * 60_000: 1},
    ),
    _tables(
        "long-cell",
        "A cell of a table is drawn in pages and in the terminal. Its characters are counted.",
        sizes=[SIZES | {"status": "x" * (limits.CELL + 1)}],
    ),
    _bytes(
        "long-number",
        "parse",
        "To read a number of 100,000 digits takes the square of that. Python's own limit of 4,300 digits ends it.",
        lambda: _HEAD + b'"version":' + b"9" * 100_000 + b"}",
    ),
    _edit("large-number", "shape", "A number that Python holds and tables do not.", provenance__device={"n": 10**4000}),
    _tables("large-cell", "The same in a table: 2^63 has no place in a column.", sizes=[SIZES | {"bytes": 2**63}]),
    _tables(
        "number-without-end",
        "1e308 is a number, and the sum of two of them is not: the plot of a model's history failed.",
        sizes=[SIZES | {"vs_fp16": 1e308}],
    ),
    _edit("large-version", "shape", "Version 10^30 has no file name.", version=10**30),
    _edit("version-of-ten-digits", "model", "Nor has 10^9: names hold nine digits.", version=10**9),
    _edit("version-zero", "model", "Versions begin with 1.", version=0),
    _edit("version-below-zero", "model", "And go up.", version=-1),
    _edit("version-in-words", "model", "Text that looks like a number is not what was digested.", version="one"),
    _edit("version-true", "model", "True is 1 to Python, and not in the canonical form of a version.", version=True),
    _edit(
        "last-version",
        "place",
        "A version that can be named, after which there is none: nothing of this model could be published any more. It "
        "is absurdly above the highest here.",
        version=limits.LARGEST_NUMBER,
    ),
    _edit(
        "leaping-version",
        "place",
        "The lowest that is too high.",
        version=limits.LARGEST_LEAP + 1 + 1,
    ),
    _edit("large-sequence", "model", "Sequences end too.", sequence=limits.LARGEST_SEQUENCE + 1),
    _edit("sequence-zero", "model", "And begin with 1.", sequence=0),
    _edit(
        "size-below-zero",
        "model",
        "A file of less than nothing would never be read to its end.",
        files=[_file(1) | {"size": -1}],
    ),
    _edit("nan", "parse", "NaN is no JSON, whatever readers make of it.", provenance__device={"n": float("nan")}),
    _edit("infinity", "parse", "Nor is Infinity.", provenance__device={"n": float("inf")}),
    _bytes("overflow", "shape", "1e999 is JSON and becomes infinity; what is left is no manifest.", lambda: b"[1e999]"),
    # --- times -------------------------------------------------------------------------------------------------------
    _edit("year-10000", "model", "No calendar of Python's has it.", created="10000-01-01T00:00:00+00:00"),
    _edit("no-zone", "model", "A time without its zone is any of 26 hours.", created="2026-01-01T00:00:00"),
    _edit("no-time", "model", "Lists and plots take it apart.", created="yesterday"),
    _edit("month-13", "model", "It has the form of a time and is none.", created="2026-13-01T00:00:00Z"),
    _edit("before-time", "model", "In UTC it lies before the first year.", created="0001-01-01T00:00:00+23:00"),
    _edit(
        "other-digits",
        "model",
        "Digits of other scripts are digits to Python.",
        created="\uff12\uff10\uff12\uff16-01-01T00:00:00Z",
    ),
    # --- what is said twice, or of another type ----------------------------------------------------------------------
    _bytes(
        "twice",
        "parse",
        "Of two versions one reader takes the first, another the last. Both are refused.",
        lambda: b'{"version":1,"version":2}',
    ),
    _edit("files-a-mapping", "shape", "Of another type than it has to be.", files={"a": 1}),
    _edit("files-of-texts", "shape", "The same, one level deeper.", files=["a"]),
    _edit("tables-a-list", "shape", "The same.", tables=[]),
    _edit("rows-a-mapping", "shape", "The same.", tables={"sizes": {}}),
    _edit("rows-of-lists", "shape", "The same.", tables={"sizes": [[]]}),
    _edit("nothing", "model", "A field that must be there is null.", provenance=None),
    _bytes("not-a-mapping", "shape", "JSON, and no manifest.", lambda: b"[]"),
    _bytes("not-utf-8", "parse", "Bytes that are no text.", lambda: b'{"model":"\xff"}'),
    _bytes(
        "utf-16",
        "shape",
        "Python's reader would take it; it is not what clipsmith writes.",
        lambda: "[]".encode("utf-16"),
    ),
    # --- tables ------------------------------------------------------------------------------------------------------
    _tables(
        "odd-row",
        "A row that lacks what lists look for: `releases` failed for every model. It is asked for its columns.",
        sizes=[{"foo": 1}],
    ),
    _tables("lacking-column", "The same with most of its columns.", accuracy=[{"encoder": "image", "value": 0.5}]),
    _tables("empty-row", "The same with none.", latency=[{}]),
    _tables("unknown-column", "A column that nothing of ours reads or draws.", sizes=[SIZES | {"script": "x"}]),
    _tables("unknown-table", "A table that no release has.", secrets=[{"a": 1}]),
    _tables("list-in-a-cell", "A cell that is not one value.", sizes=[SIZES | {"bytes": [1]}]),
    _tables("mapping-in-a-cell", "The same.", sizes=[SIZES | {"target": {"a": 1}}]),
    _tables("text-for-a-number", "It would be added up.", sizes=[SIZES | {"bytes": "many"}]),
    _tables("number-for-a-text", "It would be sorted among texts.", sizes=[SIZES | {"target": 1}]),
    _tables("true-for-a-number", "True is 1 to Python.", sizes=[SIZES | {"bytes": True}]),
    _tables("float-for-a-count", "Half a byte.", sizes=[SIZES | {"bytes": 0.5}]),
    _tables("null-for-a-name", "A row of nothing.", sizes=[SIZES | {"encoder": None}]),
    _tables(
        "speed-of-nothing",
        "The best speed-up of a release is shown in lists: a text is no speed.",
        latency=[
            new_row("latency", encoder="image", target="x", precision="fp8", batch=1, status="measured", speedup="9")
        ],
    ),
)
