"""An exported folder of a real size with random weights, made where it is measured: no checkpoint is downloaded.

Latency does not depend on the values, but FP8 needs scales that fit them, so they are measured as a calibration would:
the FP16 graph is run in PyTorch and the largest magnitude in front of every product is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.manifest import Encoder
from tasks.clip.weights import WeightReader
from tasks.families import family_named
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import load_recipe
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs
from tasks.torch_fp8.torch_graph import load
from tests.benchmarks.architectures import Architecture
from tests.gpu.calibration import Observed

if TYPE_CHECKING:
    import torch

_CALIBRATION_BATCH = 8
_SPREAD = 0.02
"""Standard deviation of weights, as CLIP starts its own with."""
_SIZES = {"_proj.bias": 10.0, "q_proj.weight": 0.5, "k_proj.weight": 2.0}


def make_export(
    folder: Path,
    architecture: Architecture,
    skeletons: Path,
    device: str,
    encoders: tuple[Encoder, ...] = ("image", "text"),
) -> Path:
    """`folder`/{image,text}/{fp16,fp8}.onnx as an export lays them out; skeletons are kept in `skeletons`."""
    import torch
    from safetensors.torch import save_file

    for encoder in encoders:
        skeleton = _skeleton(architecture, encoder, skeletons)
        place = folder / encoder
        place.mkdir(parents=True, exist_ok=True)
        weights = place / "weights.safetensors"
        save_file(_random_weights(skeleton), weights)
        reader = WeightReader([weights])
        write_onnx(skeleton, reader, place / "fp16.onnx", {})
        with torch.no_grad():
            observed = Observed(loaded := load(place / "fp16.onnx", device))
            observed(*photographs(loaded.graph, _CALIBRATION_BATCH, device))
        write_onnx(quantize(skeleton, load_recipe("fp8"), observed.amax()), reader, place / "fp8.onnx", {})
        weights.unlink()
    return folder


def _skeleton(architecture: Architecture, encoder: Encoder, folder: Path) -> Skeleton:
    kept = folder / f"{architecture.label.replace('/', '-')}-{encoder}.onnx"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        trace_by_block(family_named("clip"), architecture.config(), encoder).save(kept)
    return Skeleton.load(kept)


def _random_weights(skeleton: Skeleton) -> dict[str, torch.Tensor]:
    """FP16 tensors as a checkpoint stores them; norms near 1, so that activations keep a plausible size.

    q, k and v differ in size, and biases are not small: a mix-up of scales would be invisible otherwise.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    found: dict[str, torch.Tensor] = {}
    for weight in skeleton.weights.values():
        shape = weight.shape[::-1] if weight.transposed else weight.shape
        values = torch.empty(shape).normal_(0, _SPREAD, generator=generator)
        norm = len(shape) == 1 and "norm" in weight.key and weight.key.endswith(".weight")
        factor = next((f for name, f in _SIZES.items() if name in weight.key), 1.0)
        found[weight.key] = (values + 1 if norm else values * factor).half()
    return found


def photographs(graph: OnnxGraph, batch: int, device: str) -> list[torch.Tensor]:
    """Pixels as smooth as a photograph's, with a little noise; token ids at random."""
    import torch
    import torch.nn.functional as F

    feed = {name: torch.from_numpy(v) for name, v in random_inputs(graph, batch, seed=1).items()}
    if "pixel_values" in feed:
        side = feed["pixel_values"].shape[-1]
        coarse = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(2))
        smooth = F.interpolate(coarse, size=(side, side), mode="bicubic")
        feed["pixel_values"] = (smooth + 0.1 * feed["pixel_values"].float()).half()
    return [tensor.to(device) for tensor in feed.values()]
