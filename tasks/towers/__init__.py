"""Towers of our own, as PyTorch modules: image and text encoders that transformers has no class for."""
