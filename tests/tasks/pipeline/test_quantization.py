"""The ModelOpt checkpoint restores in plain ModelOpt + transformers to the same amax and the same outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from artifacts.errors import BadAmax, RoundTripError
from artifacts.store.store import Store
from tasks.pipeline.calibration import Calibration
from tasks.pipeline.quantization import QuantizedCheckpoint, quantize
from tasks.quantizing.recipe import Recipe

pytestmark = pytest.mark.usefixtures("in_store")

# Run in a Python that cannot see clipsmith: only what any user of the checkpoint has.
PLAIN = """
import json, sys
import numpy as np, torch
import modelopt.torch.opt as mto
from modelopt.torch.quantization.nn import TensorQuantizer
from transformers import CLIPModel
folder, inputs, outputs = sys.argv[1:]
mto.enable_huggingface_checkpointing()
model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
amax = {n: float(m.amax)
        for n, m in model.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled and m.amax is not None}
feed = np.load(inputs)
with torch.no_grad():
    image = model.get_image_features(torch.from_numpy(feed["pixels"])).pooler_output
    text = model.get_text_features(torch.from_numpy(feed["tokens"])).pooler_output
np.savez(outputs, image=image.numpy(), text=text.numpy())
enabled = [n for n, m in model.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled]
assert not any(name.split(".")[0] in ("tasks", "artifacts") for name in sys.modules)
print("RESULT" + json.dumps({"amax": amax, "enabled": enabled}))
"""


def plain_modelopt(folder: Path, scratch: Path, feed: dict[str, np.ndarray]) -> tuple[dict[str, Any], Any]:
    """Load a checkpoint folder in a child process without clipsmith; its amax, and its outputs for `feed`."""
    np.savez(scratch / "in.npz", **feed)
    arguments = [str(folder), str(scratch / "in.npz"), str(scratch / "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *arguments], capture_output=True, text=True, check=False, cwd=scratch
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT")), np.load(scratch / "out.npz")


@pytest.fixture(scope="session")
def feed() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    tokens = rng.integers(0, 600, (5, 16))
    tokens[:, -1] = 602
    return {"pixels": rng.standard_normal((5, 3, 32, 32)).astype(np.float32), "tokens": tokens.astype(np.int64)}


def recorded(store: Store, calibrated: dict[str, Calibration]) -> dict[str, float]:
    frames = [pd.read_parquet(store.path(c.table, "amax.parquet")) for c in calibrated.values()]
    frame = pd.concat(frames)
    return dict(zip(frame["quantizer"], frame["amax"], strict=True))


def test_reloads_without_us_to_the_same_amax_and_outputs(
    prepared: Any,
    in_store: Store,
    calibrated: dict[str, Calibration],
    quantized: QuantizedCheckpoint,
    feed: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    """The calibrated model here is made afresh, with ModelOpt's own calibration of both encoders over the samples."""
    import modelopt.torch.quantization as mtq
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    from tasks.data import open_dataset

    result, outputs = plain_modelopt(in_store.path(quantized.checkpoint), tmp_path, feed)
    wrote = recorded(in_store, calibrated)
    assert set(result["enabled"]) == set(wrote)
    softmax = {name for name in wrote if name.endswith("p_bmm_quantizer")}
    assert {name: result["amax"][name] for name in set(wrote) - softmax} == {
        name: value for name, value in wrote.items() if name not in softmax
    }
    folder = prepared.snapshot.root
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    digits = open_dataset("digits", "calibration", 24)
    pictures = CLIPImageProcessor.from_pretrained(folder)(
        images=[digits.image(index) for index in range(24)], return_tensors="pt"
    )["pixel_values"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        [sample.caption for sample in digits.samples], padding="max_length", truncation=True, max_length=16
    )["input_ids"]

    def loop(quantized_model: Any) -> None:
        quantized_model.get_image_features(pictures)
        quantized_model.get_text_features(torch.tensor(tokens))

    e4m3 = {"num_bits": (4, 3), "axis": None}
    rules: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    rules += [
        {"quantizer_name": f"*{kind}_quantizer", "parent_class": "nn.Linear", "cfg": e4m3}
        for kind in ("weight", "input")
    ]
    rules += [{"quantizer_name": "*[qkv]_bmm_quantizer", "cfg": e4m3}]
    rules += [{"quantizer_name": "*p_bmm_quantizer", "cfg": e4m3 | {"constant_amax": 1.0}}]
    with torch.no_grad():
        unquantized = model.get_image_features(torch.from_numpy(feed["pixels"])).pooler_output.numpy()
        assert 1e-4 < np.abs(outputs["image"] - unquantized).max() / np.abs(unquantized).max() < 0.3
        mtq.quantize(model, {"quant_cfg": rules, "algorithm": "max"}, loop)
        # Sums in batches of another size may differ in the last bit; the amax that was recorded is what counts.
        for name, module in model.named_modules():
            if name in wrote and name not in softmax:
                assert float(module.amax) == pytest.approx(wrote[name], rel=2e-5), name
                module.amax = torch.tensor(wrote[name])
        image = model.get_image_features(torch.from_numpy(feed["pixels"])).pooler_output
        text = model.get_text_features(torch.from_numpy(feed["tokens"])).pooler_output
    np.testing.assert_array_equal(outputs["image"], image.numpy())
    np.testing.assert_array_equal(outputs["text"], text.numpy())


