"""Our use of ModelOpt, through its public API (`modelopt.torch.quantization`, `modelopt.torch.opt`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from artifacts.errors import BadAmax, ConfigError
from artifacts.manifest import Encoder
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import ENCODERS
from tasks.clip.hugging_face import ClipFamily
from tasks.families import family_named
from tasks.quantizing.amax import require_largest
from tasks.quantizing.recipe import Recipe, owner_of
from tasks.runs.stdout_to_log import prints_to_log

if TYPE_CHECKING:
    from torch import nn

    from tasks.quantizing.observers import Observer

PACKAGES = ("torch", "transformers", "tokenizers", "nvidia-modelopt", "numpy", "pillow")
_CONFIG_FILES = ("config.json", "open_clip_config.json")
EAGER = "eager"
"""The attention that ModelOpt's Hugging Face plugin can quantize: fused kernels hide the softmax from it."""


def insert_quantizers(
    model: nn.Module,
    snapshot: Snapshot,
    recipe: Recipe,
    encoders: tuple[Encoder, ...],
    forward_loop: Callable[[Any, dict[str, Observer]], None] | None,
) -> list[str]:
    """Quantize `model` in place by the recipe; encoders that are not in `encoders` are not changed.

    `forward_loop` gets the model and the observers of all quantizers that need calibration data, by name; it is None if
    nothing is calibrated.

    Quantizers that see only zeros because weights are zero get scale 1 (`tasks.quantizing.zero_weights`); their names
    are returned.

    Products inside an `nn.MultiheadAttention` are not quantized, as a model that will be saved is not `expose`d.
    """
    import modelopt.torch.quantization as mtq
    import torch

    from tasks.quantizing.observers import observed
    from tasks.quantizing.zero_weights import settle_zeros

    family = family_named(snapshot.family)
    config = recipe.modelopt_config()
    for encoder in ENCODERS:
        if encoder not in encoders:
            for prefix in family.encoder_spec(snapshot.config, encoder).prefixes:
                config["quant_cfg"].append({"quantizer_name": f"{prefix}*", "enable": False})
    for name in (*hidden_modules(model), *family.unquantized):
        config["quant_cfg"].append({"quantizer_name": f"{name}.*", "enable": False})

    def loop(quantized: Any) -> None:
        _check_scope(quantized, recipe)  # a wrong recipe fails before any time is spent on calibration
        if forward_loop is not None:
            with observed(quantized, activation_quantizers(quantized)) as observers:
                forward_loop(quantized, observers)
            for name, observer in observers.items():
                if observer.amax is not None and not observer.amax.isfinite():
                    require_usable(name, float(observer.amax))  # gives a better message than ModelOpt's

    with torch.no_grad(), prints_to_log():
        mtq.quantize(model, config, None if forward_loop is None else loop)
        settled = settle_zeros(model, enabled_quantizers(model))
    _check_scope(model, recipe)
    return settled


def _check_scope(model: nn.Module, recipe: Recipe) -> None:
    """Refuse quantizers that the exported graph cannot have, as checkpoint and graph would differ.

    Raises:
        ConfigError: the recipe enables something other than linear inputs and weights and attention operands.
    """
    from torch import nn

    supported: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            supported |= {f"{name}.input_quantizer", f"{name}.weight_quantizer"}
        elif isinstance(module, nn.Embedding):
            supported.add(f"{name}.weight_quantizer")
        elif hasattr(module, "p_bmm_quantizer"):
            supported |= {f"{name}.{operand}_bmm_quantizer" for operand in "qkvp"}
    strangers = sorted(enabled_quantizers(model).keys() - supported)
    if strangers:
        raise ConfigError(
            f"recipe {recipe.name!r} enables {strangers[0]} ({len(strangers)} such quantizers)",
            expected="quantizers of nn.Linear inputs and weights, of attention q, k, v and p, and of embedding tables",
            fix="restrict the rule, for example with `parent_class: nn.Linear`",
        )


def hidden_modules(model: nn.Module) -> list[str]:
    """Modules whose products ModelOpt cannot quantize."""
    from torch import nn

    return [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]


