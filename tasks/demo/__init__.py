"""The demo model: a CLIP of about a million parameters that reads handwritten digits, shipped with the package."""

from pathlib import Path

SNAPSHOT = Path(__file__).parent / "snapshot"
"""Folder of the shipped checkpoint, in the Hugging Face layout; `tasks/demo/train.py` made it."""
