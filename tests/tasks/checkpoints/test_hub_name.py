"""However a model of the hub is written, it is one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from artifacts.errors import CheckpointNotFound
from artifacts.store.store import Store
from tasks.checkpoints.hub_name import typed_name
from tasks.demo import SNAPSHOT
from tasks.pipeline.checkpoint import resolve

NAME = "timm/ViT-SO400M-14-SigLIP-384"


@pytest.mark.parametrize(
    "typed",
    [
        NAME,
        f"hf-hub:{NAME}",
        f"hf_hub:{NAME}",
        f"https://huggingface.co/{NAME}",
        f"https://huggingface.co/{NAME}/",
        f"https://huggingface.co/{NAME}/tree/main",
        f"http://www.huggingface.co/{NAME}?library=open_clip",
        f"huggingface.co/{NAME}#usage",
        f" https://hf.co/{NAME}\n",
    ],
)
def test_it_is_the_same_id(typed: str) -> None:
    assert typed_name(typed) == NAME


@pytest.mark.parametrize("typed", ["demo", "./folder", "/tmp/hf-hub:x", "gpt2", "hf-hub:", "https://example.org/a/b"])
def test_other_names_stay(typed: str) -> None:
    assert typed_name(typed) == typed


def test_openclips_name_of_a_folder() -> None:
    assert typed_name("local-dir:/models/mine") == "/models/mine"


def test_one_model_has_one_name(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def download(name: str, **_: Any) -> str:
        asked.append(name)
        (tmp_path / ("c" * 40)).symlink_to(SNAPSHOT) if len(asked) == 1 else None
        return str(tmp_path / ("c" * 40))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    made = [resolve(typed, None, store) for typed in (NAME, f"hf-hub:{NAME}", f"https://huggingface.co/{NAME}")]
    assert {(snapshot.name, snapshot.model) for snapshot in made} == {(NAME, made[0].model)} and set(asked) == {NAME}


def test_an_address_of_another_revision_is_no_name(store: Store) -> None:
    with pytest.raises(CheckpointNotFound, match="no model"):
        resolve(f"https://huggingface.co/{NAME}/tree/v2", None, store)
