"""Recipes are read strictly, and match quantizers exactly as ModelOpt does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import ConfigError, UnknownRecipe
from tasks.quantizing.recipe import BUILTIN, Algorithm, Mse, Percentile, Recipe, builtin_names, load_recipe
from tests.wording import refusal

FP8 = BUILTIN / "fp8.yaml"
E4M3 = {"num_bits": "e4m3"}
OFF = {"quantizer_name": "*", "enable": False}


def content() -> dict[str, Any]:
    return yaml.safe_load(FP8.read_text())


def write(folder: Path, document: Any, name: str = "mine.yaml") -> str:
    (folder / name).write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(folder / name)


def recipe_of(rules: list[dict[str, Any]]) -> Recipe:
    document = content() | {"name": "test", "quantize": {"algorithm": "max", "quant_cfg": rules}}
    return Recipe.model_validate(document)


# --- loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_recipes_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.metadata.recipe_type == "ptq"


def test_builtin_names_are_the_shipped_files() -> None:
    shipped = ["fp8", "fp8-auto", "fp8-compact", "fp8-no-attention"]
    assert builtin_names() == sorted(p.stem for p in BUILTIN.iterdir()) == shipped


def test_a_file_is_named_after_its_stem(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, content(), "other.yaml"))
    assert recipe.name == "other"
    assert recipe.quantize == load_recipe("fp8").quantize


@pytest.mark.parametrize("name", ["fp9", "", "no/such/file.yaml", "fp8.yaml"])
def test_unknown_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refusal(UnknownRecipe):
        load_recipe(name)


def test_the_nearest_name_and_key_are_told(tmp_path: Path) -> None:
    with refusal(UnknownRecipe):
        load_recipe("fp8-compct")
    with refusal(ConfigError, "mine.yaml"):
        load_recipe(write(tmp_path, content() | {"metadta": {}}))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("quantize", "algorithm"), "smoothquant", "algorithm"),
        (("quantize", "quant_cfg"), [], "quant_cfg"),
        (("quantize", "quant_cfg"), "fp8", "quant_cfg"),
        (("quantize", "surprise"), 1, "surprise"),
        (("metadata", "recipe_type"), "qat", "recipe_type"),
        (("metadata", "author"), "me", "author"),
        (("quantise",), {}, "quantise"),
        (("quantize", "quant_cfg", 0, "enable"), "no", "enable"),
        (("quantize", "quant_cfg", 0, "enable"), None, "cfg"),
        (("quantize", "quant_cfg", 0, "cfg"), E4M3, "exactly one"),
        (("quantize", "quant_cfg", 0, "quantizer_name"), "", "quantizer_name"),
        (("quantize", "quant_cfg", 0, "typo"), 1, "typo"),
        (("quantize", "quant_cfg", 1, "parent_class"), "nn.Conv2d", "parent_class"),
        (("quantize", "quant_cfg", 1, "cfg", "num_bits"), "int8", "num_bits"),
        (("quantize", "quant_cfg", 1, "cfg", "num_bits"), 8, "num_bits"),
        (("quantize", "quant_cfg", 1, "cfg", "axis"), 1, "axis"),
        (("quantize", "quant_cfg", 1, "cfg", "axis"), False, "axis"),
        (("quantize", "quant_cfg", 2, "cfg", "axis"), 0, "axis: 0.*output channel"),
        (("quantize", "quant_cfg", 3, "cfg", "axis"), 0, "axis: 0.*output channel"),
        (("quantize", "quant_cfg", 1, "cfg", "constant_amax"), 0.0, "constant_amax"),
        (("quantize", "quant_cfg", 1, "cfg", "constant_amax"), -1.0, "constant_amax"),
        (("quantize", "quant_cfg", 1, "cfg", "constant_amax"), "1", "constant_amax"),
        (("quantize", "quant_cfg", 1, "cfg", "block_sizes"), {}, "block_sizes"),
    ],
)
def test_a_bad_field_is_named(path: tuple[Any, ...], value: Any, named: str, tmp_path: Path) -> None:
    document = content()
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=named) as caught:
        load_recipe(write(tmp_path, document))
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "just words", "a: [", "metadata: !!python/object/apply:os.abort []"])
def test_not_a_recipe_at_all(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_recipe(write(tmp_path, text))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError):
        load_recipe(str(tmp_path / "mine.yaml"))


BY_CHANNEL = {"quantizer_name": "*.fc1.weight_quantizer", "parent_class": "nn.Linear", "cfg": {**E4M3, "axis": 0}}


def test_a_scale_by_channel_is_for_linear_weights(tmp_path: Path) -> None:
    document = content()
    document["quantize"]["quant_cfg"].append(BY_CHANNEL)
    recipe = load_recipe(write(tmp_path, document))
    axes = {name: recipe.rule_for(f"a.{name}.weight_quantizer", "nn.Linear").axis for name in ("fc1", "fc2")}  # type: ignore[union-attr]
    assert axes == {"fc1": 0, "fc2": None}
    assert recipe.digest != load_recipe("fp8").digest


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_class": "nn.Embedding"},
        {"parent_class": None},
        {"quantizer_name": "*"},
        {"quantizer_name": "*.fc1.input_quantizer"},
        {"quantizer_name": "*.fc1.*"},
        {"quantizer_name": "*[qkv]_bmm_quantizer", "parent_class": None},
        {"cfg": {**E4M3, "axis": 0, "constant_amax": 1.0}},
    ],
)
def test_a_scale_by_channel_elsewhere_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    document = content()
    rule = {key: value for key, value in (BY_CHANNEL | changes).items() if value is not None}
    document["quantize"]["quant_cfg"].append(rule)
    with refusal(ConfigError, "mine.yaml"):
        load_recipe(write(tmp_path, document))


# --- digest ------------------------------------------------------------------------------------------------


def test_digest_is_of_what_the_recipe_does(tmp_path: Path) -> None:
    same = content()
    same["metadata"]["description"] = "other words"
    other = content()
    other["quantize"]["quant_cfg"].append(OFF)
    digests = [load_recipe(write(tmp_path, d, n)).digest for d, n in ((same, "a.yaml"), (other, "b.yaml"))]
    assert digests[0] == load_recipe("fp8").digest != digests[1]
    assert load_recipe("fp8").digest != load_recipe("fp8-no-attention").digest


def test_built_in_recipes_keep_their_digests() -> None:
    """Releases, graphs and cached steps name them."""
    assert {name: load_recipe(name).digest[:12] for name in builtin_names()} == {
        "fp8": "6feefb70323b",
        "fp8-auto": "edfa6dd1a150",
        "fp8-compact": "cf1485889585",
        "fp8-no-attention": "7d6c57e64873",
    }


def test_what_a_builder_says_settles_attention() -> None:
    """Fused, it is `fp8` and shares its cached steps; else the encoder's attention is off and nothing else."""
    asked, fp8 = load_recipe("fp8-auto"), load_recipe("fp8")
    assert asked.attention is not None and asked.digest != fp8.digest and asked.quantize == fp8.quantize
    assert asked.without_attention([]).digest == fp8.digest
    left = asked.without_attention(["text_model.encoder.layers.*.self_attn"])
    assert left.attention is None and left.digest not in (asked.digest, fp8.digest)
    for encoder in ("text_model", "vision_model"):
        for operand in "qkpv":
            name = f"{encoder}.encoder.layers.11.self_attn.{operand}_bmm_quantizer"
            assert (left.rule_for(name, "attention") is None) == (encoder == "text_model")
        name = f"{encoder}.encoder.layers.11.self_attn.q_proj.input_quantizer"
        assert left.rule_for(name, "nn.Linear") is not None


