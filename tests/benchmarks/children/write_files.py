"""The ONNX files of one encoder from its skeleton; what both of our children do once they have one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.clip.weights import WeightReader
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import load_recipe


def weights_of(folder: Path) -> WeightReader:
    """The tensors of a Hugging Face folder."""
    return WeightReader(sorted(folder.glob("*.safetensors")))


def write_files(
    skeleton: Skeleton, reader: WeightReader, amax: Mapping[str, float], formats: Iterable[str], stem: Path
) -> None:
    """`STEM.FORMAT.onnx` for every format: `fp16`, or the name of a recipe."""
    for name in formats:
        graph = skeleton if name == "fp16" else quantize(skeleton, load_recipe(name), amax)
        write_onnx(graph, reader, stem.with_name(f"{stem.name}.{name}.onnx"), {})
