"""The compiler of target `torch-fp8`: ONNX graphs as PyTorch modules, fused, with our kernels, packed."""
