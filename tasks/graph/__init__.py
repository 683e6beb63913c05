"""ONNX graphs: traced once without weights, quantized by rewriting, written by streaming."""
