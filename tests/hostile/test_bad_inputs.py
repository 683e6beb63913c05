"""Relatives of the 38: each gets its own error by name, says what is wrong with what, and publishes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments import cli
from tests.hostile.support import Bad, Workshop, digits, set_values


def infinite_weights(shop: Workshop) -> Bad:
    name = "visual_projection.weight"
    return Bad(digits(shop.weights(lambda t: set_values(t, name, -np.inf, 1))), "BadWeights", [name, "1 NaN or Inf"])


def missing_tensor(shop: Workshop) -> Bad:
    name = "text_model.final_layer_norm.bias"
    return Bad(digits(shop.weights(lambda t: t.pop(name))), "BadWeights", ["1 tensors are missing", name])


def extra_tensor(shop: Workshop) -> Bad:
    name = "vision_model.encoder.layers.0.extra.weight"
    folder = shop.weights(lambda t: t.update({name: np.ones((2, 2), np.float32)}))
    return Bad(digits(folder), "BadWeights", ["1 tensors are not part of the model", name])


def misshapen_tensor(shop: Workshop) -> Bad:
    name = "text_projection.weight"
    folder = shop.weights(lambda t: t.update({name: np.ascontiguousarray(t[name][:, :-1])}))
    return Bad(digits(folder), "BadWeights", ["1 tensors are of another shape", name])


def truncated_safetensors(shop: Workshop) -> Bad:
    folder = shop.clip()
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return Bad(digits(folder), "BadWeights", ["model.safetensors", "not a valid safetensors file"])


def empty_safetensors(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "model.safetensors").write_bytes(b"")
    return Bad(digits(folder), "BadWeights", ["model.safetensors"])


def no_weights(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "model.safetensors").unlink()
    return Bad(digits(folder), "BadWeights", ["no weights", str(folder)])


def image_size_unlike_the_processor(shop: Workshop) -> Bad:
    folder = shop.json(
        "preprocessor_config.json",
        lambda c: c.update(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
    )
    return Bad(digits(folder), "CheckpointError", ["makes 3 x 64 x 64", "the model takes 3 x 32 x 32"])


def image_width_unlike_the_processor(shop: Workshop) -> Bad:
    folder = shop.json(
        "preprocessor_config.json",
        lambda c: c.update(crop_size={"height": 32, "width": 48}, size={"shortest_edge": 48}),
    )
    return Bad(digits(folder), "CheckpointError", ["makes 3 x 32 x 48", "the model takes"])


def no_tokenizer(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "tokenizer.json").unlink()
    return Bad(digits(folder), "CheckpointError", ["tokenizer", str(folder)])


def tokenizer_of_another_model(shop: Workshop) -> Bad:
    def add(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["surplus"] = 4000

    return Bad(digits(shop.json("tokenizer.json", add)), "CheckpointError", ["token 4000", "603 tokens"])


def no_image_processor(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "preprocessor_config.json").unlink()
    return Bad(digits(folder), "CheckpointError", ["image processor", str(folder)])


def broken_config_json(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "config.json").write_text('{"model_type": "clip",')
    return Bad(digits(folder), "NotClip", ["config.json cannot be read"])


def config_json_that_is_a_list(shop: Workshop) -> Bad:
    folder = shop.clip()
    (folder / "config.json").write_text("[]")
    return Bad(digits(folder), "NotClip", ["not a mapping"])


def config_json_of_wrong_types(shop: Workshop) -> Bad:
    folder = shop.json("config.json", lambda c: c["text_config"].update(num_hidden_layers="two"))
    return Bad(digits(folder), "CheckpointError", ["num_hidden_layers"])


def config_json_that_fits_no_weights(shop: Workshop) -> Bad:
    folder = shop.json("config.json", lambda c: c["text_config"].update(num_hidden_layers=3))
    return Bad(digits(folder), "BadWeights", ["missing", "text_model.encoder.layers.2"])


def empty_folder(shop: Workshop) -> Bad:
    (shop.root / "nothing").mkdir()
    return Bad(digits(shop.root / "nothing"), "NotClip", ["no config.json"])


def model_outside(shop: Workshop) -> Bad:
    del shop
    return Bad(digits("../x"), "CheckpointNotFound", ["'../x'"])


def model_with_a_line_break(shop: Workshop) -> Bad:
    del shop
    return Bad(digits("openai/clip\n"), "CheckpointNotFound", [r"clip\n"])


def model_of_300_characters(shop: Workshop) -> Bad:
    del shop
    return Bad(digits("m" * 300), "CheckpointNotFound", ["mmm"])


def model_that_is_a_file(shop: Workshop) -> Bad:
    path = shop.config("not a model")
    return Bad(digits(path), "CheckpointNotFound", [str(path)])


def revision_of_a_folder(shop: Workshop) -> Bad:
    return Bad([*digits(shop.clip()), "--revision", "main"], "CheckpointNotFound", ["no revisions"])


def hub_model_without_a_network(shop: Workshop) -> Bad:
    del shop
    return Bad(digits("clipsmith-tests/no-such-clip"), "CheckpointNotFound", ["clipsmith-tests/no-such-clip"])


def dead_layer(shop: Workshop) -> Bad:
    block = "vision_model.encoder.layers.1"

    def kill(tensors: dict[str, np.ndarray]) -> None:
        for part in ("weight", "bias"):
            tensors[f"{block}.layer_norm2.{part}"] = np.zeros_like(tensors[f"{block}.layer_norm2.{part}"])

    return Bad(digits(shop.weights(kill)), "BadAmax", [f"{block}.mlp.fc1.input_quantizer is 0.0"])


def no_calibration_data(shop: Workshop) -> Bad:
    return Bad([shop.clip(), "--targets", "onnxruntime"], "ConfigError", ["no calibration data", "--calibration"])


def seven_samples(shop: Workshop) -> Bad:
    folder = shop.pictures("seven", 7)
    return Bad(["demo", "--calibration", folder], "TooFewSamples", ["only 7 of 8", str(folder)])


def seven_evaluation_samples(shop: Workshop) -> Bad:
    folder = shop.pictures("seven", 7)
    return Bad(["demo", "--evaluation", folder], "TooFewSamples", ["only 7 of 8", str(folder)])


def seven_samples_asked_for(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--calibration-samples", "7"], "ConfigError", ["calibration.samples", "8"])


def missing_data(shop: Workshop) -> Bad:
    return Bad(["demo", "--calibration", shop.root / "nowhere"], "DataNotFound", ["nowhere"])


def pictures_that_are_not(shop: Workshop) -> Bad:
    folder = shop.pictures("rotten", 12)
    for index in range(4):
        (folder / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([index]) * 50)
    arguments = ["demo", "--calibration", folder, "--targets", "onnxruntime"]
    return Bad(arguments, "BadSample", ["0.png", "cannot be decoded"])


def overlap_of_one_folder(shop: Workshop) -> Bad:
    folder = shop.pictures("both", 12)
    arguments = ["demo", "--calibration", folder, "--evaluation", folder]
    return Bad(arguments, "DataOverlap", ["12 of 12"])


def text_where_a_number_belongs(shop: Workshop) -> Bad:
    config = shop.config('calibration: {batch: "4"}\n')
    return Bad(["demo", "--config", config], "ConfigError", ["calibration.batch", "integer"])


def truth_where_a_number_belongs(shop: Workshop) -> Bad:
    config = shop.config("profile: {min: true}\n")
    return Bad(["demo", "--config", config], "ConfigError", ["profile.min", "integer"])


def unknown_section(shop: Workshop) -> Bad:
    config = shop.config("calibrate: {samples: 64}\n")
    return Bad(["demo", "--config", config], "ConfigError", ["calibrate", "Extra inputs"])


def section_that_is_a_number(shop: Workshop) -> Bad:
    config = shop.config("calibration: 64\n")
    return Bad(["demo", "--config", config, "--calibration-samples", "64"], "ConfigError", ["calibration"])


def config_that_is_a_list(shop: Workshop) -> Bad:
    return Bad(["demo", "--config", shop.config("- demo\n")], "ConfigError", ["not a mapping"])


def config_that_is_not_yaml(shop: Workshop) -> Bad:
    return Bad(["demo", "--config", shop.config("a: [1\n")], "ConfigError", ["cannot be read"])


def missing_config(shop: Workshop) -> Bad:
    return Bad(["demo", "--config", shop.root / "none.yaml"], "ConfigError", ["none.yaml"])


def config_with_code(shop: Workshop) -> Bad:
    mark = shop.root / "ran"
    config = shop.config(f"model: !!python/object/apply:os.mkdir ['{mark}']\n")
    return Bad(["demo", "--config", config], "ConfigError", ["cannot be read"])


def profile_of_zero(shop: Workshop) -> Bad:
    return Bad(["demo", "--config", shop.config("profile: {min: 0}\n")], "ProfileError", ["min 0"])


def gate_above_one(shop: Workshop) -> Bad:
    config = shop.config("gates: {min_cosine_mean: 1.5}\n")
    return Bad(["demo", "--config", config], "ConfigError", ["gates.min_cosine_mean"])


def gate_that_is_not_a_number(shop: Workshop) -> Bad:
    config = shop.config("gates: {max_top1_drop: .nan}\n")
    return Bad(["demo", "--config", config], "ConfigError", ["nan is not a number", "line 1"])


def empty_list_of_encoders(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--encoders", ","], "ConfigError", ["encoders"])


def unknown_precision(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--precisions", "fp16,fp4"], "ConfigError", ["precisions.1", "fp8"])


def target_named_twice(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--targets", "onnxruntime,onnxruntime"], "ConfigError", ["named twice", "onnxruntime"])


def unknown_recipe(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--recipe", "fp9"], "UnknownRecipe", ["'fp9'", "fp8-no-attention"])


def recipe_typo(shop: Workshop) -> Bad:
    recipe = shop.root / "mine.yaml"
    recipe.write_text(
        "metadata: {recipe_type: ptq, description: d}\n"
        "quantize: {algorithm: max, quant_cfg: [{quantizer_nam: '*', enable: false}]}\n"
    )
    return Bad(["demo", "--recipe", recipe], "ConfigError", ["quantizer_nam", str(recipe)])


def recipe_of_another_format(shop: Workshop) -> Bad:
    recipe = shop.root / "mine.yaml"
    recipe.write_text(
        "metadata: {recipe_type: ptq, description: d}\n"
        "quantize: {algorithm: max, quant_cfg: [{quantizer_name: '*', cfg: {num_bits: int4}}]}\n"
    )
    return Bad(["demo", "--recipe", recipe], "ConfigError", ["num_bits", "e4m3"])


def unsafe_loading(shop: Workshop) -> Bad:
    del shop
    switch = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    return Bad(["demo"], "UnsafeCheckpoint", [switch], environment={switch: "1"})


def folder_that_is_no_store(shop: Workshop) -> Bad:
    folder = shop.root / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"cat")
    return Bad(["demo"], "NotAStore", [str(folder)], store=folder)


def store_that_is_a_file(shop: Workshop) -> Bad:
    path = shop.config("not a store")
    return Bad(["demo"], "NotAStore", [str(path), "a file is in its place"], store=path)


def unknown_target(shop: Workshop) -> Bad:
    del shop
    return Bad(["demo", "--targets", "onnxruntime,trtrtx-sm90a"], "UnknownTarget", ["'trtrtx-sm90a'", "trtrtx-sm89"])


MORE = (
    infinite_weights,
    missing_tensor,
    extra_tensor,
    misshapen_tensor,
    truncated_safetensors,
    empty_safetensors,
    no_weights,
    image_size_unlike_the_processor,
    image_width_unlike_the_processor,
    no_tokenizer,
    tokenizer_of_another_model,
    no_image_processor,
    broken_config_json,
    config_json_that_is_a_list,
    config_json_of_wrong_types,
    config_json_that_fits_no_weights,
    empty_folder,
    model_outside,
    model_with_a_line_break,
    model_of_300_characters,
    model_that_is_a_file,
    revision_of_a_folder,
    hub_model_without_a_network,
    dead_layer,
    no_calibration_data,
    seven_samples,
    seven_evaluation_samples,
    seven_samples_asked_for,
    missing_data,
    pictures_that_are_not,
    overlap_of_one_folder,
    text_where_a_number_belongs,
    truth_where_a_number_belongs,
    unknown_section,
    section_that_is_a_number,
    config_that_is_a_list,
    config_that_is_not_yaml,
    missing_config,
    config_with_code,
    profile_of_zero,
    gate_above_one,
    gate_that_is_not_a_number,
    empty_list_of_encoders,
    unknown_precision,
    target_named_twice,
    unknown_recipe,
    recipe_typo,
    recipe_of_another_format,
    unsafe_loading,
    folder_that_is_no_store,
    store_that_is_a_file,
    unknown_target,
)


@pytest.mark.parametrize("case", MORE, ids=lambda case: case.__name__)
def test_more(case: Callable[[Workshop], Bad], shop: Workshop, refuse: Callable[[Bad], None]) -> None:
    refuse(replace(case(shop), complete=False))


def test_a_checkpoint_that_unpickles_is_never_unpickled(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state file whose loading would run a command, vouched for by a forged manifest, as the worst case."""
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (Path(shop.root / "ran"),))  # type: ignore[return-value]

    folder = shop.clip()
    (folder / "modelopt_state.pth").write_bytes(pickle.dumps(Bomb()))
    monkeypatch.setattr(sys, "argv", ["clipsmith", "optimize", str(folder), "--store", str(shop.root / "store")])
    with pytest.raises(SystemExit):
        cli.main()
    assert not (shop.root / "ran").exists()
    pickle.loads((folder / "modelopt_state.pth").read_bytes())
    assert (shop.root / "ran").exists()  # the bomb was live
