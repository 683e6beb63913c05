"""The bench core: an exported folder timed on a GPU that has little more than PyTorch.

These modules import only the standard library, NumPy, torch, onnx and NVML (and ours that import no more), so that they
run where neither Prefect, ModelOpt nor pydantic is installed; a test holds them to it.
"""
