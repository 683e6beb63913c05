"""A description of a checkpoint in seconds: its encoders, preprocessing and what would be FP8, from its small files.

Weights are neither downloaded nor read; for a local folder, only names and shapes of tensors are compared.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from artifacts.manifest import Encoder
from artifacts.models import Frozen
from artifacts.names import model_name_from
from artifacts.refs import digest_json
from tasks.checkpoints.describing import describe, refuse_pickles, weight_files
from tasks.checkpoints.hub_name import typed_name
from tasks.checkpoints.locating import locate, names_at_hub
from tasks.checkpoints.model_name import folder_name
from tasks.checkpoints.preprocess import Preprocess, save_preprocess
from tasks.checkpoints.snapshot import STATE_FILE, Snapshot
from tasks.clip.base import ENCODERS, ImageSize
from tasks.clip.weights import WeightReader
from tasks.families import family_named
from tasks.graph.skeleton import Inventory
from tasks.graph.tracing import inventory_of
from tasks.pipeline.checkpoint import check_json, check_names
from tasks.quantizing.recipe import Recipe

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Tower(Frozen):
    """One encoder: its input (without the batch dimension), depth, width, and how many matrix products become FP8."""

    encoder: Encoder
    inputs: dict[str, tuple[int, ...]]
    layers: int
    hidden_size: int
    heads: int
    embedding_dim: int
    parameters: int
    linear: int
    linear_fp8: int
    attention: int
    attention_fp8: int


class Outline(Frozen):
    """What `clipsmith check` says about a checkpoint.

    `weights` are the names of the weight files, local or on the hub; empty if there are none, or the hub does not
    answer. `tensors` is the number of tensors, all of them present; None if the weights are not local.

    `oracle` is what a run's parity check compares with: transformers, or golden files.
    """

    model: str
    kind: str
    family: str
    towers: tuple[Tower, ...]
    tokenizer: str
    vocabulary: int
    context: int
    image_processor: str
    oracle: str
    recipe: str
    weights: tuple[str, ...]
    tensors: int | None
    notes: tuple[str, ...]


def outline(model: str, revision: str | None, image_size: ImageSize | None, recipe: Recipe) -> Outline:
    """Describe a checkpoint without reading its weights.

    Raises:
        The errors of `resolve` and `check` about configuration, tokenizer, image processor, and the names of tensors
            and weight files.
    """
    model = typed_name(model)
    folder, kind, commit = locate(model, revision, weights=False)
    # For a hub model, weights that happen to be in the hub's cache must not change the result.
    weights = kind != "hub" and any(path.suffix in _WEIGHTS for path in folder.iterdir())
    family, stored, chosen = describe(folder, image_size, weights=weights)
    names = [path.name for path in weight_files(folder)] if weights else []
    if kind == "hub" and (at_hub := names_at_hub(model, commit)) is not None:
        refuse_pickles(at_hub, f"{model} at {commit}")
        names = sorted(name for name in at_hub if name.endswith(".safetensors") and "/" not in name)
    snapshot = Snapshot(
        kind=kind,
        name=model,
        model=folder_name(folder) if kind == "folder" else model_name_from(model),
        folder=str(folder),
        revision=commit or "",
        digest=digest_json(stored),
        family=family.name,
        stored_config=stored,
        files=(),
        image_size=chosen,
    )
    notes: list[str] = []
    tensors = None
    if weights:
        reader = WeightReader(weight_files(folder), partial(family.pieces_at, size=chosen))
        expected, notes = check_names(snapshot, reader)
        tensors = len(expected)
    check_json(snapshot)
    if recipe.attention is not None:
        notes.append(f"recipe {recipe.name} leaves attention in FP16 where a target's builder would not fuse it in FP8")
    if (folder / STATE_FILE).is_file():
        notes.append(f"whether a release vouches for {STATE_FILE} is found by a run, which knows a store")
    with tempfile.TemporaryDirectory(prefix="clipsmith-") as kept:
        notes += save_preprocess(folder, family, snapshot.config, Path(kept))
        processor = Preprocess(Path(kept), family, snapshot.config)
    return Outline(
        model=snapshot.model,
        kind=kind,
        family=family.name,
        towers=tuple(_tower(snapshot, encoder, recipe) for encoder in ENCODERS),
        tokenizer=processor.tokenizer_class,
        vocabulary=family.vocabulary(snapshot.config),
        context=processor.context,
        image_processor=processor.image_processor_class,
        oracle=family.oracle,
        recipe=recipe.name,
        weights=tuple(names),
        tensors=tensors,
        notes=tuple(notes),
    )


def _tower(snapshot: Snapshot, encoder: Encoder, recipe: Recipe) -> Tower:
    family = family_named(snapshot.family)
    spec = family.encoder_spec(snapshot.config, encoder)
    inventory = inventory_of(family, snapshot.config, encoder)
    linear, attention = _names(inventory, "linear"), _names(inventory, "attention")
    return Tower(
        encoder=encoder,
        inputs={item.name: item.shape for item in spec.inputs},
        layers=spec.layers,
        hidden_size=spec.hidden_size,
        heads=spec.heads,
        embedding_dim=spec.embedding_dim,
        parameters=inventory.parameters,
        linear=len(linear),
        linear_fp8=sum(recipe.rule_for(f"{name}.weight_quantizer", "nn.Linear") is not None for name in linear),
        attention=2 * len(attention),
        attention_fp8=sum(
            recipe.rule_for(f"{name}.{operand}_bmm_quantizer", "attention") is not None
            for name in attention
            for operand in "qp"
        ),
    )


def _names(inventory: Inventory, kind: str) -> list[str]:
    return [module.name for module in inventory.modules if module.kind == kind]