def test_scales_by_channel_restore_as_modelopt_calibrates_them(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration], recipe_by_channel: Recipe
) -> None:
    """The table has the largest alone, and is that of one scale; the restored channels are max |row|."""
    import torch

    from tasks.families import family_named
    from tasks.quantizing.modelopt import EAGER, enable_checkpointing, enabled_quantizers

    tables: Any = {encoder: calibration.table for encoder, calibration in calibrated.items()}
    made = quantize(prepared.snapshot, prepared.checked.preprocess, recipe_by_channel, tables)
    folder = in_store.path(made.checkpoint)
    frame = pd.read_parquet(folder / "amax.parquet")
    assert dict(zip(frame["quantizer"], frame["amax"], strict=True)) == recorded(in_store, calibrated)
    enable_checkpointing()
    model = family_named("clip").load(folder, json.loads((folder / "config.json").read_text()), EAGER)
    compared = 0
    for name, quantizer in enabled_quantizers(model).items():
        if name.endswith("weight_quantizer"):
            weight = model.get_submodule(name.rpartition(".")[0]).weight
            assert torch.equal(quantizer.amax, weight.abs().amax(1, keepdim=True))
            row = weight[1].detach()
            factor = 448 / row.abs().max()
            expected = (row * factor).clamp(-448, 448).to(torch.float8_e4m3fn).float() * (1 / factor)
            with torch.no_grad():
                assert torch.equal(quantizer(weight)[1], expected)
            compared += 1
        elif not name.endswith("p_bmm_quantizer"):
            assert quantizer.amax.numel() == 1
    assert compared == sum(name.endswith("weight_quantizer") for name in frame["quantizer"])


def test_a_table_of_other_weights_is_refused_by_channel(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration], recipe_by_channel: Recipe
) -> None:
    frame = pd.read_parquet(in_store.path(calibrated["text"].table, "amax.parquet"))
    name = "text_model.encoder.layers.1.mlp.fc1.weight_quantizer"
    frame.loc[frame["quantizer"] == name, "amax"] *= 2
    with pytest.raises(BadAmax, match="the table of these weights") as caught:
        quantize(
            prepared.snapshot, prepared.checked.preprocess, recipe_by_channel, {"text": _with_table(in_store, frame)}
        )
    assert name in str(caught.value)


def test_holds_the_original_weights_and_all_that_loading_needs(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration], quantized: QuantizedCheckpoint
) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor

    folder = in_store.path(quantized.checkpoint)
    original = load_file(prepared.snapshot.root / "model.safetensors")
    kept = load_file(folder / "model.safetensors")
    assert original.keys() <= kept.keys()
    assert all("_quantizer" in name for name in kept.keys() - original.keys())
    for name, tensor in original.items():
        np.testing.assert_array_equal(kept[name], tensor, err_msg=name)
    frame = pd.read_parquet(folder / "amax.parquet")
    assert list(frame.columns) == ["quantizer", "amax"]
    wrote = recorded(in_store, calibrated)
    assert dict(zip(frame["quantizer"], frame["amax"], strict=True)) == wrote
    assert quantized.quantizers == len(wrote)
    ours, theirs = (AutoTokenizer.from_pretrained(place)(["a photo"]) for place in (folder, prepared.snapshot.root))
    assert ours["input_ids"] == theirs["input_ids"]
    CLIPImageProcessor.from_pretrained(folder)


def _with_table(store: Store, frame: pd.DataFrame) -> Any:
    with store.staging() as folder:
        frame.to_parquet(folder / "amax.parquet", index=False)
        return store.add("calibration", folder)


def test_a_table_of_other_quantizers_is_refused(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    frame = pd.read_parquet(in_store.path(calibrated["text"].table, "amax.parquet"))
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.recipe)
    with pytest.raises(BadAmax, match="do not match") as caught:
        quantize(*arguments, {"text": _with_table(in_store, frame.iloc[:-1])})
    assert frame["quantizer"].iloc[-1] in str(caught.value)


@pytest.mark.parametrize("by_channel", [False, True])
def test_a_checkpoint_that_restores_differently_is_refused(
    by_channel: bool,
    prepared: Any,
    calibrated: dict[str, Calibration],
    recipe_by_channel: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file on disk is read back: a value damaged after it was set must be found. Of channels, not the largest."""
    import transformers
    from safetensors.numpy import save_file

    name = f"text_model.encoder.layers.1.mlp.fc1.{'weight' if by_channel else 'input'}_quantizer"
    recipe = recipe_by_channel if by_channel else prepared.recipe

    def damage(self: Any, folder: Path, *arguments: Any, **options: Any) -> Any:
        # Looked up when called: ModelOpt puts its own in place when checkpointing is enabled.
        result = transformers.PreTrainedModel.save_pretrained(self, folder, *arguments, **options)
        path = Path(folder) / "model.safetensors"
        tensors = dict(load_file(path))
        amax = tensors[f"{name}._amax"]
        tensors[f"{name}._amax"] = np.where(amax < amax.max(), amax / 2, amax) if by_channel else np.asarray(amax * 2)
        save_file(tensors, path, metadata={"format": "pt"})
        return result

    monkeypatch.setattr(transformers.CLIPModel, "save_pretrained", damage)
    tables: Any = {encoder: calibration.table for encoder, calibration in calibrated.items()}
    with pytest.raises(RoundTripError, match="of channels" if by_channel else name):
        quantize(prepared.snapshot, prepared.checked.preprocess, recipe, tables)


def test_weights_changed_after_they_were_pinned_are_refused(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration], tmp_path: Path
) -> None:
    from artifacts.errors import CheckpointChanged
    from tasks.pipeline.checkpoint import resolve

    folder = Path(shutil.copytree(prepared.snapshot.root, tmp_path / "clip"))
    snapshot = resolve(str(folder), None, in_store)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    tables: Any = {"text": calibrated["text"].table}
    with pytest.raises(CheckpointChanged, match=r"model\.safetensors"):
        quantize(snapshot, prepared.checked.preprocess, prepared.recipe, tables)
