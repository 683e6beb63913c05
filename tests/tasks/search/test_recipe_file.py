"""The file that a search leaves is a recipe like any other, for clipsmith and for ModelOpt."""

from __future__ import annotations

from pathlib import Path

from tasks.quantizing.recipe import load_recipe
from tasks.search.choice import Choice
from tasks.search.recipe_file import chosen, without, write_recipe
from tasks.search.units import Unit

RECIPE = load_recipe("fp8-compact")
LAYER = "vision_model.encoder.layers.1"
FC1 = Unit("image", f"{LAYER}.mlp.fc1", "linear", 1, {})
ATTENTION = Unit("image", f"{LAYER}.self_attn", "attention", 1, {})
TABLE = Unit("text", "text_model.embeddings.token_embedding", "embedding", 0, {})


def test_it_loads_as_what_was_written(tmp_path: Path) -> None:
    recipe = without(RECIPE, [FC1, ATTENTION, TABLE])
    write_recipe(recipe, tmp_path / "found.yaml", "Found: 97 % of it")
    loaded = load_recipe(str(tmp_path / "found.yaml"))
    assert loaded.digest == recipe.digest != RECIPE.digest
    assert loaded.metadata.description == "Found: 97 % of it"


def test_choices_by_channel_load_as_axis_0(tmp_path: Path) -> None:
    recipe = chosen(RECIPE, Choice(frozenset([TABLE]), frozenset([FC1])))
    write_recipe(recipe, tmp_path / "found.yaml", "x")
    loaded = load_recipe(str(tmp_path / "found.yaml"))
    assert loaded.digest == recipe.digest
    assert "axis: 0" in (tmp_path / "found.yaml").read_text()
    axes = [loaded.rule_for(f"{m}.weight_quantizer", "nn.Linear") for m in (FC1.module, f"{LAYER}.mlp.fc2")]
    assert [rule.axis for rule in axes if rule is not None] == [0, None]
    assert loaded.rule_for(f"{TABLE.module}.weight_quantizer", "nn.Embedding") is None
    assert chosen(RECIPE, Choice()).digest == RECIPE.digest


def test_rules_do_not_depend_on_the_order_of_exclusions() -> None:
    assert without(RECIPE, [FC1, TABLE]).digest == without(RECIPE, [TABLE, FC1]).digest
    assert without(RECIPE, []).digest == RECIPE.digest


def test_attention_is_excluded_without_its_projections() -> None:
    recipe = without(RECIPE, [ATTENTION])
    for operand in "qkvp":
        assert recipe.rule_for(f"{LAYER}.self_attn.{operand}_bmm_quantizer", "attention") is None
        assert recipe.rule_for(f"vision_model.encoder.layers.11.self_attn.{operand}_bmm_quantizer", "attention")
    assert recipe.rule_for(f"{LAYER}.self_attn.q_proj.input_quantizer", "nn.Linear") is not None


def test_modelopt_scales_the_same_by_channel(tmp_path: Path) -> None:
    import modelopt.torch.quantization as mtq
    import torch
    from transformers import CLIPModel

    from tasks.demo import SNAPSHOT
    from tasks.quantizing.modelopt import enabled_quantizers

    write_recipe(chosen(RECIPE, Choice(by_channel=frozenset([FC1]))), tmp_path / "found.yaml", "x")
    model = CLIPModel.from_pretrained(SNAPSHOT, dtype=torch.float32, attn_implementation="eager")
    mtq.quantize(model, load_recipe(str(tmp_path / "found.yaml")).modelopt_config(), None)
    axes = {name: quantizer.axis for name, quantizer in enabled_quantizers(model).items()}
    assert {name for name, axis in axes.items() if axis is not None} == {f"{FC1.module}.weight_quantizer"}
    assert axes[f"{FC1.module}.weight_quantizer"] == 0


def test_modelopt_switches_off_the_same(tmp_path: Path) -> None:
    """ModelOpt itself, on transformers' model, with the file's own rules."""
    import modelopt.torch.quantization as mtq
    import torch
    from transformers import CLIPModel

    from tasks.demo import SNAPSHOT
    from tasks.quantizing.modelopt import enabled_quantizers

    write_recipe(without(RECIPE, [FC1, ATTENTION, TABLE]), tmp_path / "found.yaml", "x")
    enabled = []
    for recipe in (RECIPE, load_recipe(str(tmp_path / "found.yaml"))):
        model = CLIPModel.from_pretrained(SNAPSHOT, dtype=torch.float32, attn_implementation="eager")
        mtq.quantize(model, recipe.modelopt_config(), None)
        enabled.append(set(enabled_quantizers(model)))
    off = enabled[0] - enabled[1]
    assert off == {
        *(f"{FC1.module}.{name}_quantizer" for name in ("input", "weight")),
        *(f"{ATTENTION.module}.{operand}_bmm_quantizer" for operand in "qkvp"),
        f"{TABLE.module}.weight_quantizer",
    }
    assert enabled[1] < enabled[0]
