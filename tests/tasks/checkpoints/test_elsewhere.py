"""A tokenizer in another repository is pinned by its commit, and belongs to what a checkpoint is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from artifacts.errors import CheckpointError, CheckpointNotFound
from artifacts.store.store import Store
from tasks.checkpoints.preprocess import Preprocess
from tasks.families import family_named
from tasks.pipeline.checkpoint import check, resolve
from tests.tasks.openclip.support import add_tokenizer, golden
from tests.wording import refusal

FIRST, SECOND = "a" * 40, "b" * 40
NAME = "facebook/xlm-v-base"


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`publish(commit)`: the tokenizer's repository at that commit, in a cache of a machine without network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    root = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"

    def make(commit: str) -> Path:
        folder = root / "snapshots" / commit
        folder.mkdir(parents=True)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(commit)
        add_tokenizer("worldwide", folder)
        return folder

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model without tokenizer."""
    return golden("worldwide", tmp_path / "model").folder


def test_it_comes_from_the_repository_that_is_named(folder: Path, publish: Any, store: Store) -> None:
    files = publish(FIRST)
    snapshot = resolve(str(folder), None, store)
    assert snapshot.stored_config["text_config"]["openclip_tokenizer"] == {"repository": NAME, "commit": FIRST}
    made = Preprocess(store.path(check(snapshot).preprocess), family_named(snapshot.family), snapshot.config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(files / name, folder / name)
    beside = resolve(str(folder), None, store)
    assert "openclip_tokenizer" not in beside.stored_config["text_config"]
    same = Preprocess(store.path(check(beside).preprocess), family_named(beside.family), beside.config)
    assert made.text(["a photo"])[0].tolist() == same.text(["a photo"])[0].tolist()


def test_another_commit_is_another_checkpoint(folder: Path, publish: Any, store: Store) -> None:
    publish(FIRST)
    first = resolve(str(folder), None, store)
    assert resolve(str(folder), None, store).digest == first.digest
    publish(SECOND)
    second = resolve(str(folder), None, store)
    assert second.stored_config["text_config"]["openclip_tokenizer"]["commit"] == SECOND
    assert second.digest != first.digest


def test_a_repository_that_cannot_be_had_is_named(folder: Path, publish: Any, store: Store) -> None:
    del publish
    with pytest.raises(CheckpointNotFound, match=f"tokenizer is that of '{NAME}', which cannot be had") as caught:
        resolve(str(folder), None, store)
    assert f"https://huggingface.co/{NAME}" in str(caught.value)


def test_a_repository_without_a_tokenizer_is_named(folder: Path, publish: Any, store: Store) -> None:
    for path in publish(FIRST).iterdir():
        path.unlink()
    with pytest.raises(CheckpointNotFound, match=f"tokenizer is that of '{NAME}', which cannot be had"):
        resolve(str(folder), None, store)


def test_the_pinned_files_must_still_be_there(folder: Path, publish: Any, store: Store) -> None:
    files = publish(FIRST)
    snapshot = resolve(str(folder), None, store)
    shutil.rmtree(files)
    with pytest.raises(CheckpointError, match="tokenizer"):
        check(snapshot)


def test_clips_own_vocabulary_comes_with_openclip(folder: Path, publish: Any, store: Store) -> None:
    del publish
    document = json.loads((folder / "open_clip_config.json").read_text())
    document["model_cfg"]["text_cfg"] = {"width": 32, "heads": 2, "layers": 2}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    with refusal(CheckpointNotFound, "model"):
        resolve(str(folder), None, store)
