"""The index is derived: wrong, old or missing, it changes nothing but the time a list takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import DamagedManifest
from artifacts.store import index, layout
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, make_release, rewrite


@pytest.fixture
def two(store: Store) -> Store:
    ref = add(store)
    for model in ("a", "b"):
        make_release(store, model, digest(model), ref)
    store.summaries()
    return store


def cache(store: Store) -> Path:
    return store.root / "cache" / "index.json"


def refs(store: Store) -> list[str]:
    return [summary["ref"] for summary in store.summaries()[0]]


def test_newest_first(two: Store) -> None:
    assert refs(two) == ["b@1", "a@1"]
    make_release(two, "a", digest("more"), add(two))
    assert refs(two) == ["a@2", "b@1", "a@1"]


def test_what_is_indexed_is_not_parsed_again(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    real = index.load
    monkeypatch.setattr(index, "load", lambda root, path: loads.append(path) or real(root, path))
    assert refs(two) == ["b@1", "a@1"]
    assert loads == []
    cache(two).unlink()
    assert refs(two) == ["b@1", "a@1"]
    assert len(loads) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", None])
def test_a_damaged_index_is_made_anew(two: Store, content: bytes | None) -> None:
    good = cache(two).read_bytes()
    cache(two).write_bytes(good.replace(b'"bytes":7', b'"bytes":8') if content is None else content)
    assert {summary["bytes"] for summary in two.summaries()[0]} == {7}
    assert cache(two).read_bytes() == good


def test_a_changed_manifest_is_read_again_and_the_others_are_still_listed(two: Store) -> None:
    path = layout.manifest_path(two.root, "a", 1)
    rewrite(path, path.read_bytes()[:-1])
    found, damaged = two.summaries()
    assert [summary["ref"] for summary in found] == ["b@1"]
    assert [error.where for error in damaged] == [str(path)]
    with pytest.raises(DamagedManifest):
        two.find("a")


def test_a_damaged_release_does_not_keep_others_from_being_published(two: Store) -> None:
    rewrite(layout.manifest_path(two.root, "a", 1), b"{}")
    assert make_release(two, "a", digest("more"), add(two))[0].ref == "a@2"


def test_a_store_that_cannot_be_written_can_be_listed(two: Store) -> None:
    cache(two).unlink()
    (two.root / "cache").rmdir()
    assert refs(Store.open(two.root, writable=False)) == ["b@1", "a@1"]
    assert not cache(two).exists()
