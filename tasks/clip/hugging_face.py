"""What all families share: transformers' own classes, found by their common prefix."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import ConfigError, UnsafeCheckpoint, UnsupportedVariant
from artifacts.manifest import Encoder
from tasks.clip.base import ENCODERS, EncoderSpec, ImageSize, InputSpec, Oracle, Piece, text_inputs
from tasks.clip.lean import model_class
from tasks.clip.processors import load_image_processor, load_tokenizer
from tasks.clip.weights import stored_names, wrapper_prefix

if TYPE_CHECKING:
    from torch import nn

_STACKS = ("embeddings", "encoder", "layers", "layer")
_SECTIONS = {"image": "vision_config", "text": "text_config"}
_NOT_ARCHITECTURE = frozenset(
    (
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_commit_hash",
        "_name_or_path",
        "attn_implementation",
        "auto_map",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "quantization_config",
        "torch_dtype",
        "torchscript",
        "use_bfloat16",
        "use_return_dict",
    )
)
"""Keys that say how somebody ran a model, not what it computes, in addition to the fields of `PreTrainedConfig`, which
all configurations of transformers share."""
_ATTENTION = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")
_SWITCHES = _NOT_ARCHITECTURE | {
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "transformers_version",
}
"""Keys that are left out before plain transformers reads a configuration."""


class ClipFamily:
    """A family of two-encoder models.

    As it stands, it is the adapter for `<architecture>Model`: a vision transformer with class-token pooling, and causal
    text; families override what differs. Instances hold no state. `config` is a configuration as `resolve_config` gives
    it, whose sections can be read and changed as they stand; what a file says is `stored`, and only `resolve_config`
    reads it.
    """

    name: ClassVar[str]
    """What the registry and manifests call the family."""
    covers: ClassVar[str]
    """Whose checkpoints it takes, in words for people."""
    known: ClassVar[tuple[str, ...]]
    """Published models, by the names that people give, whose configurations go through the tests."""
    oracle: ClassVar[Oracle] = "transformers"
    """What its embeddings are held to: transformers in every run, or in the tests golden files of its library."""
    model_types: ClassVar[tuple[str, ...]]
    """The `model_type` values of `config.json` that belong to it."""
    architecture: ClassVar[str]
    """Prefix of transformers' classes: `CLIP` for `CLIPConfig` and `CLIPModel`."""
    repeats_sections: ClassVar[bool] = True
    """Whether its library takes a section of `config.json` under its old name too, `text_config_dict`."""
    attends_to_padding: ClassVar[bool] = False
    """Whether texts are embedded with their padding up to the context, as the family was trained."""
    unquantized: ClassVar[tuple[str, ...]] = ()
    """Modules that checkpoints store as an `nn.Linear` and that are none in the graph: no recipe reaches them."""
    prefixes: ClassVar[Mapping[Encoder, tuple[str, ...]]] = {
        "image": ("vision_model.", "visual_projection."),
        "text": ("text_model.", "text_projection."),
    }

    def encoder_spec(self, config: dict[str, Any], encoder: Encoder) -> EncoderSpec:
        """Shapes and names of one encoder, with transformers' defaults for what the configuration leaves out.

        Raises:
            UnsupportedVariant: a configuration of this family that clipsmith has no graph for.
        """
        full = self.full_config(config)
        part = getattr(full, _SECTIONS[encoder])
        return EncoderSpec(
            encoder=encoder,
            inputs=self.image_inputs(part) if encoder == "image" else self.text_inputs(part),
            output=f"{encoder}_embeds",
            layers=part.num_hidden_layers,
            hidden_size=part.hidden_size,
            heads=part.num_attention_heads,
            embedding_dim=self.embedding_dim(full, encoder),
            prefixes=self.prefixes[encoder],
        )

    def resolve_config(self, stored: dict[str, Any]) -> dict[str, Any]:
        """What `<architecture>Config` makes of a stored configuration, complete, without what changes no embedding;
        `stored` is left as it is.

        Files of 2021 and 2022 repeat their sections as `text_config_dict` and `vision_config_dict`. These override the
        sections, with transformers' defaults for missing keys (`CLIPConfig.__post_init__`); the result has only the
        sections. Runtime switches (`return_dict`, the attention's implementation, dtypes) and labels are dropped.

        Raises:
            UnsupportedVariant: a configuration of this family that clipsmith has no graph for.
            Whatever transformers raises for values that it does not take.
        """
        return _architecture(self.full_config(_architecture(stored)).to_dict())

    def full_config(self, config: dict[str, Any]) -> Any:
        """`<architecture>Config` of a configuration; `config` is not changed."""
        # A copy: `CLIPConfig` writes into its argument's sections.
        return model_class(f"{self.architecture}Config").from_dict(copy.deepcopy(config))

    def refuse_foreign_code(self, stored: dict[str, Any], *, where: object) -> None:
        """Refuse a configuration that only the checkpoint's own code understands, which is never run.

        Raises:
            UnsafeCheckpoint: its attention is a kernel on the hub.
            UnsupportedVariant: it names its own code, and has settings that transformers' class does not know.
        """
        for section in (stored, *(stored.get(name) or {} for name in _SECTIONS.values())):
            kernel = next((section[key] for key in _ATTENTION if "/" in str(section.get(key, ""))), None)
            if kernel is not None:
                raise UnsafeCheckpoint(
                    f"the attention is code from elsewhere, which is not run: {kernel!r:.80}",
                    where=where,
                    expected="no such key: clipsmith chooses the attention",
                    fix=f"remove {_ATTENTION[0]}",
                )
        code = stored.get("auto_map")
        named = str(code.get("AutoModel", "")).rpartition(".")[2] if isinstance(code, dict) else ""
        classes = stored.get("architectures")
        if not named or not isinstance(classes, list) or named not in classes:
            return
        known = self.full_config({"model_type": stored["model_type"]}).to_dict()
        for section in _SECTIONS.values():
            odd = sorted(_architecture(stored.get(section) or {}).keys() - known[section].keys())
            if odd:
                raise UnsupportedVariant(
                    f"the model is {named}, code of the checkpoint's own, which is not run ({section}.{odd[0]})",
                    where=where,
                    expected=f"a model that transformers' {self.architecture}Model computes",
                    fix="use a checkpoint of a published family: `clipsmith models` lists them",
                )

    def at_size(
        self, stored: dict[str, Any], size: ImageSize | None, *, where: object
    ) -> tuple[dict[str, Any], ImageSize | None]:
        """The stored configuration at the image size that was asked for, and that size, `where` for messages.

        The size is None where the checkpoint fixes it, as here: then the configuration is left as it is.

        Raises:
            ConfigError: the checkpoint fixes another size or any, or the size is not made of whole patches.
            UnsupportedVariant: as `resolve_config`.
        """
        if size is None:
            return stored, None
        (pixels,) = self.encoder_spec(self.resolve_config(stored), "image").inputs
        _, height, width = pixels.shape
        raise ConfigError(
            f"image_size was given, and this {self.name} model has one of its own: {height} x {width}",
            where=where,
            expected="image_size only for models that leave it open: SigLIP 2 NaFlex",
            fix="leave image_size out",
        )

    def image_inputs(self, vision: Any) -> tuple[InputSpec, ...]:
        """Pixels at the size of the position embeddings; only models with three channels are accepted."""
        return (InputSpec("pixel_values", "float16", (vision.num_channels, vision.image_size, vision.image_size)),)

    def text_inputs(self, text: Any) -> tuple[InputSpec, ...]:
        """Only token ids: padding comes after the pooled token, so causal attention does not see it."""
        return text_inputs(text.max_position_embeddings, masked=False)

    def embedding_dim(self, full: Any, encoder: Encoder) -> int:
        """The width of both projections."""
        del encoder
        return full.projection_dim

    def vocabulary(self, config: dict[str, Any]) -> int:
        """The number of token embeddings."""
        return self.full_config(config).text_config.vocab_size

    def end_token(self, config: dict[str, Any], tokenizer: Any) -> int | None:
        """The token that the text encoder is pooled at, which every text must have; None if it is pooled by place."""
        del config, tokenizer
        return None

    def pools_at_highest_id(self, config: dict[str, Any]) -> bool:
        """Whether the text encoder is pooled at the highest token id of a text, its padding included."""
        del config
        return False

    def with_layers(self, config: dict[str, Any], encoder: Encoder, layers: int) -> dict[str, Any]:
        """The configuration of the same model with `layers` blocks in one encoder; `config` is left as it is."""
        section = _SECTIONS[encoder]
        return config | {section: config[section] | {"num_hidden_layers": layers}}

    def build(self, config: dict[str, Any]) -> nn.Module:
        """The whole model without weights, under whatever default device is active, `expose`d, in evaluation mode."""
        model: nn.Module = self._model_class()(self.full_config(config)).eval()
        self.expose(model)
        return model

    def load(self, folder: Path, config: dict[str, Any], attention: str) -> nn.Module:
        """The whole model with the folder's weights in FP32 on the CPU, in evaluation mode, as its own library runs it.

        The configuration in the folder is not read.
        """
        import torch

        model: nn.Module = self._model_class().from_pretrained(
            folder,
            config=self.full_config(config),
            dtype=torch.float32,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            key_mapping=_without_prefix(folder),
        )
        return model.eval()

    def plain_model(self, folder: Path) -> nn.Module:
        """The model that plain transformers makes of the folder by itself, in FP32, where that is the oracle.

        Switches and labels are left out before transformers reads the rest: some it refuses in combination, or in forms
        of its past.
        """
        import torch

        stored, _ = model_class("PreTrainedConfig").get_config_dict(folder, local_files_only=True)
        config = model_class("AutoConfig").for_model(**_without(_SWITCHES, stored))
        model: nn.Module = model_class("AutoModel").from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            key_mapping=_without_prefix(folder),
        )
        return model.eval()

    def ignores(self, name: str, modules: Collection[str]) -> bool:
        """Whether a stored tensor that is no parameter of the model changes no embedding; `modules` has the model's.

        It is a part that the model does not have, beside its encoders or at the top of one: a head, a pooler, a bias.
        In a block, in the embeddings, or of a layer that the model has without it, a tensor would change embeddings.
        """
        known = name
        while known and known not in modules:
            known = known.rpartition(".")[0]
        inside = any(part.isdigit() or part in _STACKS for part in known.split("."))
        return not inside and (not known or any(module.startswith(f"{known}.") for module in modules))

    def odd_tensors(self, config: dict[str, Any], stored: Mapping[str, tuple[int, ...]]) -> str | None:
        """Why stored tensors do not fit the configuration although they give every parameter; None if they fit."""
        del config, stored
        return None

    def _model_class(self) -> Any:
        return model_class(f"{self.architecture}Model")

    def expose(self, model: nn.Module) -> None:
        """Replace modules whose products quantizers cannot reach by equivalent ones made of `nn.Linear`, in place."""

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Parameters of the `expose`d model that are not stored under their own name; `stored` maps names to shapes.

        None under a stored name: the tensor is no parameter of the model and changes no embedding.
        """
        del stored
        return {}

    def pieces_at(self, stored: Mapping[str, tuple[int, ...]], size: ImageSize | None) -> Mapping[str, Piece | None]:
        """`pieces` of a model at the image size that `at_size` gave; None: at its own."""
        del size
        return self.pieces(stored)

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings (batch, embedding_dim); `inputs` are those of the encoder's spec."""
        features: Any = model.get_image_features if encoder == "image" else model.get_text_features
        return features(*inputs).pooler_output

    def tokenizer(self, folder: Path, config: dict[str, Any] | None) -> Any:
        """The tokenizer of a checkpoint with this configuration; None for a folder of tokenizer and processor alone.

        It pads on the right, whatever it was saved with: positions are counted from a text's first token, causal
        attention must not see padding before it, and SigLIP was trained with its padding after the text. Code from the
        folder is never run.
        """
        known = {} if config is None else {"config": self.full_config(config)}
        # Given here, the side is saved too; set later, it would not be saved by classes whose default is the left.
        return load_tokenizer(folder, padding_side="right", **known)

    def image_processor(self, folder: Path) -> Any:
        """The checkpoint's image processor, on Pillow, of the class that its files name (`tasks.clip.processors`)."""
        return load_image_processor(folder, next(iter(self.model_types), "clip"))

    def fixed_processor(self, images: Any, config: dict[str, Any]) -> Any:
        """An image processor for pictures of the model's size: `images` itself, unless it leaves the size open."""
        del config
        return images


