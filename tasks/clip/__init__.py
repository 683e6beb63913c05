"""The interface of CLIP families, and the families that transformers has a class for."""
