"""Names of objects' kinds, of the files inside them, and of graphs' metadata, shared by the steps that use them."""

from __future__ import annotations

from artifacts.manifest import Precision

SKELETON_FILE = "skeleton.onnx"
PRECISION_KEY = "clipsmith.precision"
RECIPE_KEY = "clipsmith.recipe"
"""The key in a graph's `metadata_props` for the digest of the recipe that it was quantized by."""
BUILD_LOG = "build-log"
"""The kind of object that holds a builder's output; it contains times, so it differs from build to build."""


def onnx_name(precision: Precision) -> str:
    """The ONNX file's name inside its object and in an exported folder."""
    return f"{precision}.onnx"


def engine_name(precision: Precision, target: str) -> str:
    """The engine file's name inside its object and in an exported folder."""
    return f"{precision}.{target}.engine"
