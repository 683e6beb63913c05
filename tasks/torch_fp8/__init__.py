"""The compiler of target `torch-fp8`: turns ONNX graphs into PyTorch modules, fused with our kernels, packed."""
