"""Every family, recipe and encoder at the widths and picture sizes that are published: two layers, all else real.

Vocabularies are cut: they make tables long, not graphs different.
"""

from __future__ import annotations

from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tasks.engines import BatchProfile
from tasks.engines.child import Job, build_in_child
from tasks.families import family_named
from tasks.file_names import RECIPE_KEY
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.writer import write_onnx
from tasks.pipeline.graph_audit import audit_file
from tasks.quantizing.recipe import builtin_names, load_recipe
from tests.tasks.families.support import (
    CONFIGS,
    ENCODERS,
    SIGLIPS,
    cosines,
    hf_embeddings,
    random_feed,
    reader,
    run_onnx,
    save_checkpoint,
    simulate,
    wider,
)
from tests.thorough import amount

pytestmark = pytest.mark.heavy

SM89, SM120 = "trtrtx-sm89", "trtrtx-sm120"
TARGETS = amount([[SM89], [SM120]], [[SM89, SM120]])
"""Of one recipe after the other: each graph is built for one GPU, or for both."""


def _size(hidden: int, heads: int, mlp: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": mlp, **more}


CLIP_TEXT = {"max_position_embeddings": 77, "projection_dim": 768}
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "clip ViT-L/14 at 336": (
        "clip",
        _size(768, 12, 3072, **CLIP_TEXT),
        _size(1024, 16, 4096, image_size=336, patch_size=14),
    ),
    "clip bigG": (
        "clip",
        _size(1280, 20, 5120, hidden_act="gelu", **CLIP_TEXT),
        _size(1664, 16, 8192, hidden_act="gelu", image_size=224, patch_size=14),
    ),
    "metaclip_2 H/14 at 378": (
        "metaclip_2",
        _size(1024, 16, 4096, max_position_embeddings=77),
        _size(1280, 16, 5120, image_size=378, patch_size=14),
    ),
    "siglip so400m/14 at 384": (
        "siglip",
        _size(1152, 16, 4304, max_position_embeddings=64, projection_size=1152),
        _size(1152, 16, 4304, image_size=384, patch_size=14),
    ),
    "siglip 2 B/16 at 512": (
        "siglip",
        _size(768, 12, 3072, max_position_embeddings=64, projection_size=768),
        _size(768, 12, 3072, image_size=512, patch_size=16),
    ),
    "siglip 2 NaFlex so400m/16 at 192 x 352": (
        "siglip2",
        _size(1152, 16, 4304, max_position_embeddings=64, projection_size=1152),
        _size(1152, 16, 4304, image_size=[192, 352], num_patches=256, patch_size=16),
    ),
    "chinese_clip B/16 at 224": (
        "chinese_clip",
        _size(768, 12, 3072, max_position_embeddings=512, type_vocab_size=2),
        _size(768, 12, 3072, image_size=224, patch_size=16),
    ),
    "altclip L/14 at 224": (
        "altclip",
        _size(1024, 16, 4096, max_position_embeddings=514, project_dim=768),
        _size(1024, 16, 4096, image_size=224, patch_size=14),
    ),
}

USUAL = ["clip bigG", "metaclip_2 H/14 at 378", "siglip so400m/14 at 384", "chinese_clip B/16 at 224"]
"""The widest of each kind of text and image encoder."""


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`variant(label)`: (family name, configuration, checkpoint folder)."""

    @cache
    def make(label: str) -> tuple[str, dict[str, Any], Path]:
        name, text, vision = VARIANTS[label]
        config = wider(CONFIGS[name], text, vision) | ({} if name in SIGLIPS else {"projection_dim": 768})
        return name, config, save_checkpoint(config, tmp_path_factory.mktemp("wide") / "model")

    return make


@pytest.fixture(scope="module")
def quantized(variant: Any) -> Any:
    """`quantized(label, recipe)`: ModelOpt's calibration on random inputs."""

    @cache
    def make(label: str, recipe: str) -> Any:
        name, config, folder = variant(label)
        return simulate(name, config, folder, load_recipe(recipe), batch=2).amax

    return make


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("label", amount(USUAL, [*VARIANTS]))
def test_every_graph_passes_everywhere(label: str, encoder: Any, variant: Any, quantized: Any, tmp_path: Path) -> None:
    name, config, folder = variant(label)
    family = family_named(name)
    size = (192, 352) if name == "siglip2" else None
    skeleton = trace_by_block(family, config, encoder)
    feed = random_feed(family, config, encoder, 2)
    reference = hf_embeddings(folder, encoder, feed)
    for recipe, targets in zip((None, *builtin_names()), cycle(TARGETS), strict=False):
        path, source, properties = tmp_path / f"{recipe}.onnx", skeleton, {}
        if recipe is not None:
            source = quantize(skeleton, load_recipe(recipe), quantized(label, recipe))
            properties = {RECIPE_KEY: load_recipe(recipe).digest}
        write_onnx(source, reader(name, folder, size), path, properties)
        onnx.checker.check_model(path, full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
        audit_file(path, skeleton.inventory, None if recipe is None else load_recipe(recipe))
        got = run_onnx(path, feed)
        assert cosines(got, reference).min() >= (0.9999 if recipe is None else 0.97)
        assert (cosines(got, reference) > cosines(got, np.roll(reference, 1, axis=0))).all()
        for target in targets:
            engine = path.with_suffix(f".{target}")
            stats, _ = build_in_child(Job(onnx=path, engine=engine, target=target, profile=BatchProfile()))
            print(
                f"{label} {encoder} {recipe or 'fp16'} {target}: {engine.stat().st_size / 1e6:.1f} MB, {stats.wall_s} s"
            )
