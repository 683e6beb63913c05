"""Two folders with one last name are two models; a name that belongs to other weights is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import ReleaseNotFound
from tasks.checkpoints.model_name import folder_name, other_weights

HASH = "32bd64288804d66eefd0ccbe215aa642df71cc41"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/models/ViT-B-32-shop", "vit-b-32-shop"),
        ("/run1/checkpoint", "run1-checkpoint"),
        ("/run2/checkpoint", "run2-checkpoint"),
        ("/runs/shop/checkpoint-500", "shop-checkpoint-500"),
        ("/runs/shop/epoch_12", "shop-epoch_12"),
        ("/runs/shop/7", "shop-7"),
        ("/models/shop/Final", "shop-final"),
        ("/models/clip-ViT-B-32/0_CLIPModel", "clip-vit-b-32-0_clipmodel"),
        (f"/data/shop/{HASH}", f"shop-{HASH}"),
        (f"/hub/models--openai--clip-vit-base-patch16/snapshots/{HASH}", "openai--clip-vit-base-patch16"),
        ("/checkpoint", "checkpoint"),
    ],
)
def test_name_of_a_folder(folder: str, name: str) -> None:
    assert folder_name(Path(folder)) == name


def snapshot_of(**changes: Any) -> Any:
    values = {"model": "shop", "name": "run2/shop", "digest": "b" * 64, "kind": "folder"}
    return SimpleNamespace(**values | changes)


class OneRelease:
    """A store whose newest release of any name but `new` was made from the folder `source`."""

    def __init__(self, source: str = "/run1/shop") -> None:
        self.source = source

    def find(self, model: str) -> Any:
        if model == "new":
            raise ReleaseNotFound("no such model")
        source = SimpleNamespace(name=self.source, digest="a" * 64)
        return SimpleNamespace(ref=f"{model}@3", provenance=SimpleNamespace(source=source))


def test_other_weights_under_the_same_name_are_said() -> None:
    line = other_weights(snapshot_of(), OneRelease())  # type: ignore[arg-type]
    assert line is not None
    assert "shop belongs to other weights: shop@3 was made from /run1/shop" in line and "--name" in line


@pytest.mark.parametrize(
    "changes", [{"model": "new"}, {"name": "/run1/shop"}, {"digest": "a" * 64}, {"kind": "published"}]
)
def test_a_history_that_goes_on_is_not_worth_a_word(changes: dict[str, Any]) -> None:
    assert other_weights(snapshot_of(**changes), OneRelease()) is None  # type: ignore[arg-type]


def test_a_relative_path_may_be_another_folder_by_now() -> None:
    line = other_weights(snapshot_of(name="shop"), OneRelease("shop"))  # type: ignore[arg-type]
    assert line is not None and "made from shop" in line
    same = snapshot_of(name="shop", digest="a" * 64)
    assert other_weights(same, OneRelease("shop")) is None  # type: ignore[arg-type]
    hub = snapshot_of(name="org/shop", kind="hub")
    assert other_weights(hub, OneRelease("org/shop")) is None  # type: ignore[arg-type]
