"""Make `openclip/*.tar.xz`: tiny models of OpenCLIP's and timm's own classes, with their weights and embeddings.

What clipsmith reads from OpenCLIP's layout must compute what these libraries compute. They are no dependency: this
program runs in an environment of its own, once, and its output is kept.

    python3 -m venv oracle
    oracle/bin/pip install torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0 timm==1.0.31 transformers==5.14.1
    oracle/bin/python tests/golden/make_openclip.py            # or the names of some kinds

Each archive is a folder: `open_clip_config.json` and `open_clip_model.safetensors` as OpenCLIP writes them,
`expected.safetensors` with `pixels` (N, 3, side, side), `ids` (N, context) and the embeddings `image` and `text`
(N, dim) before normalisation, and `shrunk.json`: what was made smaller in the architectures that the configuration only
names, under `timm` (keyword arguments of timm's function) and `hf` (keys of transformers' configuration).
Every weight is drawn anew, since at their initial 0 and 1 biases and norms would hide a mix-up; all are multiples of
1/128 of modest size, so that they are the same in FP16, and pack well.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
import transformers
from open_clip import hf_model, timm_model
from safetensors.torch import save as safetensors
from timm.models import vision_transformer_hybrid as hybrid

HERE = Path(__file__).parent / "openclip"
BATCH = 5
VOCABULARY = 64

Tokens = Callable[[torch.Generator, int], torch.Tensor]


@dataclass(frozen=True)
class Kind:
    """One model: its configuration as published, with smaller numbers, and its inputs."""

    model: dict[str, Any]
    tokens: Tokens
    side: int = 32
    timm: dict[str, Any] = field(default_factory=dict)
    hf: dict[str, Any] = field(default_factory=dict)


# --- texts -----------------------------------------------------------------------------------------------------------


def words(
    generator: torch.Generator, context: int, *, start: int | None, end: int | None, pad: int, low: int, high: int
) -> torch.Tensor:
    """Ids (BATCH, context) of texts of several lengths; the first fills its row, the second is as short as can be."""
    rows = torch.full((BATCH, context), pad)
    for row in range(BATCH):
        length = context if row == 0 else 3 if row == 1 else int(torch.randint(4, context, (), generator=generator))
        text = torch.randint(low, high, (length,), generator=generator)
        if start is not None:
            text[0] = start
        if end is not None:
            text[-1] = end
        rows[row, :length] = text
    return rows


CLIP = partial(words, start=VOCABULARY - 2, end=VOCABULARY - 1, pad=0, low=1, high=VOCABULARY - 2)
"""CLIP's tokens: start and end have the largest ids, and padding is 0, which is a word too."""
SIGLIP = partial(words, start=None, end=1, pad=1, low=2, high=VOCABULARY)
ROBERTA = partial(words, start=0, end=2, pad=1, low=3, high=VOCABULARY)
BERT = partial(words, start=2, end=3, pad=0, low=4, high=VOCABULARY)
CLIPA = partial(words, start=2, end=None, pad=0, low=4, high=VOCABULARY)


# --- models ----------------------------------------------------------------------------------------------------------

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 8}
TEXT = {"context_length": 12, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0}
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
SMALL_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}
SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
CLIPA_VISION = VISION | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
CLIPA_TEXT = TEXT | {"pool_type": "last", "no_causal_mask": True, "hf_tokenizer_name": "bert-base-uncased"}


def named(name: str, pool: str, proj: str | None, side: int = 32) -> dict[str, Any]:
    """A `vision_cfg` that names an architecture of timm's."""
    return {
        "image_size": side,
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": proj,
    }


def hf_text(name: str, pooler: str, **more: Any) -> dict[str, Any]:
    """A `text_cfg` that names a model of transformers'; without weights, which the state dict has."""
    return {"hf_model_name": name, "hf_tokenizer_name": name, "hf_pooler_type": pooler} | more


