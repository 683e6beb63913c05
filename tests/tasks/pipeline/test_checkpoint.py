"""Resolving pins contents; checking proves them. (What is refused is in tests/hostile/test_bad_inputs.py.)"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from artifacts.errors import BadWeights, CheckpointChanged, UnsafeCheckpoint
from artifacts.store.store import Store
from tasks.pipeline.checkpoint import check, resolve
from tests.wording import refusal


def copied(clip: Path, target: Path) -> Path:
    return Path(shutil.copytree(clip, target))


def test_a_folder_is_pinned_by_its_contents(store: Store, small_clip: Path, tmp_path: Path) -> None:
    first = resolve(str(small_clip), None, store)
    second = resolve(str(copied(small_clip, tmp_path / "Other Name")), None, store)
    assert first.digest == second.digest == first.revision
    assert (first.model, second.model) == ("small", "other-name")
    assert first.cache_identity() == second.cache_identity()
    for file in first.files:
        assert file.sha256 == hashlib.sha256((small_clip / file.path).read_bytes()).hexdigest()
    assert {file.path for file in first.files} == {path.name for path in small_clip.iterdir()}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_every_file_that_matters_moves_the_digest(name: str, store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = copied(small_clip, tmp_path / "clip")
    if name.endswith("json"):
        (folder / name).write_text((folder / name).read_text() + " ")
    else:
        tensors = dict(load_file(folder / name))
        tensors["logit_scale"] = np.asarray(tensors["logit_scale"] + 1)
        save_file(tensors, folder / name, metadata={"format": "pt"})
    assert resolve(str(folder), None, store).digest != resolve(str(small_clip), None, store).digest


def test_other_files_do_not_matter(store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = copied(small_clip, tmp_path / "clip")
    (folder / "README.md").write_text("hello")
    (folder / "pytorch_model.bin").write_bytes(b"never read where there are safetensors")
    assert resolve(str(folder), None, store).digest == resolve(str(small_clip), None, store).digest


def test_a_touched_file_is_noticed(store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = copied(small_clip, tmp_path / "clip")
    snapshot = resolve(str(folder), None, store)
    assert snapshot.open_folder() == folder
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(data)
    for use in (snapshot.open_folder, snapshot.weight_files, lambda: check(snapshot)):
        with pytest.raises(CheckpointChanged, match=r"model\.safetensors"):
            use()


def test_check_counts_what_pytorch_counts(store: Store, small_clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    checked = check(resolve(str(small_clip), None, store))
    state = CLIPModel.from_pretrained(small_clip).state_dict()
    assert checked.parameters == sum(tensor.numel() for tensor in state.values())
    assert checked.tensors == len(state)
    folder = store.path(checked.preprocess)
    text = ["a photo of the digit seven"]
    ours, theirs = (AutoTokenizer.from_pretrained(place)(text)["input_ids"] for place in (folder, small_clip))
    assert ours == theirs


def sharded(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return folder


def test_sharded_weights(store: Store, small_clip: Path, tmp_path: Path) -> None:
    snapshot = resolve(str(sharded(copied(small_clip, tmp_path / "clip"))), None, store)
    assert [path.name for path in snapshot.weight_files()] == ["a.safetensors", "b.safetensors"]
    assert check(snapshot).tensors == len(load_file(small_clip / "model.safetensors"))


def test_a_missing_shard_is_noticed(store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = sharded(copied(small_clip, tmp_path / "clip"))
    (folder / "b.safetensors").unlink()
    with pytest.raises(BadWeights, match="missing"):
        check(resolve(str(folder), None, store))


@pytest.mark.parametrize("value", ["1", "true", "YES", "y"])
def test_unsafe_loading_is_refused(value: str, store: Store, small_clip: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", value)
    with pytest.raises(UnsafeCheckpoint, match="unset"):
        resolve(str(small_clip), None, store)


def test_old_index_buffers_are_harmless(store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = copied(small_clip, tmp_path / "clip")
    tensors = dict(load_file(folder / "model.safetensors"))
    tensors["text_model.embeddings.position_ids"] = np.arange(16)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert check(resolve(str(folder), None, store)).parameters > 0


def test_half_precision_weights_are_checked_too(store: Store, small_clip: Path, tmp_path: Path) -> None:
    folder = copied(small_clip, tmp_path / "clip")
    tensors = {name: tensor.astype(np.float16) for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["text_projection.weight"][3, 4] = np.inf
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with refusal(BadWeights, "clip"):
        check(resolve(str(folder), None, store))


def test_the_demo(store: Store) -> None:
    snapshot = resolve("demo", None, store)
    assert (snapshot.kind, snapshot.model, snapshot.calibrated) == ("demo", "demo", False)
