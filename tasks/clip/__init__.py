"""What a CLIP family is, and the families that transformers has a class for, with what they share."""