KINDS: dict[str, Kind] = {
    "siglip": Kind(
        {
            "embed_dim": 32,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": named("vit_base_patch16_siglip_224", "map", "none"),
            "text_cfg": SIGLIP_TEXT | {"tokenizer_kwargs": {"clean": "canonicalize"}},
        },
        SIGLIP,
        timm=SMALL,
    ),
    "siglip2": Kind(
        {
            "embed_dim": 48,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": named("vit_giantopt_patch16_siglip_256", "map", "none"),
            "text_cfg": SIGLIP_TEXT | {"mlp_ratio": 3.7362, "act_kwargs": {"approximate": "tanh"}},
        },
        SIGLIP,
        timm=SMALL | {"embed_dim": 48},
    ),
    "siglip_i18n": Kind(
        {
            "embed_dim": 32,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": named("vit_so400m_patch16_siglip_256", "map", "none"),
            "text_cfg": SIGLIP_TEXT
            | {"proj_bias": False, "proj_type": "none", "hf_tokenizer_name": "timm/ViT-B-16-SigLIP-i18n-256"},
        },
        SIGLIP,
        timm=SMALL,
    ),
    "worldwide": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION,
            "text_cfg": TEXT | {"hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2},
        },
        ROBERTA,
    ),
    "clipa": Kind({"embed_dim": 24, "vision_cfg": CLIPA_VISION, "text_cfg": CLIPA_TEXT}, CLIPA),
    "openvision": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": CLIPA_VISION | {"norm_kwargs": {"eps": 1e-6}},
            "text_cfg": CLIPA_TEXT | {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}},
        },
        CLIPA,
    ),
    "layer_scale": Kind(
        {
            "embed_dim": 24,
            "quick_gelu": True,
            "vision_cfg": VISION | {"ls_init_value": 1e-4},
            "text_cfg": TEXT | {"ls_init_value": 1e-4},
        },
        CLIP,
    ),
    "eva01": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("eva_giant_patch14_224", "token", None),
            "text_cfg": TEXT,
        },
        CLIP,
        timm=SMALL,
    ),
    "eva02": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("eva02_base_patch16_clip_224", "token", None),
            "text_cfg": TEXT,
        },
        CLIP,
        timm=SMALL,
    ),
    "eva02_e": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("eva02_enormous_patch14_clip_224", "token", None),
            "text_cfg": TEXT,
        },
        CLIP,
        timm=SMALL,
    ),
    "pe_core": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("vit_pe_core_large_patch14_336", "map", None),
            "text_cfg": TEXT,
        },
        CLIP,
        timm=SMALL,
    ),
    "pe_core_g": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("vit_pe_core_gigantic_patch14_448", "map", None),
            "text_cfg": TEXT,
        },
        CLIP,
        timm=SMALL,
    ),
    "mobileclip_b": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("vit_base_mci_224", "token", None, 64),
            "text_cfg": TEXT | {"no_causal_mask": False},
        },
        CLIP,
        side=64,
        timm={"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "stem": [8, 8, 32]},
    ),
    "mobileclip2_l": Kind(
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": named("vit_large_patch14_clip_224", "token", None),
            "text_cfg": TEXT | {"no_causal_mask": True},
        },
        CLIP,
        timm=SMALL,
    ),
    "coca": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION
            | {"attentional_pool": True, "attn_pooler_queries": 6, "attn_pooler_heads": 4, "output_tokens": True},
            "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {"context_length": 12, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1},
            "custom_text": True,
        },
        CLIP,
    ),
    "coca_square": Kind(  # the pooler's width is the transformer's: its weights are stored as one stack
        {
            "embed_dim": 32,
            "vision_cfg": VISION
            | {"attentional_pool": True, "attn_pooler_queries": 6, "attn_pooler_heads": 4, "output_tokens": True},
            "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {"context_length": 12, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1},
            "custom_text": True,
        },
        CLIP,
    ),
    "coca_scaled": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION
            | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True, "ls_init_value": 1e-4},
            "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True, "ls_init_value": 1e-4},
            "multimodal_cfg": {"context_length": 12, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1},
            "custom_text": True,
        },
        CLIP,
    ),
    "coca_base": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION | {"output_tokens": True},
            "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {"context_length": 12, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1},
            "custom_text": True,
        },
        CLIP,
    ),
    "roberta": Kind(
        {
            "embed_dim": 24,
            "quick_gelu": True,
            "vision_cfg": VISION,
            "text_cfg": hf_text("roberta-base", "mean_pooler", context_length=12),
        },
        ROBERTA,
        hf={"model_type": "roberta", "type_vocab_size": 1, "layer_norm_eps": 1e-5} | SMALL_BERT,
    ),
    "xlm_roberta": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION,
            "text_cfg": hf_text("xlm-roberta-base", "mean_pooler", hf_proj_type="linear", context_length=12),
        },
        ROBERTA,
        hf={"model_type": "xlm-roberta", "type_vocab_size": 1, "layer_norm_eps": 1e-5} | SMALL_BERT,
    ),
    "roberta_cls": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": VISION,
            "text_cfg": hf_text("roberta-base", "cls_pooler", hf_proj_type="linear", context_length=12),
        },
        ROBERTA,
        hf={"model_type": "roberta", "type_vocab_size": 1, "layer_norm_eps": 1e-5} | SMALL_BERT,
    ),
    "biomed": Kind(
        {
            "embed_dim": 24,
            "vision_cfg": named("vit_base_patch16_224", "", "linear"),
            "text_cfg": hf_text(
                "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "cls_last_hidden_state_pooler",
                hf_proj_type="mlp",
                context_length=14,
            ),
        },
        BERT,
        timm=SMALL,
        hf={"model_type": "bert"} | SMALL_BERT,
    ),
}


