"""A small checkpoint of every family, with random biases and norms, and its graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from artifacts.manifest import Encoder
from tasks.families import family_named
from tasks.file_names import RECIPE_KEY
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import load_recipe
from tests.made_once import traced_once
from tests.tasks.families.support import CONFIGS, Quantized, reader, save_checkpoint, save_processor, simulate


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint(family)`: made once; do not change it."""

    @cache
    def make(name: str) -> Path:
        return save_checkpoint(CONFIGS[name], tmp_path_factory.mktemp("family") / name)

    return make


@pytest.fixture
def folder_of(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`folder_of(family)`: a small checkpoint to change, with its tokenizer and image processor."""

    def make(name: str) -> Path:
        folder = Path(shutil.copytree(checkpoint(name), tmp_path / "model"))
        save_processor(name, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def skeleton(session_folder: Path) -> Callable[[str, Encoder], Skeleton]:
    """`skeleton(family, encoder)`: traced once; do not change it."""

    @cache
    def make(name: str, encoder: Encoder) -> Skeleton:
        return traced_once(session_folder, trace_by_block, family_named(name), CONFIGS[name], encoder)

    return make


@pytest.fixture(scope="session")
def simulated(checkpoint: Callable[[str], Path]) -> Callable[[str, str], Quantized]:
    """`simulated(family, recipe)`: made once; do not change it."""

    @cache
    def make(name: str, recipe: str) -> Quantized:
        return simulate(name, CONFIGS[name], checkpoint(name), load_recipe(recipe))

    return make


@pytest.fixture(scope="session")
def graph(
    checkpoint: Callable[[str], Path],
    skeleton: Callable[[str, Encoder], Skeleton],
    simulated: Callable[[str, str], Quantized],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Encoder, str | None], Path]:
    """`graph(family, encoder, recipe)`: the ONNX file, FP16 when the recipe is None; do not change it."""

    @cache
    def make(name: str, encoder: Encoder, recipe: str | None) -> Path:
        source = skeleton(name, encoder)
        properties = {}
        if recipe is not None:
            quantized = simulated(name, recipe)
            source = quantize(source, quantized.recipe, quantized.amax)
            properties[RECIPE_KEY] = quantized.recipe.digest
        path = tmp_path_factory.mktemp("graph") / f"{name}-{encoder}-{recipe}.onnx"
        write_onnx(source, reader(name, checkpoint(name)), path, properties)
        return path

    return make
