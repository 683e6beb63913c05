"""Embedding a whole evaluation set with one variant, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.bench import machine

if TYPE_CHECKING:
    import torch

Embedder = Callable[[Mapping[str, NDArray[Any]], int], NDArray[np.float32]]
"""A function from inputs (n, ...) by name and the samples per call to embeddings (n, d)."""


def embedder(call: Callable[..., torch.Tensor]) -> Embedder:
    """Make the embedder of an encoder that takes tensors on the device."""

    def embed(feed: Mapping[str, NDArray[Any]], batch: int) -> NDArray[np.float32]:
        total = len(next(iter(feed.values())))
        parts = [call(*machine.on_device(_part(feed, start, batch))) for start in range(0, total, batch)]
        return np.concatenate([part.float().cpu().numpy() for part in parts])[:total]

    return embed


def _part(feed: Mapping[str, NDArray[Any]], start: int, batch: int) -> dict[str, NDArray[Any]]:
    """The batch from `start`; the last one is filled up with copies of its last sample, so that all have one size."""
    found = {}
    for name, array in feed.items():
        part = array[start : start + batch]
        found[name] = np.concatenate([part, part[-1:].repeat(batch - len(part), axis=0)])
    return found