# --- making ----------------------------------------------------------------------------------------------------------


def build(kind: Kind) -> torch.nn.Module:
    """The library's own model, with the sizes of `kind` where its configuration only names an architecture."""
    create, stem = timm.create_model, hybrid.ConvStem
    sizes = {key: value for key, value in kind.timm.items() if key != "stem"}

    def smaller(name: str, **given: Any) -> Any:
        return create(name, **given, **sizes)

    def narrower(**given: Any) -> Any:
        return stem(**given | {"channels": tuple(kind.timm["stem"])})

    def known(_: str, **__: Any) -> Any:
        values = dict(kind.hf)
        return transformers.AutoConfig.for_model(values.pop("model_type"), **values)

    model = json.loads(json.dumps(kind.model))
    custom = model.pop("custom_text", False) or "hf_model_name" in model["text_cfg"]
    if "hf_model_name" in model["text_cfg"]:
        model["text_cfg"]["hf_model_pretrained"] = False
    if "multimodal_cfg" in model:
        made: Any = open_clip.CoCa
    else:
        made = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with (
        mock.patch.object(timm_model.timm, "create_model", smaller),
        mock.patch.object(hybrid, "ConvStem", narrower),
        mock.patch.object(hf_model.AutoConfig, "from_pretrained", known),
    ):
        return made(**model).eval()


def draw(model: torch.nn.Module, generator: torch.Generator) -> None:
    """New values for every parameter, and for the statistics of batch norms."""
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim:
                mean, deviation = spread(name, values)
                normal(values, mean, deviation, generator)
        for name, values in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                normal(values, 0.0, 0.5, generator)
            if name.endswith("running_var"):
                values.abs_().add_(0.5)


def spread(name: str, values: torch.Tensor) -> tuple[float, float]:
    """Mean and deviation of a parameter's values: activations stay near 1 through the model."""
    last = name.rpartition(".")[2]
    if values.ndim >= 2 and last.endswith("weight") and "embedding" not in name:
        return 0.0, values[0].numel() ** -0.5
    if last in ("proj", "text_projection"):  # (width, dim), multiplied from the right
        return 0.0, values.shape[0] ** -0.5
    if values.ndim >= 2 or last in ("cls_emb", "class_embedding"):
        return 0.0, 0.5
    if last.startswith("gamma"):
        return 0.5, 0.2
    return (1.0 if last == "weight" else 0.0), 0.2


def normal(values: torch.Tensor, mean: float, deviation: float, generator: torch.Generator) -> None:
    """Fill a tensor with multiples of 1/128."""
    drawn = mean + deviation * torch.randn(values.shape, generator=generator)
    values.copy_((drawn * 128).round() / 128)


def make(name: str, kind: Kind) -> bytes:
    """The archive of one kind."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    torch.manual_seed(0)
    model: Any = build(kind)
    draw(model, generator)
    pixels = (torch.randn((BATCH, 3, kind.side, kind.side), generator=generator) * 64).round() / 64
    ids = kind.tokens(generator, kind.model["text_cfg"].get("context_length", 12))
    with torch.no_grad():
        image, text = model.encode_image(pixels, normalize=False), model.encode_text(ids, normalize=False)
    image, text = image.contiguous(), text.contiguous()
    assert image.shape == text.shape == (BATCH, kind.model["embed_dim"])
    state = {key: values.contiguous() for key, values in model.state_dict().items()}
    document = {"model_cfg": kind.model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    return packed(
        {
            "open_clip_config.json": json.dumps(document, indent=1).encode(),
            "shrunk.json": json.dumps({"timm": kind.timm, "hf": kind.hf}, indent=1).encode(),
            "expected.safetensors": safetensors({"pixels": pixels, "ids": ids, "image": image, "text": text}),
            "open_clip_model.safetensors": safetensors(state),
        }
    )


def packed(files: dict[str, bytes]) -> bytes:
    """A `.tar.xz` whose bytes depend on the files' alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main(names: list[str]) -> None:
    """Make the archives of these kinds, or of all."""
    HERE.mkdir(exist_ok=True)
    for name in names or KINDS:
        content = make(name, KINDS[name])
        (HERE / f"{name}.tar.xz").write_bytes(content)
        print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
