"""Whether a release's claims follow from its manifest: identity, paths of files, recipe, sizes and gates.

A manifest's own digest proves nothing, as its writer computes it. `artifacts.release.contents` checks the files' bytes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from artifacts.errors import ReleaseDiffers
from artifacts.manifest import Cell, GateResult, Manifest
from artifacts.refs import digest_json
from artifacts.release.gates import Gates, judge
from artifacts.release.identity import DERIVED_KINDS, has_content, identity_of, is_derived, misplaced
from artifacts.schema import number

_SHOWN = re.compile(r".*\.(?:x?html?|svg|md|m?js|css|pdf|ipynb|sh|bash|pyc?|exe|bat|ps1|so|dll|dylib|pkl|pickle|pt)")
"""Name endings of files that people open or run. Runs write such files only as derived ones."""
_JUDGED = ("name", "status", "min", "max", "metric", "encoder", "target", "reference", "value", "low", "high")


def check_manifest(manifest: Manifest, *, here: bool = False) -> None:
    """Make sure that a release's identity and results follow from what its manifest lists.

    `here` says that the release is in this store already. Such a release of an older version without derived files was
    not made by a run, and the store kept the identity that it was given.

    Raises:
        ReleaseDiffers: naming what differs.
    """
    if here and manifest.identity_version == 1 and not any(file.kind in DERIVED_KINDS for file in manifest.files):
        return
    difference = next(_differences(manifest), None)
    if difference is not None:
        raise ReleaseDiffers(
            f"{manifest.ref} is not what it says: {difference.what}",
            where=difference.where,
            expected=difference.expected,
            fix="do not use it; ask whoever made it for the release as it was published",
        )


class _Difference(NamedTuple):
    what: str
    where: str
    expected: str


def _differences(manifest: Manifest) -> Iterator[_Difference]:
    """Every difference; that of the identity comes last, as it follows from the rest."""
    for file in manifest.files:
        if misplaced(file):
            what = f"{file.path} is not in the place of a file of kind {file.kind[:40]}"
            yield _Difference(what, file.path, "files where runs put them")
        if not is_derived(file) and _SHOWN.fullmatch(file.path.lower()):
            yield _Difference(f"{file.path} is a file that no run writes", file.path, "a release as clipsmith makes it")
        if file.content is not None and not (manifest.identity_version > 1 and has_content(file.path)):
            yield _Difference(f"{file.path} has a content of its own", file.path, "its sha256 alone")
    about = manifest.provenance
    digest = digest_json(None if about.recipe_content is None else about.recipe_content.get("quantize"))
    if digest != about.recipe_digest:
        yield _Difference("its recipe is not that of its digest", f"recipe {about.recipe_digest[:12]}", digest[:12])
    yield from _sizes(manifest)
    yield from _gates(manifest)
    identity = identity_of(manifest)
    if identity != manifest.identity:
        what = "its identity is that of other contents"
        yield _Difference(what, f"identity {manifest.identity[:12]}", f"identity {identity[:12]}")


def _sizes(manifest: Manifest) -> Iterator[_Difference]:
    """Sizes in the table that are not a file's size, and ratios that are not those of two sizes."""
    rows = manifest.tables.get("sizes", ())
    baseline = {(row["encoder"], row["target"]): number(row, "bytes") for row in rows if row["precision"] == "fp16"}
    files: dict[tuple[Cell, ...], list[int]] = {}
    for file in manifest.files:
        if file.kind == "onnx" or (file.kind == "engine" and not file.path.endswith(".json")):  # .json: its record
            key = (file.kind, file.encoder, file.precision, file.target if file.kind == "engine" else "onnx")
            files.setdefault(key, []).append(file.size)
    for index, row in enumerate(rows):
        found, where = number(row, "bytes"), f"table sizes, row {index}"
        kind = "onnx" if row["target"] == "onnx" else "engine"
        sizes = files.get((kind, row["encoder"], row["precision"], row["target"]), [])
        # Sizes include external data, except those of engines in older releases.
        if found is not None and found not in (sum(sizes) if sizes else None, max(sizes, default=None)):
            expected = f"{sum(sizes):,} bytes, as its files have" if sizes else "no size, as there is no such file"
            yield _Difference(f"a size is another than its file's, {found:,.0f} bytes", where, expected)
        fp16, ratio = baseline.get((row["encoder"], row["target"])), number(row, "vs_fp16")
        if ratio is not None and found is not None and fp16 and not math.isclose(ratio, found / fp16, rel_tol=1e-9):
            yield _Difference(f"the ratio {ratio:.6g} is not that of its sizes", where, f"{found / fp16:.6g}")


def _gates(manifest: Manifest) -> Iterator[_Difference]:
    """Judge the gates again by the bounds in the parameters. Without bounds, compare each result with its own numbers,
    and those with the tables."""
    asked = manifest.provenance.parameters.get("gates")
    try:
        gates = Gates.model_validate(asked).gates() if isinstance(asked, dict) else None
    except ValidationError:  # gates of a later version
        gates = None
    if gates is not None and isinstance(asked, dict) and manifest.identity_version > 1:
        mine = [gate for gate in gates if gate.name in asked or gate.name == "above_chance"]
        found, expected = (Counter(map(_words, results)) for results in (manifest.gates, judge(mine, manifest.tables)))
        for words in (expected - found) or (found - expected):
            what = "a gate's result does not follow from its tables"
            yield _Difference(what, f"gate {str(words[0])[:40]}", "what the parameters make of the tables")
        return
    tables = (manifest.tables.get(name, ()) for name in ("accuracy", "sizes"))
    cells = [number(row, column) for rows in tables for row in rows for column in ("value", "vs_fp16")]
    known = [abs(value) for value in cells if value is not None]
    for result in manifest.gates:
        if result.status == "passed" and not _holds(result, known):
            what = "a gate that is said to have passed did not"
            yield _Difference(what, f"gate {result.name[:40]}", "a value of the tables, within the bound")


def _holds(result: GateResult, known: list[float]) -> bool:
    if result.value is None or not any(math.isclose(abs(result.value), value) for value in known):
        return False
    least = result.value if result.low is None else result.low
    most = result.value if result.high is None else result.high
    return (result.max is None or most <= result.max) and (result.min is None or least >= result.min)


def _words(result: GateResult) -> tuple[object, ...]:
    return tuple(getattr(result, field) for field in _JUDGED)