def encoder_prefixes(family: ClipFamily, config: dict[str, Any]) -> tuple[str, ...]:
    """The state-dict prefixes of all weights that embeddings are made of, those of both encoders."""
    return tuple(prefix for encoder in ENCODERS for prefix in family.encoder_spec(config, encoder).prefixes)


def stated_end(full: Any) -> int:
    """The `eos_token_id` of the text encoder, at which it pools.

    Raises:
        UnsupportedVariant: it is not a single token id.
    """
    end = full.text_config.eos_token_id
    if not isinstance(end, int):
        raise UnsupportedVariant(
            f"eos_token_id of the text encoder is {end!r}",
            where="text_config of config.json",
            expected="the id of the token at which texts are pooled; CLIP's is 49407",
            fix="write the tokenizer's end token into text_config of config.json",
        )
    return end


def _without_prefix(folder: Path) -> dict[str, str]:
    """The `key_mapping` with which transformers drops a prefix that all names of weights have (`wrapper_prefix`)."""
    prefix = wrapper_prefix(stored_names(sorted(folder.glob("*.safetensors"))))
    return {f"^{re.escape(prefix)}": ""} if prefix else {}


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that do not affect what the model computes."""
    shared = {field.name for field in dataclasses.fields(model_class("PreTrainedConfig"))}
    return _without(_NOT_ARCHITECTURE | shared, config)


def _without(keys: frozenset[str] | set[str], config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without these keys, at the top level and in its sections."""
    return {
        key: _without(keys, value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in keys
    }
