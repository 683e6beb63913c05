"""Step 2b: would an encoder overflow FP16? An FP16 baseline that overflows would make FP8 look good.

The model runs in FP32 with the arithmetic of the exported graph (see `tasks.clip.attention`), and the largest
magnitude of every intermediate result is compared with FP16's largest value. Runtimes that compute FP16 graphs in
FP32, such as ONNX Runtime on CPUs, would not show an overflow.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from artifacts.errors import HalfOverflow
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip import attention
from tasks.data.base import Dataset
from tasks.data.batches import Batch, stream_batches
from tasks.data.pictures import Selected
from tasks.data.pinned import DataRef
from tasks.pipeline.gpu_room import gpu_room
from tasks.pipeline.kept import keep
from tasks.quantizing.calibration_feed import calibration_device, full_precision, torch_device
from tasks.quantizing.modelopt import PACKAGES, load_plain
from tasks.runs.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    import pandas as pd

FP16_MAX = 65504.0
SAMPLES = 16
"""Few samples suffice: activations near the limit are large for every picture and text."""
_LOOKED_AT = 8 * SAMPLES
"""Samples that are looked at for good ones."""


_SCORES = 1000.0
"""Masked attention scores are this close to the mask's value."""


class Fp16Range(StepOutput):
    """`table` holds `range.parquet` (module, operation, largest magnitude); the other fields are its largest row."""

    encoder: Encoder
    table: ArtifactRef
    largest: float
    module: str


def check_range(snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, encoder: Encoder) -> Fp16Range:
    """Run the encoder over `SAMPLES` samples in FP32 and compare every intermediate result with FP16's range.

    It runs on a GPU if there is one.

    Raises:
        HalfOverflow: a result is larger than FP16 can hold, or not finite; the message names the module.
    """
    with measured() as meter:
        meter.on(calibration_device())
        frame = _magnitudes(snapshot, preprocess, data, encoder)
        refuse_overflow(frame, encoder)
        table = keep("range", {"range.parquet": frame})
    # The attention mask, and scores with the mask added, say nothing about the model.
    first = frame[(frame["largest"] + attention.MASKED).abs() > _SCORES].iloc[0]
    return Fp16Range(encoder=encoder, table=table, largest=first["largest"], module=first["module"], stats=meter.stats)


def _magnitudes(snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, encoder: Encoder) -> pd.DataFrame:
    """A frame with columns module, operation, largest; the largest first."""
    import pandas as pd
    import torch

    from tasks.quantizing.largest_values import largest_magnitudes

    attention.register()
    device = torch_device()
    model, family = load_plain(snapshot, attention.NAME)
    family.expose(model)
    model.to(device)
    batch = _first(data.open(), Preprocess.of(snapshot, preprocess))
    spec = family.encoder_spec(snapshot.config, encoder)
    inputs = [torch.from_numpy(batch.input(port.name)).to(device) for port in spec.inputs]
    with full_precision():
        found = largest_magnitudes(model, lambda: family.encode(model, encoder, *inputs))
    rows: list[Any] = [(*key, value) for key, value in found.items()]
    frame = pd.DataFrame(rows, columns=["module", "operation", "largest"])
    return frame.sort_values("largest", ascending=False, ignore_index=True)


def _first(dataset: Dataset, processor: Preprocess) -> Batch:
    """The first `SAMPLES` good ones, or as many of the first `_LOOKED_AT` as are good.

    The whole set is streamed only where none of those is: the processes that decode a long one take seconds to begin.

    Raises:
        BadSample: too many of the whole set cannot be decoded.
    """
    few = Selected(dataset, range(min(len(dataset.samples), _LOOKED_AT)))
    with closing(stream_batches(few, processor, SAMPLES, max_bad_share=1)) as batches:
        batch = next(batches, None)
    if batch is not None:
        return batch
    with closing(stream_batches(dataset, processor, SAMPLES)) as batches:
        return next(batches)


def refuse_overflow(frame: pd.DataFrame, encoder: Encoder) -> None:
    """Raise for the first row beyond FP16.

    Raises:
        HalfOverflow: there is one.
    """
    beyond = frame[~(frame["largest"] <= FP16_MAX)]
    if len(beyond):
        first = beyond.iloc[0]
        raise HalfOverflow(
            f"the {encoder} encoder overflows FP16 in {first['module']} ({first['operation']}): "
            f"magnitude {first['largest']:.4g}, {len(beyond)} such results",
            expected=f"at most {FP16_MAX:.0f}, so that an FP16 baseline means something",
            fix="serve this model in BF16 or FP32, or scale the weights of that module",
        )


@cached_step("fp16-range", version=3, packages=PACKAGES)
def range_task(snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, encoder: Encoder, device: str) -> Fp16Range:
    """`device` is what PyTorch runs on: part of the cache key."""
    with gpu_room(snapshot, encoder, SAMPLES, device):
        return check_range(snapshot, preprocess, data, encoder)
