"""Amax from counted activations, against NumPy over all values and a search over PyTorch's own E4M3."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tasks.quantizing.recipe import Mse, Percentile

BIN = 2**-7
"""The widest bin, relative to its lower edge."""


def normal(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(60_001)


def heavy(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_t(2, 60_001)


def rectified(rng: np.random.Generator) -> np.ndarray:
    return np.maximum(rng.standard_normal(60_001), 0) * 1e-4


def lone(rng: np.random.Generator) -> np.ndarray:
    return np.append(rng.uniform(-1, 1, 60_000), 1e6)


SHAPES = (normal, heavy, rectified, lone)


def values_of(shape: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
    return shape(np.random.default_rng(3)).astype(np.float32)


def amax_of(values: np.ndarray, algorithm: Percentile | Mse, parts: int = 1) -> float:
    import torch

    from tasks.quantizing.activation_histogram import ActivationHistogram, amaxes

    histogram = ActivationHistogram()
    for part in np.array_split(values, parts):
        histogram.add(torch.from_numpy(part))
    return float(amaxes({"x": histogram}, algorithm)["x"])


def e4m3_error(values: np.ndarray, amax: float) -> float:
    """Mean squared error of E4M3 with this amax, by PyTorch's cast."""
    import torch

    scaled = (torch.from_numpy(values) * (448 / amax)).clamp(-448, 448)
    return float(np.mean((scaled.to(torch.float8_e4m3fn).double().numpy() * (amax / 448) - values) ** 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 99.99])
def test_percentile_is_numpys_over_all_values(shape: Callable[..., np.ndarray], percentile: float) -> None:
    values = values_of(shape)
    expected = np.percentile(np.abs(values), percentile, method="inverted_cdf")
    assert expected * (1 - BIN) <= amax_of(values, Percentile(percentile=percentile)) <= expected


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_as_good_as_a_search_over_all_amax(shape: Callable[..., np.ndarray]) -> None:
    values = values_of(shape)
    largest = float(np.abs(values).max())
    found = amax_of(values, Mse())
    assert largest / 16 <= found <= largest
    best = min(e4m3_error(values, largest * share) for share in np.geomspace(1 / 16, 1, 300))
    assert e4m3_error(values, found) <= best * 1.04
    assert e4m3_error(values, found) <= e4m3_error(values, largest) * 1.001  # as good as max, by bins


def test_parts_and_their_order_do_not_matter() -> None:
    """A first batch of small values, and a last one beyond all: bins neither grow nor move."""
    values = np.sort(np.abs(values_of(lone)))
    for algorithm in (Percentile(percentile=99.0), Mse()):
        found = {amax_of(v, algorithm, parts) for v in (values, values[::-1].copy()) for parts in (1, 7)}
        assert len(found) == 1


def test_memory_is_fixed_and_counts_do_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """ModelOpt's own histogram adds bins without end, and its float32 counts stop at 2^24."""
    import torch
    from modelopt.torch.quantization.calib import HistogramCalibrator

    from tasks.quantizing import activation_histogram

    monkeypatch.setattr(activation_histogram, "_PIECE", 5)
    theirs, ours = HistogramCalibrator((4, 3), None), activation_histogram.ActivationHistogram()
    for part in (torch.rand(1000), torch.tensor([1000.0]), -torch.rand(3)):
        theirs.collect(part)
        ours.add(part)
    assert len(theirs._calib_hist) > 1_000_000
    assert ours.counts is not None and ours.counts.shape == (2**15,) and int(ours.counts.sum()) == 1004
    ours.counts *= 2**30  # as after very many batches; int32 and float32 would end below
    by = [activation_histogram.amaxes({"x": ours}, Percentile(percentile=p))["x"] for p in (99.99, 99.0)]
    assert by[0] == 1000.0 and by[1] <= 1


def test_entropy_is_not_to_be_had_for_fp8() -> None:
    """Why the parameter refuses it, and why MSE goes by ModelOpt's other class. A new ModelOpt may offer both."""
    import torch
    from modelopt.torch.quantization.calib import HistogramCalibrator

    calibrator = HistogramCalibrator((4, 3), None)
    calibrator.collect(torch.randn(1000))
    for method in ("entropy", "mse"):
        with pytest.raises(TypeError):
            calibrator.compute_amax(method)


def test_many_histograms_give_what_each_gives_alone() -> None:
    """Also where their values lie in other octaves, and one has none."""
    import torch

    from tasks.quantizing.activation_histogram import ActivationHistogram, amaxes

    histograms = {"none": ActivationHistogram()}
    for shape in SHAPES:
        histograms[shape.__name__] = ActivationHistogram()
        histograms[shape.__name__].add(torch.from_numpy(values_of(shape)))
    for algorithm in (Percentile(percentile=99.0), Mse()):
        alone = {shape.__name__: amax_of(values_of(shape), algorithm) for shape in SHAPES}
        assert {name: float(amax) for name, amax in amaxes(histograms, algorithm).items()} == alone


@pytest.mark.parametrize("shape", SHAPES)
def test_a_percentile_is_modelopts(shape: Callable[..., np.ndarray]) -> None:
    """Of the same counts, by its own calibrator."""
    import torch
    from modelopt.torch.quantization.calib import HistogramCalibrator

    from tasks.quantizing.activation_histogram import ActivationHistogram

    histogram, theirs = ActivationHistogram(), HistogramCalibrator((4, 3), None)
    histogram.add(torch.from_numpy(values_of(shape)))
    assert histogram.counts is not None
    theirs._calib_hist = histogram.counts.numpy()[:0x7F80]
    theirs._calib_bin_edges = (np.arange(0x7F81, dtype=np.uint32) << 16).view(np.float32)
    for percentile in (50.0, 99.0, 99.9, 99.99):
        ours = amax_of(values_of(shape), Percentile(percentile=percentile))
        assert ours == float(theirs.compute_amax("percentile", percentile=percentile))


@pytest.mark.parametrize("beside", [True, False])
def test_values_that_are_not_finite_alone_give_no_usable_amax(beside: bool) -> None:
    """Whatever the other histograms hold."""
    import torch

    from tasks.quantizing.activation_histogram import ActivationHistogram, amaxes

    histograms = {"broken": ActivationHistogram()} | ({"sound": ActivationHistogram()} if beside else {})
    histograms["broken"].add(torch.full((8,), float("nan")))
    if beside:
        histograms["sound"].add(torch.ones(8))
    assert float(amaxes(histograms, Percentile(percentile=99.0))["broken"]) == 0
    assert not float(amaxes(histograms, Mse())["broken"]) > 0


def test_nothing_seen_is_no_amax() -> None:
    from tasks.quantizing.activation_histogram import ActivationHistogram, amaxes

    assert amaxes({"x": ActivationHistogram()}, Mse()) == {}


def test_zeros_alone_give_zero() -> None:
    """Which the calibration refuses, naming the layer."""
    assert amax_of(np.zeros(100, np.float32), Percentile(percentile=99.0)) == 0
    assert amax_of(np.zeros(100, np.float32), Mse()) == 0
