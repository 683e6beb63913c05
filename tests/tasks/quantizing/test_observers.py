"""Observers find what ModelOpt's own calibration finds, bit for bit, and leave its quantizers in their places."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

LAYERS = (24, 40, 16)


class Encoder(nn.Module):
    """Linear layers, the first of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(50, LAYERS[0])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(LAYERS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.embed(tokens)
        for layer in self.layers:
            values = layer(values).transpose(0, 1) * 3  # not contiguous
        return values


BATCHES = [torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(n)) for n in range(4)]
CONFIG: dict[str, Any] = {
    "quant_cfg": [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": (4, 3), "axis": 0}},
        {"quantizer_name": "*input_quantizer", "parent_class": "nn.Linear", "cfg": {"num_bits": (4, 3), "axis": None}},
    ],
    "algorithm": "max",
}


def calibrated(watched: bool, batches: list[torch.Tensor] = BATCHES) -> nn.Module:
    import modelopt.torch.quantization as mtq

    from tasks.quantizing.modelopt import activation_quantizers
    from tasks.quantizing.observers import observed

    def loop(model: Any) -> None:
        if not watched:
            for batch in batches:
                model(batch)
            return
        before = list(model.modules())
        with observed(model, activation_quantizers(model)) as observers:
            assert sorted(observers) == [f"layers.{n}.input_quantizer" for n in range(2)]
            for batch in batches:
                model(batch)
        assert list(model.modules()) == before

    model = Encoder()
    with torch.no_grad():
        mtq.quantize(model, CONFIG, loop)
    return model


def amax(model: nn.Module) -> dict[str, list[float]]:
    from tasks.quantizing.modelopt import enabled_quantizers

    return {name: quantizer.amax.flatten().tolist() for name, quantizer in enabled_quantizers(model).items()}


def test_every_amax_is_modelopts() -> None:
    theirs, ours = calibrated(watched=False), calibrated(watched=True)
    assert amax(theirs) == amax(ours)
    assert len(amax(ours)) == 5
    assert torch.equal(theirs(BATCHES[0]), ours(BATCHES[0]))


def test_outputs_in_the_block_are_those_of_the_model_without_quantizers() -> None:
    import modelopt.torch.quantization as mtq

    from tasks.quantizing.modelopt import activation_quantizers
    from tasks.quantizing.observers import observed

    seen: list[torch.Tensor] = []

    def loop(model: Any) -> None:
        with observed(model, activation_quantizers(model)):
            seen.append(model(BATCHES[0]))

    plain = Encoder()(BATCHES[0])
    with torch.no_grad():
        mtq.quantize(Encoder(), CONFIG, loop)
    assert torch.equal(seen[0], plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1e30])
def test_one_value_among_many_decides(value: float) -> None:
    from modelopt.torch.quantization.nn import TensorQuantizer

    from tasks.quantizing.observers import Observer

    observer = Observer(TensorQuantizer())
    assert observer.amax is None
    observer(torch.empty(0, 4))
    assert observer.amax is None
    observer(torch.ones(2, 3))
    values = torch.ones(5, 9)
    values[3, 4] = value
    assert observer(values) is values
    observer(torch.ones(2, 3))  # NaN stays
    assert observer.amax is not None
    assert torch.equal(observer.amax, torch.tensor(value).abs()) or (value != value and bool(observer.amax.isnan()))
    assert observer.is_enabled  # what it stands in for answers all else


def test_quantizers_are_back_in_their_places_after_an_error() -> None:
    import modelopt.torch.quantization as mtq

    from tasks.quantizing.modelopt import activation_quantizers
    from tasks.quantizing.observers import observed

    def loop(model: Any) -> None:
        before = list(model.modules())
        with pytest.raises(KeyboardInterrupt), observed(model, activation_quantizers(model)):
            raise KeyboardInterrupt
        assert list(model.modules()) == before
        model(BATCHES[0])

    with torch.no_grad():
        mtq.quantize(Encoder(), CONFIG, loop)
