"""Names of the files inside skeleton and ONNX objects, shared by the steps that write and read them."""

from __future__ import annotations

from tasks.graph.skeleton import Precision

SKELETON_FILE = "skeleton.onnx"


def onnx_name(precision: Precision) -> str:
    """The ONNX file's name inside its object and in an exported folder."""
    return f"{precision}.onnx"


def engine_name(precision: Precision, target: str) -> str:
    """The engine file's name inside its object and in an exported folder."""
    return f"{precision}.{target}.engine"