# --- rules -------------------------------------------------------------------------------------------------


def test_how_it_is_calibrated_is_part_of_the_digest_unless_by_max() -> None:
    recipe = load_recipe("fp8")
    methods: tuple[Algorithm, ...] = ("max", Percentile(percentile=99.9), Percentile(percentile=99.0), Mse())
    digests = [recipe.calibrated_by(method).digest for method in methods]
    assert digests[0] == recipe.digest and len(set(digests)) == 4
    assert recipe.calibrated_by(Mse()).modelopt_config() == recipe.modelopt_config()


def test_a_file_may_not_choose_the_method(tmp_path: Path) -> None:
    """The run's parameters do, for each encoder."""
    text = (
        (BUILTIN / "fp8.yaml").read_text().replace("algorithm: max", "algorithm: {method: percentile, percentile: 9}")
    )
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match="per encoder"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_the_last_matching_rule_decides() -> None:
    on = {"quantizer_name": "*a*", "cfg": E4M3}
    assert recipe_of([OFF, on]).rule_for("xax", "nn.Linear") is not None
    assert recipe_of([on, OFF]).rule_for("xax", "nn.Linear") is None
    assert recipe_of([OFF, on]).rule_for("xbx", "nn.Linear") is None
    assert recipe_of([on]).rule_for("xbx", "nn.Linear") is None


