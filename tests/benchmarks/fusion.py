"""Which attention the builder of TensorRT for RTX makes one kernel of: `python -m tests.benchmarks.fusion`.

Builds encoders of one block with random weights, needs no GPU, and prints a table in markdown: a line for each size of
a head, mask and number of tokens, a column for each precision and GPU generation.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from artifacts.manifest import Encoder
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job, build_in_child
from tasks.families import family_named
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.graph.tracing import trace
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import load_recipe
from tasks.runs.versions import package_version

TARGETS = ("trtrtx-sm89", "trtrtx-sm120")
HEAD_SIZES = (32, 64, 128)
HEADS = 2
PATCHES = (4, 5, 6, 7, 14)
"""Along a side of a picture: their square, and the class token, are the tokens of an image encoder, without a mask."""
CONTEXTS = (16, 24, 32, 40, 77)
"""Tokens of a text encoder, whose mask is causal."""


def main() -> None:
    """Build every engine of the table, and print it."""
    print(f"tensorrt-rtx {package_version('tensorrt_rtx')}; yes: each attention is one kernel\n")
    columns = [f"{precision} {target.partition('-')[2]}" for precision in ("FP16", "FP8") for target in TARGETS]
    print(f"| head size | mask | tokens | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    for size in HEAD_SIZES:
        for patches in PATCHES:
            cells = _line("image", size, {"image_size": 8 * patches, "patch_size": 8})
            print(f"| {size} | none | {patches**2 + 1} | {cells} |", flush=True)
        for context in CONTEXTS:
            cells = _line("text", size, {"max_position_embeddings": context})
            print(f"| {size} | causal | {context} | {cells} |", flush=True)


def _line(encoder: Encoder, size: int, shape: dict[str, int]) -> str:
    """The cells of one encoder: whether its attention is one kernel, in FP16 and FP8 for each target."""
    width = {"hidden_size": HEADS * size, "num_attention_heads": HEADS, "intermediate_size": 4 * HEADS * size}
    with tempfile.TemporaryDirectory() as folder:
        plain = _encoder(Path(folder), encoder, {"num_hidden_layers": 1} | width | shape)
        suffixes = ("input_quantizer", "weight_quantizer", *(f"{operand}_bmm_quantizer" for operand in "qkv"))
        amax = {f"{module.name}.{suffix}": 4.0 for module in plain.inventory.modules for suffix in suffixes}
        graphs = (plain, quantize(plain, load_recipe("fp8"), amax))
        return " | ".join(_fused(graph, Path(folder), target) for graph in graphs for target in TARGETS)


def _encoder(folder: Path, encoder: Encoder, shape: dict[str, Any]) -> Skeleton:
    """A CLIP of this shape with random weights, written into `folder`; the graph of one encoder."""
    from transformers import CLIPConfig, CLIPModel

    config = json.loads((SNAPSHOT / "config.json").read_text())
    config["vision_config" if encoder == "image" else "text_config"] |= shape
    CLIPModel(CLIPConfig.from_dict(config)).save_pretrained(folder)
    return trace(family_named("clip"), json.loads((folder / "config.json").read_text()), encoder)


def _fused(graph: Skeleton, folder: Path, target: str) -> str:
    """`yes` if the attention is one kernel of the engine, else `no`; `?` if the engine does not tell."""
    model, engine = folder / "made.onnx", folder / "made.engine"
    write_onnx(graph, WeightReader([folder / "model.safetensors"]), model, {})
    build_in_child(Job(onnx=model, engine=engine, target=target, profile=BatchProfile()))
    made = backend_for(target).made(engine)
    return "?" if made is None else "yes" if made.fused else "no"


if __name__ == "__main__":
    main()
