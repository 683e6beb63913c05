"""Every family through the steps, from its own tokenizer and image processor to comparable embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from artifacts.refs import ArtifactRef
from artifacts.store.store import Store, activate
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import AMAX_FILE, Snapshot
from tasks.data.pinned import DataRef, pin_data
from tasks.evaluation.kept_embeddings import EMBEDDINGS_FILE
from tasks.families import family_named
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import CheckedCheckpoint, check, resolve
from tasks.pipeline.embedding import embed
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.pipeline.quantization import QuantizedCheckpoint, quantize
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.support import CONFIGS, EACH_NAME, ENCODERS, SIGLIPS, cosines, save_processor

SAMPLES = 24


@dataclass(frozen=True)
class Steps:
    """One family's checkpoint, calibrated and quantized."""

    store: Store
    snapshot: Snapshot
    checked: CheckedCheckpoint
    data: DataRef
    tables: dict[Any, ArtifactRef]
    quantized: QuantizedCheckpoint


@pytest.fixture(scope="session")
def steps(checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`steps(family)`: made once."""

    @cache
    def run(name: str) -> Steps:
        folder: Path = checkpoint(name)
        save_processor(name, folder)
        store = Store.open(tmp_path_factory.mktemp("steps") / "store")
        with activate(store):
            snapshot = resolve(str(folder), None, store)
            checked = check(snapshot)
            data, _ = pin_data("digits", "calibration", SAMPLES)
            recipe = load_recipe("fp8-compact")
            tables = {e: calibrate(snapshot, checked.preprocess, data, recipe, e, 8).table for e in ENCODERS}
            return Steps(store, snapshot, checked, data, tables, quantize(snapshot, checked.preprocess, recipe, tables))

    return run


@pytest.mark.parametrize("name", EACH_NAME)
def test_texts_become_what_the_encoder_takes(name: str, steps: Any) -> None:
    done: Steps = steps(name)
    family = family_named(name)
    inputs = family.encoder_spec(CONFIGS[name], "text").inputs
    processor = Preprocess(done.store.path(done.checked.preprocess), family, CONFIGS[name])
    tokens, mask = processor.text(["seven", "a photo of the digit seven"])
    assert tokens.shape == (2, *inputs[0].shape) and tokens.dtype == np.int64
    assert (mask is not None) == (name in ("chinese_clip", "altclip"))
    if mask is not None:
        padding = CONFIGS[name]["text_config"]["pad_token_id"]
        assert np.array_equal(mask == 1, tokens != padding) and 0 < mask[0].sum() < mask[1].sum() < mask.shape[1]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", EACH_NAME)
def test_graphs_embed_the_evaluation_set_as_pytorch_does(name: str, encoder: Any, steps: Any) -> None:
    """Preprocessing, masks and batching included: the last batch is a partial one."""
    done: Steps = steps(name)
    recipe = load_recipe("fp8-compact")
    with activate(done.store):
        data, _ = pin_data("digits", "evaluation", 21)
        skeleton = trace_encoder(done.snapshot.family, done.snapshot.stored_config, encoder).skeleton
        exports = {
            "fp16": export_fp16(done.snapshot, skeleton, encoder).onnx,
            "fp8": export_fp8(done.snapshot, skeleton, encoder, recipe, done.tables[encoder]).onnx,
        }
        arguments = (done.snapshot, done.checked.preprocess, data, encoder)
        made = {"fp32": embed(*arguments, "fp32", "pytorch", None, 8)}
        for precision, ref in exports.items():
            audit(ref, skeleton, precision, recipe if precision == "fp8" else None)
            made[precision] = embed(*arguments, precision, "onnxruntime", ref, 8)
        rows = {p: np.load(done.store.path(m.outputs, EMBEDDINGS_FILE)) for p, m in made.items()}
    assert rows["fp32"].shape == rows["fp8"].shape and np.isfinite(rows["fp8"]).all()
    assert cosines(rows["fp16"], rows["fp32"]).min() >= 0.9999
    assert cosines(rows["fp8"], rows["fp32"]).min() >= 0.97


@pytest.mark.parametrize("name", EACH_NAME)
def test_checkpoint_restores_in_plain_transformers(name: str, steps: Any) -> None:
    """ModelOpt's state covers all that it can hold: everything but SigLIP's pooling attention, as documented."""
    import modelopt.torch.opt as mto
    from modelopt.torch.quantization.nn import TensorQuantizer
    from transformers import AutoModel

    done: Steps = steps(name)
    folder = done.store.path(done.quantized.checkpoint)
    mto.enable_huggingface_checkpointing()
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    restored = {
        n: 1.0 if n.endswith("p_bmm_quantizer") else float(m.amax)
        for n, m in model.named_modules()
        if isinstance(m, TensorQuantizer) and m.is_enabled
    }
    frame = pd.read_parquet(folder / AMAX_FILE)
    table = dict(zip(frame["quantizer"], frame["amax"], strict=True))
    beyond = {quantizer for quantizer in table if quantizer.startswith("vision_model.head.attention.")}
    assert len(beyond) == (12 if name in SIGLIPS else 0)
    assert restored == pytest.approx({q: amax for q, amax in table.items() if q not in beyond})
    stored = AutoModel.from_pretrained(done.snapshot.folder, dtype=torch.float32).state_dict()
    state = model.state_dict()
    assert all(torch.equal(state[parameter], values) for parameter, values in stored.items())
