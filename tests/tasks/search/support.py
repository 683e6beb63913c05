"""A small CLIP in which chosen modules read extreme outliers, and all that a search needs of it, without ModelOpt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artifacts.manifest import Encoder
from artifacts.release.gates import Gates
from tasks.clip.weights import WeightReader
from tasks.data.base import Sample
from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tasks.quantizing.recipe import load_recipe
from tasks.search.evaluation import EncoderGraph, Evaluator
from tasks.search.journal import Journal
from tasks.search.plan import Planner
from tasks.search.run import Measured, evaluator, find, measure_all
from tasks.search.units import Unit, units_of
from tests.made_once import traced_once
from tests.tasks.families.support import CONFIGS, ENCODERS, random_feed

CONFIG = CONFIGS["clip"]
FAMILY: Any = family_named("clip")
RECIPE = load_recipe("fp8-compact")
SAMPLES = 24
GATES = Gates(min_cosine_mean=0.99)
DEAD = 5
"""The neuron of every MLP that nothing reads: what it says makes no difference to FP32."""
PLANTS = {
    f"{tower}.encoder.layers.{layer}.mlp.{name}": f"{tower}.encoder.layers.{layer}.layer_norm2"
    for tower in ("vision_model", "text_model")
    for layer in range(CONFIG["text_config"]["num_hidden_layers"])
    for name in ("fc1", "fc2")
} | {"visual_projection": "vision_model.post_layernorm", "text_projection": "text_model.final_layer_norm"}
"""Modules whose inputs no other module reads, with the normalisation in front of them (of fc2: of its fc1)."""
Weights = dict[str, torch.Tensor]
_GAIN = {"fc1.weight": 1 / 32, "fc1.bias": 1 / 32, "fc2.weight": 64.0}
"""Small values between the two layers of an MLP: an outlier among them cannot be more than FP16 holds."""


def model_with(weights: Weights) -> Any:
    """The FP32 model as transformers runs it."""
    model = FAMILY._model_class()(FAMILY.full_config(CONFIG)).eval()
    model.load_state_dict(weights)
    model.set_attn_implementation("eager")
    return model


def base_weights() -> Weights:
    """Random weights, biases too, and an unread neuron in every MLP."""
    torch.manual_seed(3)
    weights = FAMILY._model_class()(FAMILY.full_config(CONFIG)).state_dict()
    for name, values in weights.items():
        if values.ndim == 1:
            values.add_(torch.randn_like(values) * 0.1 * _GAIN.get(name[-8:], 1.0))
        elif values.ndim == 2 and "embedding" not in name:
            values.normal_(0, values.shape[1] ** -0.5 * _GAIN.get(name[-10:], 1.0))
        if name.endswith("fc2.weight"):
            values[:, DEAD] = 0
    return weights


def plant(weights: Weights, module: str, rng: np.random.Generator) -> None:
    """Give the module's input one channel that is a million times the others, and undo it in the weights.

    Factors are powers of two, so FP32 computes the very same embeddings.
    """
    if module.endswith("fc2"):
        first = module.removesuffix("2") + "1"
        weights[f"{first}.weight"][DEAD] = 0
        weights[f"{first}.bias"][DEAD] = 60_000
        return
    channel = int(rng.integers(len(weights[f"{PLANTS[module]}.bias"])))
    factors = torch.full_like(weights[f"{PLANTS[module]}.bias"], 2.0**-10)
    factors[channel] = 2.0**10
    weights[f"{PLANTS[module]}.weight"] *= factors
    weights[f"{PLANTS[module]}.bias"] *= factors
    weights[f"{module}.weight"] /= factors


def plant_channel(weights: Weights, module: str, rng: np.random.Generator) -> None:
    """Give one row of the module's weights, another draw, a value beside which all others are nothing in E4M3.

    It meets an input that is always zero, and the row holds nothing else, so the value changes no embedding. The other
    weights are small, and the normalisation in front makes up for it: factors are powers of two.
    """
    norm = PLANTS[module]
    rows, channels = weights[f"{module}.weight"].shape
    row, channel = int(rng.integers(rows)), int(rng.integers(channels))
    for name in (f"{norm}.weight", f"{norm}.bias"):
        weights[name] *= 2.0**8
        weights[name][channel] = 0
    weights[f"{module}.weight"] *= 2.0**-8
    weights[f"{module}.weight"][row] = 0
    weights[f"{module}.weight"][row, channel] = 60_000


@dataclass(frozen=True)
class Prepared:
    """A model with its graphs, inputs and FP32 embeddings."""

    evaluator: Evaluator
    batches: dict[Encoder, list[list[torch.Tensor]]]

    def measure(self, journal: Journal) -> Measured:
        return measure_all(self.evaluator.graphs, RECIPE, self.batches.__getitem__, journal)

    def search(self, journal: Journal, budget: int = 40, gates: Gates = GATES) -> Planner:
        measured = self.measure(journal)
        return find(measured, evaluator(measured, self.evaluator.rows, gates, journal), budget)


def prepare(weights: Weights, folder: Path, skeletons: dict[Encoder, Any]) -> Prepared:
    """Everything a search needs; calibrated and evaluated on random inputs."""
    from safetensors.torch import save_file

    file = folder / "model.safetensors"
    save_file({name: values.contiguous() for name, values in weights.items()}, file)
    model = model_with(weights)
    feeds, fp32, graphs, batches = {}, {}, {}, {}
    captions = [f"caption {number}" for number in range(SAMPLES)]
    for encoder in ENCODERS:
        feed = random_feed(FAMILY, CONFIG, encoder, SAMPLES, seed=1)
        inputs = [torch.from_numpy(v).float() if v.dtype == np.float16 else torch.from_numpy(v) for v in feed.values()]
        keys: list[Any] = list(range(SAMPLES)) if encoder == "image" else captions
        feeds[encoder] = [(keys, {n: x.numpy() for n, x in zip(feed, inputs, strict=True)})]
        with torch.no_grad():
            fp32[encoder] = keys, FAMILY.encode(model, encoder, *inputs).numpy()
        graphs[encoder] = EncoderGraph(skeletons[encoder], WeightReader([file]), observed_amax(model, encoder, inputs))
        batches[encoder] = [[x[: SAMPLES // 2] for x in inputs], [x[SAMPLES // 2 :] for x in inputs]]
    samples = [Sample(str(n), f"{n:064x}", caption) for n, caption in enumerate(captions)]
    return Prepared(Evaluator(graphs, RECIPE, feeds, _Set(samples), fp32), batches)


def all_units(prepared: Prepared, encoder: Encoder) -> tuple[Unit, ...]:
    """What the recipe has in FP8, without the operations of its products."""
    graph = prepared.evaluator.graphs[encoder]
    return units_of(graph.skeleton, RECIPE, graph.amax, ())


def traced(session_folder: Path) -> dict[Encoder, Any]:
    return {encoder: traced_once(session_folder, trace_by_block, FAMILY, CONFIG, encoder) for encoder in ENCODERS}


def observed_amax(model: Any, encoder: Encoder, inputs: list[torch.Tensor]) -> dict[str, float]:
    """max|x| by quantizer name, by hooks on the plain model."""
    found: dict[str, float] = {}

    def note(name: str, x: torch.Tensor) -> None:
        found[name] = max(found.get(name, 0.0), float(x.detach().abs().max()))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding | torch.nn.Linear):
            note(f"{name}.weight_quantizer", module.weight)
        if isinstance(module, torch.nn.Linear):
            hook = module.register_forward_pre_hook(lambda _m, x, name=name: note(f"{name}.input_quantizer", x[0]))
            handles.append(hook)
        if re.fullmatch(r".*\.[qkv]_proj", name):
            owner = f"{name.rpartition('.')[0]}.{name[-6]}_bmm_quantizer"
            handles.append(module.register_forward_hook(lambda _m, _x, y, owner=owner: note(owner, y)))
    with torch.no_grad():
        FAMILY.encode(model, encoder, *inputs)
    for handle in handles:
        handle.remove()
    return found


@dataclass
class _Set:
    samples: list[Sample]
    source: str = "random"
    classes: None = None

    def image(self, index: int) -> Any:
        raise AssertionError(f"the inputs are made already, and so is picture {index}")
