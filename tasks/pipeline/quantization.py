"""Step 3: recipe and calibrated amax -> a ModelOpt checkpoint in Hugging Face layout that restores to the same amax."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.config_files import mapping, read_file
from artifacts.errors import RoundTripError
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import AMAX_FILE, Snapshot
from tasks.families import family_for
from tasks.pipeline.kept import keep
from tasks.quantizing.modelopt import (
    EAGER,
    PACKAGES,
    enable_checkpointing,
    hidden_modules,
    insert_quantizers,
    load_plain,
    read_amax,
    read_channels,
    write_amax,
)
from tasks.quantizing.recipe import Recipe
from tasks.runs.stdout_to_log import prints_to_log
from tasks.runs.steps import StepOutput, cached_step, measured


class QuantizedCheckpoint(StepOutput):
    """A ModelOpt checkpoint: FP32 weights, quantizer state, `amax.parquet`, tokenizer and image processor.

    `amax.parquet` is complete; for a quantizer with one amax per channel it has the largest, and the others follow from
    the weights. ModelOpt's state lacks the quantizers inside an `nn.MultiheadAttention` (SigLIP's pooling attention),
    because the checkpoint keeps the layout that transformers loads.
    """

    checkpoint: ArtifactRef
    quantizers: int
    beyond: tuple[str, ...]
    """Modules whose scales are only in `amax.parquet`."""


def quantize(
    snapshot: Snapshot, preprocess: ArtifactRef, recipe: Recipe, tables: Mapping[Encoder, ArtifactRef]
) -> QuantizedCheckpoint:
    """Write the checkpoint, restore it, and compare every amax.

    Raises:
        RoundTripError: the restored checkpoint is not what was written.
    """
    import pandas as pd

    with measured() as meter:
        store = active_store()
        frames = [pd.read_parquet(store.path(ref, AMAX_FILE)) for ref in dict.fromkeys(tables.values())]
        frame = pd.concat(frames, ignore_index=True)
        amax = dict(zip(frame["quantizer"], frame["amax"], strict=True))
        model, _ = load_plain(snapshot, EAGER)
        insert_quantizers(model, snapshot, recipe, tuple(tables), None)
        hidden = hidden_modules(model)
        visible = {name: v for name, v in amax.items() if not name.startswith(tuple(f"{h}." for h in hidden))}
        write_amax(model, visible)
        channels = read_channels(model)
        enable_checkpointing()
        with store.staging() as folder:
            save: Any = model.save_pretrained  # nn.Module hides its type
            with prints_to_log():
                save(folder)
            del model, save
            _check_round_trip(folder, recipe, visible, channels)
            frame.to_parquet(folder / AMAX_FILE, index=False)
            for file in store.path(preprocess).iterdir():
                shutil.copyfile(file, folder / file.name)
            checkpoint = store.add(places.CHECKPOINT, folder)
    return QuantizedCheckpoint(checkpoint=checkpoint, quantizers=len(amax), beyond=tuple(hidden), stats=meter.stats)


def _check_round_trip(
    folder: Path, recipe: Recipe, amax: Mapping[str, float], channels: Mapping[str, list[float]]
) -> None:
    stored = read_file(folder / "config.json", mapping, what="the written config.json", error=RoundTripError)
    family = family_for(stored, where=folder)
    with prints_to_log():
        model = family.load(folder, family.resolve_config(stored), EAGER)
    restored = read_amax(model, recipe)
    if restored != dict(amax):
        odd = sorted(name for name in restored.keys() | amax.keys() if restored.get(name) != amax.get(name))
        raise RoundTripError(
            f"{len(odd)} quantizers restore to another amax, the first is {odd[0]}: "
            f"wrote {amax.get(odd[0])}, read {restored.get(odd[0])}",
            where=folder,
        )
    if read_channels(model) != channels:
        raise RoundTripError("the amax of channels restore to other values than were written", where=folder)


def keep_amax(snapshot: Snapshot) -> ArtifactRef:
    """Keep the `amax.parquet` of a published checkpoint as an object of its own."""
    return keep("amax", {AMAX_FILE: snapshot.root / AMAX_FILE})


quantize_task = cached_step("quantize", version=2, packages=PACKAGES)(quantize)
