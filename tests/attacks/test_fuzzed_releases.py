"""Manifests that are well formed in everything but their meaning: some field is another, all digests are right.

What is changed, and how, is drawn from a seed: nothing depends on time. The work is counted, in bytes that are held to
their contents and rows that are looked at, against what the genuine release takes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifacts import parquet_files
from artifacts.copies.archive import unpack
from artifacts.errors import ClipsmithError
from artifacts.manifest import Manifest
from artifacts.records import dump
from artifacts.release import coherence
from artifacts.release.identity import identity_of
from artifacts.store.store import Store
from tests.attacks.forging import forged, packed
from tests.attacks.whole import whole
from tests.thorough import amount

CAMPAIGN = amount(200, 2000)
_FREE = {"created", "sequence", "version", "model", "digest", "format"}
"""What a store gives, which no contents decide; `identity_version` is not among them."""


FOLLOWING = ("bytes", "vs_fp16", "value", "samples", "min", "max")
"""Columns of results that follow from files, tables and parameters."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value that is no list and no mapping."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from leaves(below, (*path, key))
    if not isinstance(value, dict | list):
        yield path


def decides(path: tuple[Any, ...], content: dict[str, Any]) -> bool:
    """Whether another value there makes it another release: what was timed, and where it ran, does not."""
    if path[0] in _FREE or path[:2] in (("tables", "stages"), ("tables", "latency")):
        return False
    if path[0] == "provenance":
        return path[1] in ("recipe_digest", "recipe_content") or path[2:] == ("digest",)
    if path[0] == "files":
        file = content["files"][path[1]]
        derived = file["kind"] in ("tables", "report", "scripts", "build-log", "latencies")
        return not derived and path[2] not in ("object", "member", "size")
    return True


def mutated(value: Any, draw: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + draw.choice((-1, 1, 1000)) if draw.random() < 0.8 else 2**62
    if isinstance(value, float):
        return value * draw.choice((0.5, 1.01, -1.0)) + 1e-3
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return "".join(draw.choices("0123456789abcdef", k=64))
    return draw.choice([text for text in (value[::-1] + "x", value + "0", "x" * 200, "fp8", "image") if text != value])


def forgery(manifest: Manifest, number: int) -> bytes:
    """The manifest with one to three fields changed, entries dropped, doubled or swapped, all drawn from the number."""
    draw = random.Random(number)

    def edit(content: dict[str, Any]) -> None:
        lists = [content["files"], content["gates"], content["tables"]["sizes"], content["tables"]["accuracy"]]
        action = draw.randrange(6)
        if action == 0:
            rows = draw.choice(lists)
            rows.pop(draw.randrange(len([row for row in rows if row.get("kind") not in ("tables", "scripts")])))
        elif action == 1:
            rows = draw.choice(lists[1:])
            rows.append(dict(draw.choice(rows)))
        elif action == 2:
            files = [file for file in content["files"] if file["member"].endswith((".onnx", ".npy"))]
            one, other = draw.sample(files, 2)
            for field in ("object", "member", "sha256", "size"):
                one[field], other[field] = other[field], one[field]
        elif action == 3:  # a result, under the identity that follows from it
            rows = [*content["gates"], *content["tables"]["sizes"], *content["tables"]["accuracy"]]
            row = draw.choice(rows)
            column = draw.choice([name for name in FOLLOWING if row.get(name) is not None])
            row[column] = mutated(row[column], draw)
            content["identity"] = identity_of(Manifest.model_validate(content))
        else:
            places = [path for path in leaves(content) if decides(path, content)]
            for path in draw.sample(places, draw.randint(1, 3)):
                place = content
                for key in path[:-1]:
                    place = place[key]
                place[path[-1]] = mutated(place[path[-1]], draw)

    return forged(manifest, edit)


@pytest.mark.heavy
def test_no_forgery_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = whole(tmp_path / "source")
    victim, work = Store.open(tmp_path / "victim"), {"bytes": 0, "rows": 0}
    counted(monkeypatch, work)
    assert unpack(Store.open(tmp_path / "other"), packed(store, manifest, manifest.to_bytes(), tmp_path / "a.tar"))[1]
    usual = dict(work)
    for number in range(CAMPAIGN):
        data = forgery(manifest, number)
        assert json.loads(data) != json.loads(dump(manifest)), number
        work |= {"bytes": 0, "rows": 0}
        with pytest.raises(ClipsmithError) as caught:
            unpack(victim, packed(store, manifest, data, tmp_path / "a.tar"))
        assert "\n" not in caught.value.what and len(caught.value.what) < 500, number
        assert all(work[unit] <= 2 * usual[unit] for unit in usual), (number, work, usual)
    assert victim.summaries() == ([], [])
    assert not list((victim.root / "releases").rglob("*.json"))


def counted(monkeypatch: pytest.MonkeyPatch, work: dict[str, int]) -> None:
    """Count the bytes of manifests that are held to their contents, and the rows of tables that are compared."""
    check, compare = coherence._differences, parquet_files._check_rows

    def differences(manifest: Manifest) -> Any:
        work["bytes"] += len(manifest.to_bytes())
        return check(manifest)

    def rows(path: Path, columns: dict[str, str], known: Any, name: str) -> None:
        work["rows"] += len(known)
        compare(path, columns, known, name)

    monkeypatch.setattr(coherence, "_differences", differences)
    monkeypatch.setattr(parquet_files, "_check_rows", rows)
