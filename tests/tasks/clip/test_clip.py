"""The CLIP adapter reads shapes as transformers does and runs the model that it describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tasks.clip import attention
from tasks.clip.base import ENCODERS
from tasks.clip.clip import Clip
from tasks.demo import SNAPSHOT

CONFIG = json.loads((SNAPSHOT / "config.json").read_text())


@pytest.fixture(scope="module")
def loaded() -> Any:
    return Clip().load(SNAPSHOT, CONFIG, "eager")


def test_image_spec() -> None:
    spec = Clip().encoder_spec(CONFIG, "image")
    (pixels,) = spec.inputs
    assert (pixels.name, pixels.dtype, pixels.shape, spec.output) == (
        "pixel_values",
        "float16",
        (3, 32, 32),
        "image_embeds",
    )
    assert (spec.encoder, spec.layers, spec.hidden_size, spec.heads, spec.embedding_dim) == ("image", 3, 128, 2, 64)


def test_text_spec() -> None:
    spec = Clip().encoder_spec(CONFIG, "text")
    (ids,) = spec.inputs
    assert (ids.name, ids.dtype, ids.shape, spec.output) == ("input_ids", "int64", (16,), "text_embeds")
    assert (spec.encoder, spec.layers, spec.hidden_size, spec.heads, spec.embedding_dim) == ("text", 2, 128, 2, 64)


def test_what_a_config_leaves_out_is_transformers_default() -> None:
    from transformers import CLIPConfig

    bare = {"model_type": "clip", "text_config": {}, "vision_config": {}}
    full = CLIPConfig()
    image, text = (Clip().encoder_spec(bare, encoder) for encoder in ("image", "text"))
    assert image.inputs[0].shape == (3, full.vision_config.image_size, full.vision_config.image_size)
    assert (image.layers, text.layers) == (full.vision_config.num_hidden_layers, full.text_config.num_hidden_layers)
    assert image.embedding_dim == text.embedding_dim == full.projection_dim


def test_prefixes_part_the_state_dict() -> None:
    """Every tensor belongs to one encoder, but for the temperature of the loss."""
    with safe_open(SNAPSHOT / "model.safetensors", "np") as file:
        names = list(file.keys())
    prefixes = {encoder: Clip().encoder_spec(CONFIG, encoder).prefixes for encoder in ENCODERS}
    owners = {name: [e for e in ENCODERS if name.startswith(prefixes[e])] for name in names}
    assert [name for name, owner in owners.items() if len(owner) != 1] == ["logit_scale"]


def test_build_takes_no_weights_and_no_memory() -> None:
    with torch.device("meta"):
        model = Clip().build(CONFIG)
    assert not model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_load_gives_the_stored_weights_in_fp32(loaded: Any) -> None:
    from safetensors.torch import load_file

    stored = load_file(SNAPSHOT / "model.safetensors")
    state = loaded.state_dict()
    assert not loaded.training and stored.keys() <= state.keys()
    assert all(state[name].dtype == torch.float32 and torch.equal(state[name], stored[name]) for name in stored)
    assert loaded.config._attn_implementation == "eager"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encode_is_the_models_embedding(encoder: Any, loaded: Any, random_inputs: Any) -> None:
    """CLIPModel's own forward normalises these; before that they are the projections."""
    pixels = torch.from_numpy(random_inputs(SNAPSHOT, "image", 3)).float()
    ids = torch.from_numpy(random_inputs(SNAPSHOT, "text", 3))
    with torch.no_grad():
        whole = loaded(input_ids=ids, pixel_values=pixels)
        got = Clip().encode(loaded, encoder, pixels if encoder == "image" else ids)
    reference = whole.image_embeds if encoder == "image" else whole.text_embeds
    assert got.shape == (3, 64)
    assert torch.allclose(torch.nn.functional.normalize(got, dim=-1), reference, atol=1e-6)
    assert not torch.allclose(got.norm(dim=-1), torch.ones(3), atol=1e-2)


# --- the attention that is traced --------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
def test_export_attention_is_eager_attention(encoder: Any, loaded: Any, random_inputs: Any) -> None:
    attention.register()
    inputs = torch.from_numpy(random_inputs(SNAPSHOT, encoder, 4))
    inputs = inputs.float() if encoder == "image" else inputs
    ours = Clip().load(SNAPSHOT, CONFIG, attention.NAME)
    with torch.no_grad():
        assert torch.allclose(
            Clip().encode(ours, encoder, inputs), Clip().encode(loaded, encoder, inputs), atol=1e-5, rtol=1e-4
        )


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    got, weights = attention._attention(torch.nn.Identity(), q, k, v, None)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    assert weights is None and torch.allclose(got, expected, atol=1e-6)
    scaled, _ = attention._attention(torch.nn.Identity(), q, k, v, None, scaling=0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2)
    assert torch.allclose(scaled, expected, atol=1e-6)


def test_causal_mask_is_torchs() -> None:
    from transformers.masking_utils import causal_mask_function

    mask = attention._mask(q_length=6, kv_length=6, mask_function=causal_mask_function, dtype=torch.float16)
    assert mask.shape == (1, 1, 6, 6) and mask.dtype == torch.float16
    assert torch.equal(mask[0, 0] == 0, torch.ones(6, 6, dtype=torch.bool).tril())
    assert torch.isfinite(mask + mask).all()
    assert torch.softmax(mask[0, 0].float(), -1).triu(1).max() == 0


def test_bidirectional_attention_has_no_mask() -> None:
    from transformers.masking_utils import bidirectional_mask_function

    assert attention._mask(q_length=6, kv_length=6, mask_function=bidirectional_mask_function) is None


def test_other_masks_are_refused() -> None:
    from transformers.masking_utils import causal_mask_function

    with pytest.raises(NotImplementedError, match="padding"):
        attention._mask(q_length=4, kv_length=4, mask_function=causal_mask_function, attention_mask=torch.ones(1, 4))
    with pytest.raises(NotImplementedError, match="unknown mask"):
        attention._mask(q_length=4, kv_length=4, mask_function=lambda *_: True)
