"""How much memory of a GPU a step needs that runs an encoder on it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

from artifacts.manifest import Encoder
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import EncoderSpec
from tasks.clip.weights import WeightReader
from tasks.device.gpu import gpu_name
from tasks.device.gpu_work import gpu_work
from tasks.families import family_named

_PATCH = 14
"""Pixels: the smallest patch of the image encoders that people serve. Others have fewer tokens, and need less."""
_SCORES = 3
"""Attention scores that are there at once, in FP32: as products, masked or scaled, and as probabilities."""
_VALUES = 24
"""Values for each token and channel that are there at once, in FP32: those of a block, its MLP's counted four times."""


def gpu_room(snapshot: Snapshot, encoder: Encoder, batch: int, device: str) -> AbstractContextManager[None]:
    """Wait until the GPU, if `device` is one, has room for the checkpoint's model and a batch through one encoder."""
    if device != gpu_name():
        return nullcontext()
    parameters = WeightReader(snapshot.weight_files()).parameters()
    spec = family_named(snapshot.family).encoder_spec(snapshot.config, encoder)
    return gpu_work(4 * parameters + batch_bytes(spec, batch))


def batch_bytes(spec: EncoderSpec, batch: int) -> int:
    """Bytes that an encoder needs beside its weights while a batch goes through it in FP32; rather too many."""
    shape = spec.inputs[0].shape
    tokens = shape[0] if spec.encoder == "text" else 1 + math.prod(side // _PATCH for side in shape[1:])
    scores = _SCORES * spec.heads * tokens * tokens
    return 4 * batch * (scores + _VALUES * tokens * spec.hidden_size)
