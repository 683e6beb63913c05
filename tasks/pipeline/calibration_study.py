"""Before calibration: which method keeps an encoder closest to FP32 on held-out samples, and when more data stops
helping.

The study makes one pass over the samples. No candidate is calibrated on the held-out samples; then each candidate's
scales are put into the fake-quantized encoder, which is judged by its embeddings of the held-out samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import TooFewSamples
from artifacts.manifest import Encoder, Row
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.pictures import Selected
from tasks.data.pinned import DataRef
from tasks.evaluation.metrics import cosine, snr_db
from tasks.families import family_named
from tasks.pipeline.gpu_room import gpu_room
from tasks.pipeline.kept import keep
from tasks.quantizing.calibration_feed import (
    Inputs,
    calibration_device,
    feed,
    full_precision,
    read_scalars,
    torch_device,
)
from tasks.quantizing.modelopt import (
    PACKAGES,
    activation_quantizers,
    insert_quantizers,
    load_exposed,
    read_amax,
    require_usable,
    uncompiled_fp8,
)
from tasks.quantizing.recipe import Algorithm, Percentile, Recipe, name_of
from tasks.runs.progress import progress
from tasks.runs.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.clip.base import EncoderSpec
    from tasks.clip.hugging_face import ClipFamily
    from tasks.quantizing.activation_histogram import ActivationHistogram
    from tasks.quantizing.observers import Observer

_SEED = 20_261_128
_HELD_OUT_SHARE = 0.2
_MOST_HELD_OUT = 64
"""The most held-out inputs: they stay in memory, and are embedded once for every point of the study."""
_FEWEST_INPUTS = 10
_SMALLEST_POINT = 4
SIGNIFICANCE = 0.025
SETTLED = 1 / 8
"""One step of E4M3's three mantissa bits: a smaller change of the amax moves no value by more than a rounding step."""

Amax = dict[str, float]
_Scalars = dict[str, "torch.Tensor"]


class CalibrationStudy(StepOutput):
    """The result of the study for one encoder.

    `comparison` and `sufficiency` are rows of the tables `calibration` and `sufficiency`; `table` keeps both as
    Parquet, with `held_out.parquet` (id of the sample, method, samples calibrated on, cosine).
    """

    encoder: Encoder
    method: str
    comparison: tuple[Row, ...]
    sufficiency: tuple[Row, ...]
    table: ArtifactRef


@dataclass(frozen=True)
class Split:
    """Indices of samples, in random order: the inputs of `held_out` are all different, and none occurs in `fit`."""

    held_out: tuple[int, ...]
    fit: tuple[int, ...]


def split(inputs: Sequence[str]) -> Split:
    """Hold out a fifth of the different inputs, 64 at most; deterministic for given inputs.

    Raises:
        TooFewSamples: fewer than ten different inputs.
    """
    first = list({text: place for place, text in reversed(list(enumerate(inputs)))}.values())
    if len(first) < _FEWEST_INPUTS:
        raise TooFewSamples(
            f"the calibration samples have only {len(first)} different inputs for the encoder",
            expected=f"at least {_FEWEST_INPUTS}, to hold some of them out",
            fix="add samples, or choose a calibration method other than auto and no sufficiency report",
        )
    rng = np.random.default_rng(_SEED)
    count = min(_MOST_HELD_OUT, round(_HELD_OUT_SHARE * len(first)))
    held_out = tuple(rng.permutation(sorted(first))[:count].tolist())
    taken = {inputs[place] for place in held_out}
    order = rng.permutation(len(inputs)).tolist()
    return Split(held_out, tuple(place for place in order if inputs[place] not in taken))


