"""Weights of zeros, as pruning leaves them, are exported with scale 1; zeros that no weight explains are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tasks.quantizing.zero_weights import settle_zeros, zero_quantizers


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(4, 4))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(4, 8), "fc2": nn.Linear(8, 4)})


QUANTIZERS = [
    *(f"attn.{part}_bmm_quantizer" for part in "qkvp"),
    *(
        f"{layer}.{kind}_quantizer"
        for layer in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj", "mlp.fc1", "mlp.fc2")
        for kind in ("input", "weight")
    ),
]


def pruned(*names: str, bias: bool = True) -> Block:
    torch.manual_seed(0)
    block = Block()
    with torch.no_grad():
        for name in names:
            layer = block.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            layer.weight.zero_()
            if bias:
                layer.bias.zero_()
    return block


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), []),
        (("attn.q_proj",), ["attn.q_bmm_quantizer", "attn.q_proj.weight_quantizer"]),
        (("attn.k_proj",), ["attn.k_bmm_quantizer", "attn.k_proj.weight_quantizer"]),
        (
            ("attn.v_proj",),
            ["attn.v_bmm_quantizer", "attn.v_proj.weight_quantizer", "attn.out_proj.input_quantizer"],
        ),
        (("mlp.fc1",), ["mlp.fc1.weight_quantizer", "mlp.fc2.input_quantizer"]),
        (("mlp.fc2",), ["mlp.fc2.weight_quantizer"]),
    ],
)
def test_what_sees_zeros_alone(names: tuple[str, ...], expected: list[str]) -> None:
    found = zero_quantizers(pruned(*names), dict.fromkeys(QUANTIZERS))
    assert sorted(found) == sorted(expected)


def test_a_bias_is_no_zero() -> None:
    found = zero_quantizers(pruned("attn.q_proj", "mlp.fc1", bias=False), dict.fromkeys(QUANTIZERS))
    assert sorted(found) == ["attn.q_proj.weight_quantizer", "mlp.fc1.weight_quantizer"]


class Quantizer:
    def __init__(self, amax: float | list[float] | None) -> None:
        self.amax = None if amax is None else torch.tensor(amax)


def test_an_amax_of_zero_is_settled_where_a_weight_explains_it() -> None:
    quantizers = {
        "attn.q_proj.weight_quantizer": Quantizer([[0.0], [0.0]]),
        "attn.q_bmm_quantizer": Quantizer(0.0),
        "attn.k_bmm_quantizer": Quantizer(0.0),
        "mlp.fc1.weight_quantizer": Quantizer(3.0),
    }
    settle_zeros(pruned("attn.q_proj"), quantizers)
    assert [quantizer.amax.flatten().tolist() for quantizer in quantizers.values() if quantizer.amax is not None] == [
        [448.0, 448.0],
        [448.0],
        [0.0],
        [3.0],
    ]


def test_activations_that_no_data_has_reached_yet_are_left() -> None:
    quantizers = {"attn.q_bmm_quantizer": Quantizer(None)}
    settle_zeros(pruned("attn.q_proj"), quantizers)
    assert quantizers["attn.q_bmm_quantizer"].amax is None
