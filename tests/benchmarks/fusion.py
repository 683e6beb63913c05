"""Which attention the builder of TensorRT for RTX makes one kernel of: `python -m tests.benchmarks.fusion`.

Builds attention blocks with random weights, needs no GPU, and prints a table in markdown: a line for each size of a
head, mask and number of tokens, a column for each precision and GPU generation.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from artifacts.manifest import Encoder
from tasks.demo import SNAPSHOT
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job, build_in_child
from tasks.families import family_named
from tasks.graph.attention_block import attention_block, products, write_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.tracing import trace
from tasks.quantizing.recipe import load_recipe
from tasks.runs.versions import package_version

TARGETS = ("trtrtx-sm89", "trtrtx-sm120")
HEAD_SIZES = (32, 64, 128)
HEADS = 2
PATCHES = (4, 5, 6, 7, 14)
"""Along a side of a picture: their square, and the class token, are the tokens of an image encoder, without a mask."""
CONTEXTS = (16, 24, 32, 40, 77)
"""Tokens of a text encoder: its mask is causal, or that of the padding in the family that has one."""


def main() -> None:
    """Build every engine of the table, and print it."""
    print(f"tensorrt-rtx {package_version('tensorrt_rtx')}; yes: attention is one kernel\n")
    columns = [f"{precision} {target.partition('-')[2]}" for precision in ("FP16", "FP8") for target in TARGETS]
    print(f"| head size | mask | tokens | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    for size in HEAD_SIZES:
        for patches in PATCHES:
            cells = _line("clip", "image", size, {"image_size": 8 * patches, "patch_size": 8})
            print(f"| {size} | none | {patches**2 + 1} | {cells} |", flush=True)
        for family, mask in (("clip", "causal"), ("chinese_clip", "padding")):
            for context in CONTEXTS:
                cells = _line(family, "text", size, {"max_position_embeddings": context})
                print(f"| {size} | {mask} | {context} | {cells} |", flush=True)


def _line(name: str, encoder: Encoder, size: int, shape: dict[str, Any]) -> str:
    """The cells of one encoder: whether its attention is one kernel, in FP16 and FP8 for each target."""
    shape |= {"hidden_size": HEADS * size, "num_attention_heads": HEADS, "intermediate_size": 4 * HEADS * size}
    config = json.loads((SNAPSHOT / "config.json").read_text())
    config["vision_config" if encoder == "image" else "text_config"] |= shape
    family = family_named(name)
    block = attention_block(trace(family, family.with_layers(config, encoder, 1), encoder))
    return " | ".join(_fused(block, recipe, target) for recipe in (None, "fp8") for target in TARGETS)


def _fused(block: Skeleton, recipe: str | None, target: str) -> str:
    """`yes` if the attention is one kernel of the engine, `no` if it is not; `?` if the engine does not tell."""
    with tempfile.TemporaryDirectory() as folder:
        model, engine = Path(folder) / "made.onnx", Path(folder) / "made.engine"
        write_block(block, None if recipe is None else load_recipe(recipe), model)
        build_in_child(Job(onnx=model, engine=engine, target=target, profile=BatchProfile()))
        made = backend_for(target).made(engine)
    return {True: "yes", False: "no", None: "?"}[None if made is None else made.fuses(products(block))]


if __name__ == "__main__":
    main()
