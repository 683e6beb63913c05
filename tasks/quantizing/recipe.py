"""Quantization recipes: ModelOpt's `quant_cfg` as data, checked strictly and matched without ModelOpt.

The rules work as in ModelOpt: they are read from top to bottom, and the last one that matches a quantizer decides
(`modelopt.torch.quantization.config`, "quant_cfg" as a list).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from artifacts.config_files import mapping, read_file
from artifacts.errors import ConfigError, UnknownRecipe
from artifacts.models import Strict, problems
from artifacts.nearest import meant, nearest
from artifacts.refs import digest_json

BUILTIN = Path(__file__).parent / "recipes"
Owner = Literal["nn.Linear", "nn.Embedding", "nn.Conv2d", "attention"]


class Fp8(Strict):
    """FP8 E4M3 with static scales; `constant_amax` fixes the amax instead of calibrating it.

    There is one scale per tensor or, with `axis: 0`, one per output channel of a linear layer's weight.
    """

    num_bits: Literal["e4m3"]
    axis: int | None = Field(default=None, ge=0, le=0)  # Literal[0] would take `false`
    constant_amax: float | None = Field(default=None, gt=0)


class Rule(Strict):
    """One entry of `quant_cfg`: the quantizers it is for, and their format (`cfg`) or that they are off (`enable`)."""

    quantizer_name: str = Field(min_length=1)
    parent_class: Literal["nn.Linear", "nn.Embedding"] | None = None
    enable: Literal[False] | None = None
    cfg: Fp8 | None = None

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        if (self.cfg is None) == (self.enable is None):
            raise ValueError("a rule has exactly one of `cfg` and `enable`")
        return self

    @model_validator(mode="after")
    def _channels_of_linear_weights(self) -> Rule:
        if self.cfg is None or self.cfg.axis is None:
            return self
        if self.parent_class != "nn.Linear" or not self.quantizer_name.endswith("weight_quantizer"):
            raise ValueError(
                "`axis: 0`, a scale for each output channel, is for weights of linear layers: "
                "end `quantizer_name` in weight_quantizer, and add `parent_class: nn.Linear`"
            )
        if self.cfg.constant_amax is not None:
            raise ValueError("`constant_amax` is one number, and `axis: 0` asks for one for each output channel")
        return self


class Percentile(Strict):
    """The amax is the percentile of an activation's values: this many percent do not exceed it; the others saturate."""

    method: Literal["percentile"] = "percentile"
    percentile: float = Field(gt=0, lt=100)


class Mse(Strict):
    """The amax minimises the mean squared error of an activation's values in E4M3."""

    method: Literal["mse"] = "mse"


Algorithm = Literal["max"] | Percentile | Mse
"""How the amax of activations is chosen. Weights always use their maximum."""


def name_of(algorithm: Algorithm) -> str:
    """max, percentile or mse."""
    return algorithm if isinstance(algorithm, str) else algorithm.method


class Quantize(Strict):
    """The `quantize` section: calibration algorithm and rules."""

    algorithm: Algorithm
    quant_cfg: list[Rule] = Field(min_length=1)


class Metadata(Strict):
    """The `metadata` section."""

    recipe_type: Literal["ptq"]
    description: str


class Recipe(Strict):
    """A post-training quantization recipe, in the layout of ModelOpt's recipe files.

    With `attention: where-fused`, the rules are for attention that builders make one kernel of in FP8. What becomes of
    other attention has to be settled by `without_attention` before anything is quantized.
    """

    name: str
    metadata: Metadata
    quantize: Quantize
    attention: Literal["where-fused"] | None = None

    @property
    def digest(self) -> str:
        """sha256 of what the recipe does; its name and description do not count."""
        rules = self.quantize.model_dump(mode="json")
        return digest_json(rules if self.attention is None else [rules, self.attention])

    def cache_identity(self) -> str:
        """What cache keys contain: the digest of what the recipe does."""
        return self.digest

    def calibrated_by(self, algorithm: Algorithm) -> Recipe:
        """A recipe with the same rules and another calibration algorithm."""
        return self.model_copy(update={"quantize": self.quantize.model_copy(update={"algorithm": algorithm})})

    def without_attention(self, modules: Iterable[str]) -> Recipe:
        """The recipe with these attention modules (patterns of their names) in FP16; all else is settled."""
        off = [Rule(quantizer_name=f"{module}.*_bmm_quantizer", enable=False) for module in modules]
        rules = self.quantize.model_copy(update={"quant_cfg": [*self.quantize.quant_cfg, *off]})
        return self.model_copy(update={"quantize": rules, "attention": None})

    def rule_for(self, quantizer: str, owner: Owner) -> Fp8 | None:
        """The format of `quantizer` (its dotted name in the model) in a module of class `owner`; None if it is off."""
        effect: Fp8 | None = None
        for rule in self.quantize.quant_cfg:
            if rule.parent_class not in (None, owner):
                continue
            if fnmatchcase(quantizer, rule.quantizer_name):
                effect = rule.cfg
        return effect

    def modelopt_config(self) -> dict[str, Any]:
        """The configuration for `modelopt.torch.quantization.quantize`."""
        rules = []
        for rule in self.quantize.quant_cfg:
            entry: dict[str, Any] = {"quantizer_name": rule.quantizer_name}
            if rule.parent_class is not None:
                entry["parent_class"] = rule.parent_class
            if rule.cfg is None:
                entry["enable"] = rule.enable
            else:
                entry["cfg"] = {"num_bits": (4, 3), "axis": rule.cfg.axis}
                if rule.cfg.constant_amax is not None:
                    entry["cfg"]["constant_amax"] = rule.cfg.constant_amax
            rules.append(entry)
        # Always max: ModelOpt's configuration has no names for the other algorithms (see `activation_histogram`).
        return {"quant_cfg": rules, "algorithm": "max"}


def owner_of(quantizer: str) -> Owner:
    """The class of the module that an enabled quantizer belongs to, derived from the names that all families use."""
    module, _, own = quantizer.rpartition(".")
    if own not in ("weight_quantizer", "input_quantizer"):
        return "attention"
    return "nn.Embedding" if re.search(r"(?<!patch)_embeddings?$", module) else "nn.Linear"


def builtin_names() -> list[str]:
    """The recipes that ship with clipsmith."""
    return sorted(path.stem for path in BUILTIN.glob("*.yaml"))


def load_recipe(name_or_file: str) -> Recipe:
    """Load a built-in recipe by name, or a recipe from a YAML file.

    Raises:
        UnknownRecipe: neither a built-in name nor a file.
        ConfigError: the file is not a recipe; the message names the field.
    """
    path = BUILTIN / f"{name_or_file}.yaml"
    if name_or_file not in builtin_names():
        path = Path(name_or_file)
        if not path.is_file():
            raise UnknownRecipe(
                f"no recipe {name_or_file!r}",
                expected=f"one of {', '.join(builtin_names())}, or a YAML file",
                fix=f"{meant(nearest(name_or_file, builtin_names()))}`clipsmith recipes` says what each is",
            )

    def parse(content: Any) -> Recipe:
        if "name" in mapping(content):
            raise ValueError("a recipe is named after its file; remove `name`")
        try:
            recipe = Recipe.model_validate({"name": path.stem, **content})
        except ValidationError as error:
            raise ValueError(problems(Recipe, error, own=("name",))) from error
        if recipe.quantize.algorithm != "max":
            raise ValueError("`algorithm` is max: other methods are asked for in the run's `calibration`, per encoder")
        return recipe

    return read_file(path, parse, what="the recipe", error=ConfigError, fix=f"compare with {BUILTIN / 'fp8.yaml'}")