def test_case_counts() -> None:
    assert recipe_of([{"quantizer_name": "*FC1*", "cfg": E4M3}]).rule_for("mlp.fc1.x", "nn.Linear") is None


TRICKY: dict[str, list[dict[str, Any]]] = {
    "excluded by name": [
        OFF,
        {"quantizer_name": "*weight_quantizer", "parent_class": "nn.Linear", "cfg": E4M3},
        {"quantizer_name": "*input_quantizer", "parent_class": "nn.Linear", "cfg": E4M3},
        {"quantizer_name": "*layers.1.mlp*", "enable": False},
        {"quantizer_name": "vision_model*fc[2]*_quantizer", "enable": False},
    ],
    "on again after off": [
        OFF,
        {"quantizer_name": "*weight_quantizer", "cfg": E4M3},
        {"quantizer_name": "*mlp*", "enable": False},
        {"quantizer_name": "*fc?.weight_quantizer", "parent_class": "nn.Linear", "cfg": E4M3},
    ],
    "by channel and back": [
        OFF,
        {"quantizer_name": "*weight_quantizer", "parent_class": "nn.Linear", "cfg": {**E4M3, "axis": 0}},
        {"quantizer_name": "*input_quantizer", "parent_class": "nn.Linear", "cfg": E4M3},
        {"quantizer_name": "text_model*weight_quantizer", "parent_class": "nn.Linear", "cfg": E4M3},
    ],
    "class first": [
        OFF,
        {"quantizer_name": "*", "parent_class": "nn.Linear", "enable": False},
        {"quantizer_name": "*[!k]_bmm_quantizer", "cfg": E4M3},
        {"quantizer_name": "text_model*p_bmm_quantizer", "cfg": {**E4M3, "constant_amax": 1.0}},
    ],
}


@pytest.fixture(scope="module")
def plain_model(small_clip: Path) -> Any:
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(small_clip, attn_implementation="eager").eval()


@pytest.mark.parametrize("name", [*builtin_names(), *TRICKY])
def test_rules_match_as_in_modelopt(name: str, plain_model: Any) -> None:
    """The same list given to `mtq.quantize` switches on the same quantizers, bits and constants."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.quantization.nn import TensorQuantizer
    from torch import nn

    recipe = recipe_of(TRICKY[name]) if name in TRICKY else load_recipe(name)
    model = copy.deepcopy(plain_model)
    owners = {nn.Linear: "nn.Linear", nn.Embedding: "nn.Embedding", nn.Conv2d: "nn.Conv2d"}
    classes = {name: owners.get(type(module), "attention") for name, module in model.named_modules()}
    mtq.quantize(model, recipe.modelopt_config())
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, TensorQuantizer)}
    ours = {n: recipe.rule_for(n, classes[n.rpartition(".")[0]]) for n in quantizers}
    # ModelOpt also puts output quantizers everywhere; those of our graphs are weights, inputs and attention operands.
    on = {n for n, m in quantizers.items() if m.is_enabled}
    assert {n for n, rule in ours.items() if rule is not None} == on
    assert 0 < len(on) < len(quantizers)
    for n in on:
        assert quantizers[n].num_bits == (4, 3) and quantizers[n].axis == ours[n].axis
        assert getattr(quantizers[n], "_constant_amax", None) == ours[n].constant_amax


NAMES = st.text("ab._*?[]!-", max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES.filter(bool), st.booleans()), min_size=1, max_size=5), NAMES)
def test_rules_match_as_fnmatch_says(rules: list[tuple[str, bool]], name: str) -> None:
    """ModelOpt matches with `fnmatch`; here names have no upper case, for which fnmatch differs between systems."""
    from fnmatch import fnmatch

    recipe = recipe_of([{"quantizer_name": p, **({"cfg": E4M3} if on else {"enable": False})} for p, on in rules])
    matching = [on for pattern, on in rules if fnmatch(name, pattern)]
    assert (recipe.rule_for(name, "attention") is not None) == bool(matching and matching[-1])
