"""A release's checkpoint is looked up as it was when the release was made, at its image size."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.errors import CheckpointNotFound, ConfigError
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import Snapshot
from tasks.comparing import opened_release
from tests.artifacts.support import SHA, digest, provenance
from tests.wording import refusal

Parameters = dict[str, Any]


def published(store: Store, parameters: Parameters) -> str:
    """A release that holds nothing, made with these parameters."""

    def build(version: int, sequence: int) -> Manifest:
        about: dict[str, Any] = {"created": "2026-01-01T00:00:00Z", "identity": digest("m"), "files": (), "tables": {}}
        made = provenance(parameters=parameters)
        return Manifest(model="m", version=version, sequence=sequence, provenance=made, **about)

    return store.publish("m", digest("m"), build)[0].ref


@pytest.mark.parametrize(
    ("parameters", "size"),
    [({"image_size": [48, 32]}, (48, 32)), ({"image_size": None}, None), ({}, None)],
    ids=["chosen", "of its own", "before there was a choice"],
)
def test_it_is_resolved_at_the_size_of_the_release(
    parameters: Parameters, size: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def resolve(*arguments: Any, image_size: Any) -> Snapshot:
        asked.append((*arguments, image_size))
        about: dict[str, Any] = {"revision": "r", "digest": SHA, "family": "siglip2", "stored_config": {}, "files": ()}
        return Snapshot(kind="folder", name="n", model="m", folder="n", image_size=size, **about)

    monkeypatch.setattr(opened_release, "resolve", resolve)
    side = opened_release.release_side(store, published(store, parameters), "fp16")
    assert asked == [("n", None, store, size)]
    assert (side.snapshot.image_size, side.no_fp32) == (size, None)


def test_a_checkpoint_that_has_another_size_now_is_no_reference(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **_options: Any) -> Snapshot:
        raise ConfigError("this checkpoint is one of 32 x 32")

    monkeypatch.setattr(opened_release, "resolve", resolve)
    with refusal(CheckpointNotFound, "n"):
        opened_release.release_side(store, published(store, {"image_size": [48, 32]}), "fp16")
