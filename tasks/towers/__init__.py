"""Our own towers, as PyTorch modules: image and text encoders that transformers has no class for."""

MODEL_TYPE = "openclip_towers"
"""The model type in `config.json` of a model that is made of these towers."""