def enabled_quantizers(model: nn.Module) -> dict[str, Any]:
    """Every enabled `TensorQuantizer` by its dotted name."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and module.is_enabled
    }


def activation_quantizers(model: nn.Module) -> dict[str, Any]:
    """The enabled quantizers whose amax depends on data, so not those of weights and of the softmax (amax known)."""
    return {
        name: quantizer
        for name, quantizer in enabled_quantizers(model).items()
        if not name.endswith(("weight_quantizer", "p_bmm_quantizer"))
    }


def read_amax(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """The amax of every enabled quantizer; the largest for a quantizer with one amax per channel.

    Raises:
        BadAmax: an amax is zero, NaN or infinite, or the quantizer has seen no data; the message names the layer.
    """
    import torch

    table: dict[str, float] = {}
    for name, quantizer in enabled_quantizers(model).items():
        rule = recipe.rule_for(name, owner_of(name))
        constant = rule.constant_amax if rule is not None else None
        amax = quantizer.amax if constant is None else constant
        table[name] = require_usable(name, None if amax is None else float(torch.as_tensor(amax).max()))
    return table


def read_channels(model: nn.Module) -> dict[str, list[float]]:
    """The amax of each output channel, for the enabled quantizers that have one per channel.

    It depends only on the weights: ModelOpt uses max |row|, which may be 0.
    """
    found = {name: quantizer for name, quantizer in enabled_quantizers(model).items() if quantizer.axis is not None}
    return {name: quantizer.amax.flatten().tolist() for name, quantizer in found.items()}


@contextmanager
def uncompiled_fp8() -> Iterator[None]:
    """Simulate FP8 with PyTorch's own conversions inside the block, as on a processor: on a GPU, ModelOpt would first
    compile an extension, which takes a minute."""
    from modelopt.torch.quantization.extensions import get_cuda_ext_fp8

    with mock.patch.object(get_cuda_ext_fp8, "extension", None, create=True):
        yield


def require_usable(name: str, amax: float | None) -> float:
    """Return the amax of a quantizer if it is usable.

    Raises:
        BadAmax: it is zero, NaN, infinite or missing.
    """
    if amax is None or not 0 < amax < float("inf"):
        raise BadAmax(
            f"the calibrated amax of {name} is {'missing' if amax is None else amax}",
            where=name.rpartition(".")[0],
            expected="a positive finite number",
            fix="check the weights of this layer, and calibrate with more varied samples, or by max",
        )
    return amax


def write_amax(model: nn.Module, table: Mapping[str, float]) -> None:
    """Set calibrated amax values. Values per channel follow from the weights and are kept; the table has their largest.

    Raises:
        BadAmax: the enabled quantizers are not those of the table, or a weight does not match it.
    """
    import torch

    quantizers = enabled_quantizers(model)
    if quantizers.keys() != table.keys():
        odd = sorted(quantizers.keys() ^ table.keys())
        raise BadAmax(
            f"{len(odd)} quantizers do not match the amax table, the first is {odd[0]}", fix="calibrate again"
        )
    for name, quantizer in quantizers.items():
        if quantizer.axis is not None:
            require_largest(name, float(quantizer.amax.max()), table[name])
        elif quantizer.amax is None or float(quantizer.amax) != table[name]:
            quantizer.amax = torch.tensor(table[name])


def enable_checkpointing() -> None:
    """Let `save_pretrained` and `from_pretrained` keep quantizers; without this call they are dropped silently."""
    import modelopt.torch.opt as mto

    with prints_to_log():
        mto.enable_huggingface_checkpointing()


@contextmanager
def plain_folder(snapshot: Snapshot) -> Iterator[Path]:
    """A folder with only the snapshot's configuration and weights, so that no ModelOpt state is restored from it."""
    source = snapshot.open_folder()
    with tempfile.TemporaryDirectory(prefix="clipsmith-") as name:
        for file in snapshot.files:
            if file.path.endswith((".safetensors", ".safetensors.index.json")) or file.path in _CONFIG_FILES:
                (Path(name) / file.path).symlink_to(source / file.path)
        yield Path(name)


def load_plain(snapshot: Snapshot, attention: str) -> tuple[nn.Module, ClipFamily]:
    """The unquantized FP32 model of its own library, and its family."""
    family = family_named(snapshot.family)
    with plain_folder(snapshot) as folder:
        return family.load(folder, snapshot.config, attention), family


def load_exposed(snapshot: Snapshot) -> tuple[nn.Module, ClipFamily]:
    """The unquantized FP32 model, `expose`d so that quantizers reach all its products, and its family."""
    model, family = load_plain(snapshot, EAGER)
    family.expose(model)
    return model, family