def points(samples: int) -> list[int]:
    """The numbers of samples at which the study judges: all, half, a quarter and so on; the fewest first."""
    found = [samples]
    while found[-1] // 2 >= _SMALLEST_POINT:
        found.append(found[-1] // 2)
    return found[::-1]


def p_lower(errors: NDArray[np.float64], than: NDArray[np.float64]) -> float | None:
    """The p-value of a paired one-sided t-test: how likely `errors` are this much lower than `than` by chance.

    Both are (n,), on the same samples. None if there is nothing to test: a single sample, or no difference.
    """
    from scipy.stats import ttest_rel

    if len(errors) < 2 or np.array_equal(errors, than):
        return None
    return float(ttest_rel(errors, than, alternative="less").pvalue)


def is_lower(errors: NDArray[np.float64], than: NDArray[np.float64]) -> bool:
    """Whether errors are significantly lower: by rounding alone, one of the methods would always look best."""
    p = p_lower(errors, than)
    return p is not None and p < SIGNIFICANCE


def best_of(errors: Mapping[str, NDArray[np.float64]]) -> str:
    """The first method, unless others have significantly lower errors; then the one with the lowest."""
    first, *others = errors
    better = [name for name in others if is_lower(errors[name], errors[first])]
    return min(better, key=lambda name: float(errors[name].mean())) if better else first


def study(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    recipe: Recipe,
    encoder: Encoder,
    batch_size: int,
    algorithms: tuple[Algorithm, ...],
) -> CalibrationStudy:
    """Compare `algorithms` (the first wins ties), and judge the best one at several numbers of samples.

    Raises:
        TooFewSamples: nothing can be held out.
        BadAmax: an algorithm gives a quantizer an amax of zero.
        BadSample: too many samples cannot be decoded.
    """
    import pandas as pd

    with measured() as meter:
        dataset = data.open()
        inputs = [s.image_hash if encoder == "image" else s.caption for s in dataset.samples]
        made = split(inputs)
        arranged = Selected(dataset, made.held_out + made.fit)
        family = family_named(snapshot.family)
        spec = family.encoder_spec(snapshot.config, encoder)
        processor = Preprocess.of(snapshot, preprocess)
        device = torch_device()
        meter.on(calibration_device())
        with feed(arranged, processor, spec, batch_size, device) as batches, full_precision():
            model, _ = load_exposed(snapshot)
            model.to(device)
            batches = meter.fed(batches, lambda batch: len(batch.indices))
            held_out, batches = _taken(batches, len(made.held_out))
            judge = _Judge(family, encoder, held_out, [_embedded(model, family, encoder, b) for b in held_out])
            scales = _Scales(spec, len(made.fit), algorithms)
            insert_quantizers(
                model, snapshot, recipe, (encoder,), lambda m, seen: scales.collect(m, seen, family, batches)
            )
            read_amax(model, recipe)
            with uncompiled_fp8():
                found = _judged(model, scales, judge)
        best, _ = list(found)[-1]
        comparison = _comparison(encoder, scales, found, best)
        sufficiency = _sufficiency(encoder, scales, found, best)
        ids = [arranged.samples[place].id for batch in held_out for place in batch.indices]
        parts = [
            pd.DataFrame({"id": ids, "method": name, "samples": samples, "cosine": one.cosines})
            for (name, samples), one in found.items()
        ]
        frames = {
            "comparison.parquet": pd.DataFrame(comparison),
            "sufficiency.parquet": pd.DataFrame(sufficiency),
            "held_out.parquet": pd.concat(parts, ignore_index=True),
        }
        table = keep("calibration-study", frames)
    return CalibrationStudy(
        encoder=encoder,
        method=best,
        comparison=tuple(comparison),
        sufficiency=tuple(sufficiency),
        table=table,
        stats=meter.stats,
    )


def _taken(batches: Iterator[Inputs], count: int) -> tuple[list[Inputs], Iterator[Inputs]]:
    """The batches of the first `count` samples, and the remaining batches; a batch with both is cut in two."""
    taken: list[Inputs] = []
    for batch in batches:
        own = sum(place < count for place in batch.indices)
        if own:
            taken.append(_part(batch, 0, own))
        if own < len(batch.indices):
            return taken, chain([_part(batch, own, len(batch.indices))], batches)
    return taken, batches


def _part(batch: Inputs, start: int, end: int) -> Inputs:
    return Inputs(batch.indices[start:end], [tensor[start:end] for tensor in batch.tensors])


def _embedded(model: nn.Module, family: ClipFamily, encoder: Encoder, batch: Inputs) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        made: torch.Tensor = family.encode(model, encoder, *batch.tensors)
        embeddings: NDArray[np.float32] = made.float().cpu().numpy()
    return embeddings


@dataclass(frozen=True)
class _Found:
    """Held-out embeddings compared with FP32's."""

    cosines: NDArray[np.float64]
    snr: float | None

    @property
    def errors(self) -> NDArray[np.float64]:
        return 1 - self.cosines


@dataclass(frozen=True)
class _Judge:
    """The held-out samples on the device, and their FP32 embeddings."""

    family: ClipFamily
    encoder: Encoder
    held_out: list[Inputs]
    reference: list[NDArray[np.float32]]

    def judge(self, model: nn.Module, amax: Amax) -> _Found:
        """Judge the model with these scales."""
        import torch

        for name, quantizer in activation_quantizers(model).items():
            quantizer.amax = torch.tensor(require_usable(name, amax.get(name)))
        made = np.concatenate([_embedded(model, self.family, self.encoder, batch) for batch in self.held_out])
        reference = np.concatenate(self.reference)
        return _Found(cosine(reference, made), snr_db(reference, made))


class _Scales:
    """Every algorithm's amax at every point, from one pass over the samples."""

    def __init__(self, spec: EncoderSpec, total: int, algorithms: tuple[Algorithm, ...]) -> None:
        self.spec = spec
        self.total = total
        self.algorithms = {name_of(algorithm): algorithm for algorithm in algorithms}
        self.seen = 0
        self.amax: dict[tuple[str, int], Amax] = {}
        self._noted: dict[tuple[str, int], tuple[_Scalars, _Scalars]] = {}
        self.zeros: frozenset[str] = frozenset()

    def collect(
        self, model: nn.Module, observers: dict[str, Observer], family: ClipFamily, batches: Iterator[Inputs]
    ) -> None:
        from tasks.quantizing.activation_histogram import counted
        from tasks.quantizing.zero_weights import zero_quantizers

        encoder = self.spec.encoder
        self.zeros = frozenset(zero_quantizers(model, observers))
        with (
            counted(observers) as histograms,
            progress(f"clipsmith-progress-study-{encoder}", self.total, "sample", f"study {encoder}") as advance,
        ):
            for part in self._parts(batches):
                family.encode(model, encoder, *part.tensors)
                self.seen += len(part.indices)
                advance(len(part.indices))
                if self.seen in points(self.total):
                    self._note(observers, histograms)
            if self.seen not in points(self.total):  # samples were left out
                self._note(observers, histograms)
        self.amax = {key: self._usable(*noted) for key, noted in self._noted.items()}

    def _parts(self, batches: Iterator[Inputs]) -> Iterator[Inputs]:
        """The batches, cut at the points of the study."""
        done = 0
        for batch in batches:
            size = len(batch.indices)
            cuts = [point - done for point in points(self.total) if done < point < done + size]
            for start, end in zip([0, *cuts], [*cuts, size], strict=True):
                yield _part(batch, start, end)
            done += size

    def _note(self, observers: dict[str, Observer], histograms: dict[str, ActivationHistogram]) -> None:
        from tasks.quantizing.activation_histogram import amaxes

        largest = {key: observer.amax for key, observer in observers.items() if observer.amax is not None}
        for name, algorithm in self.algorithms.items():
            chosen = largest if algorithm == "max" else amaxes(histograms, algorithm)
            self._noted[name, self.seen] = largest, chosen

    def _usable(self, largest: _Scalars, chosen: _Scalars) -> Amax:
        from tasks.quantizing.zero_weights import AMAX_OF_ZEROS

        most, found = read_scalars(largest), read_scalars(chosen)
        return {
            key: AMAX_OF_ZEROS if key in self.zeros and not most[key] else require_usable(key, found[key])
            for key in most
        }


def _judged(model: nn.Module, scales: _Scales, judge: _Judge) -> dict[tuple[str, int], _Found]:
    """Judge every algorithm after all samples, and the best one at every point; the best one's results come last."""
    found = {name: judge.judge(model, scales.amax[name, scales.seen]) for name in scales.algorithms}
    best = best_of({name: result.errors for name, result in found.items()})
    counts = [samples for name, samples in scales.amax if name == best]
    last = {(name, scales.seen): result for name, result in found.items() if name != best}
    curve = {(best, n): judge.judge(model, scales.amax[best, n]) for n in counts if n != scales.seen}
    return last | curve | {(best, scales.seen): found[best]}


def _comparison(encoder: Encoder, scales: _Scales, found: dict[tuple[str, int], _Found], best: str) -> list[Row]:
    first = found[next(iter(scales.algorithms)), scales.seen]
    rows: list[Row] = []
    for name, algorithm in scales.algorithms.items():
        one = found[name, scales.seen]
        rows.append(
            {
                "encoder": encoder,
                "method": name,
                "percentile": algorithm.percentile if isinstance(algorithm, Percentile) else None,
                "samples": scales.seen,
                "held_out": len(one.cosines),
                "cosine_mean": float(one.cosines.mean()),
                "cosine_min": float(one.cosines.min()),
                "snr_db": one.snr,
                "p": None if one is first else p_lower(one.errors, first.errors),
                "chosen": "yes" if name == best else "no",
            }
        )
    return rows


def _sufficiency(encoder: Encoder, scales: _Scales, found: dict[tuple[str, int], _Found], best: str) -> list[Row]:
    """The rows of the table `sufficiency`: one for each point of the best algorithm."""
    curve = sorted((samples, one) for (name, samples), one in found.items() if name == best)
    final, last = scales.amax[best, scales.seen], curve[-1][1]
    rows: list[Row] = []
    for samples, one in curve:
        change, quantizer = largest_change(scales.amax[best, samples], final)
        helps = change > SETTLED or is_lower(last.errors, one.errors)
        rows.append(
            {
                "encoder": encoder,
                "samples": samples,
                "method": best,
                "cosine_mean": float(one.cosines.mean()),
                "snr_db": one.snr,
                "amax_change": change,
                "quantizer": quantizer,
                "more_helped": None if samples == scales.seen else "yes" if helps else "no",
            }
        )
    return rows


def largest_change(amax: Amax, final: Amax) -> tuple[float, str]:
    """The largest change between an amax and its final value, relative to the smaller of the two, and its quantizer."""
    changes = {name: max(value / final[name], final[name] / value) - 1 for name, value in amax.items()}
    name = max(changes, key=lambda key: changes[key])
    return changes[name], name


@cached_step("study-calibration", version=3, packages=PACKAGES)
def study_task(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    recipe: Recipe,
    encoder: Encoder,
    batch_size: int,
    algorithms: tuple[Algorithm, ...],
    device: str,
) -> CalibrationStudy:
    """`device` is the device of calibration; it is part of the cache key."""
    with gpu_room(snapshot, encoder, batch_size, device):
        return study(snapshot, preprocess, data, recipe, encoder, batch_size, algorithms)
