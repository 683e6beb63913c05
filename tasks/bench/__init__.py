"""The bench: times an exported folder on a GPU machine that has little more than PyTorch.

These modules import only the standard library, NumPy, torch, onnx and NVML (and our modules that import no more), so
that they run without Prefect, ModelOpt and pydantic; a test checks it.
"""
