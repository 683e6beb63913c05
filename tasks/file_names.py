"""Names of objects, of the files inside them, and of graphs' own properties, for the steps that write and read them."""

from __future__ import annotations

from artifacts.manifest import Precision

SKELETON_FILE = "skeleton.onnx"
PRECISION_KEY = "clipsmith.precision"
RECIPE_KEY = "clipsmith.recipe"
"""In a graph's `metadata_props`: the digest of the recipe that it was quantized by."""
BUILD_LOG = "build-log"
"""The kind of object that holds what a builder printed; it names times, so it differs from build to build."""


def onnx_name(precision: Precision) -> str:
    """The ONNX file's name inside its object and in an exported folder."""
    return f"{precision}.onnx"


def engine_name(precision: Precision, target: str) -> str:
    """The engine file's name inside its object and in an exported folder."""
    return f"{precision}.{target}.engine"
