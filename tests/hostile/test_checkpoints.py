"""Bad inputs 1 to 6, 30 and 33: models that are not there, not CLIP, not whole, not safe or not what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.errors import BadWeights, CheckpointError, DamagedManifest, NotClip
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.pipeline.checkpoint import check, resolve
from tests.hostile.support import Bad, Workshop, check_complete, digits, set_values
from tests.wording import refusal

Refuse = Callable[[Bad], None]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_01_missing_model(shop: Workshop, refuse_as_a_user: Refuse) -> None:
    folder = shop.root / "no-such-model"
    refuse_as_a_user(Bad(digits(folder), "CheckpointNotFound", [str(folder)]))


def test_01_missing_revision(refuse: Refuse) -> None:
    """There is no network here: the revision is missing from the cache, as it would be from the hub."""
    arguments = [*digits("clipsmith-tests/no-such-clip"), "--revision", "v9"]
    refuse(Bad(arguments, "CheckpointNotFound", ["clipsmith-tests/no-such-clip", "revision v9"]))


def test_02_not_a_clip_model(shop: Workshop, refuse: Refuse) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=100, **SMALL)).save_pretrained(shop.root / "bert")
    refuse(Bad(digits(shop.root / "bert"), "NotClip", ["bert", "config.json"]))


def test_03_vision_only_model(shop: Workshop, refuse: Refuse) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    model = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **SMALL))
    model.save_pretrained(shop.root / "vision")
    refuse(Bad(digits(shop.root / "vision"), "MissingEncoder", ["no text encoder"]))


def test_03_text_only_model(shop: Workshop, refuse: Refuse) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    CLIPTextModel(CLIPTextConfig(vocab_size=100, **SMALL)).save_pretrained(shop.root / "text")
    refuse(Bad(digits(shop.root / "text"), "MissingEncoder", ["no image encoder"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_04_nan_or_inf_weights(value: float, shop: Workshop, refuse: Refuse) -> None:
    name = "text_model.encoder.layers.1.mlp.fc1.weight"
    folder = shop.weights(lambda tensors: set_values(tensors, name, value, 3))
    refuse(Bad(digits(folder), "BadWeights", [name, "3 NaN or Inf"]))


def test_05_missing_key(shop: Workshop, refuse: Refuse) -> None:
    name = "text_model.final_layer_norm.bias"
    refuse(Bad(digits(shop.weights(lambda t: t.pop(name))), "BadWeights", ["1 tensors are missing", name]))


def test_05_extra_key(shop: Workshop, refuse: Refuse) -> None:
    name = "vision_model.encoder.layers.0.extra.weight"
    folder = shop.weights(lambda t: t.update({name: np.ones((2, 2), np.float32)}))
    refuse(Bad(digits(folder), "BadWeights", ["1 tensors are not part of the model", name]))


def test_06_image_size_unlike_the_config(shop: Workshop, refuse: Refuse) -> None:
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    folder = shop.json("preprocessor_config.json", lambda content: content.update(size))
    words = ["makes 3 x 64 x 64", "the model takes 3 x 32 x 32"]
    refuse(Bad(digits(folder), "CheckpointError", words))


def test_30_pickled_weights(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.clip()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refuse(Bad(digits(folder), "UnsafeCheckpoint", ["pytorch_model.bin", "safetensors"]))


def test_30_foreign_modelopt_state(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.clip()
    (folder / "modelopt_state.pth").write_bytes(b"\x80\x04cos\nsystem\n")
    refuse(Bad(digits(folder), "UnsafeCheckpoint", ["modelopt_state.pth", "pickle"]))


def test_33_duplicate_key_in_config_json(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.clip()
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"model_type"', '"model_type": "bert", "model_type"', 1))
    refuse(Bad(digits(folder), "NotClip", ["config.json cannot be read", "duplicate key"]))


def _twice(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[: text.rindex("}")] + ', "extra": 1, "extra": 2}')


def _nan(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[: text.rindex("}")] + ', "extra": NaN}')


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("damage", [_twice, _nan, _deep])
@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
)
def test_33_json_that_python_reads_all_the_same(
    damage: Callable[[Path], None], name: str, shop: Workshop, active: Store
) -> None:
    folder = shop.clip()
    if name == "vocab.json":  # this tokenizer does not read it, others do
        (folder / name).write_text('{"a": 1}')
    damage(folder / name)
    with refusal(CheckpointError) as caught:
        check(resolve(str(folder), None, active))
    check_complete(caught.value, name)


def test_33_weights_index_with_a_key_twice(shop: Workshop, active: Store) -> None:
    folder = shop.clip()
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = '{"weight_map": {"a": "model-1.safetensors"}, "weight_map": {"a": "model-1.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadWeights, match="duplicate key") as caught:
        resolve(str(folder), None, active)
    check_complete(caught.value, "model.safetensors.index.json")


def test_33_openclip_configuration_with_nan(tmp_path: Path, active: Store) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": NaN}}')
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(NotClip, match="NaN is not JSON") as caught:
        resolve(str(tmp_path), None, active)
    check_complete(caught.value, "open_clip_config.json")


@pytest.mark.parametrize(
    ("old", "new"), [('"format":1', '"format":1,"format":1'), ('"version":1', '"version":NaN'), ("{", "[" * 100_000)]
)
def test_33_manifest(old: str, new: str) -> None:
    content: dict[str, Any] = {"format": 1, "version": 1}
    data = json.dumps(content, separators=(",", ":")).replace(old, new, 1).encode()
    with pytest.raises(DamagedManifest) as caught:
        Manifest.from_bytes(data, where="releases/demo/1.json")
    check_complete(caught.value)
