"""Write a CLIP of random weights as a Hugging Face folder: `python -m ... ARCHITECTURE FOLDER DTYPE SHARDS`.

Tensors are drawn and written in pieces, so that memory does not grow with the model. The folder also gets
`amax.json`: for every quantizer of the recipe the true amax of a weight and a constant for an activation. It stands in
for calibration where only the cost of exporting matters, which does not depend on the values.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPConfig, CLIPModel

from tests.benchmarks.architectures import ARCHITECTURES
from tests.benchmarks.children.report import report

SEED = 20260
ACTIVATION_AMAX = 8.0
_CHUNK = 1 << 22
"""Elements drawn at a time: 16 MB."""
_NUMPY = {"F32": np.float32, "F16": np.float16}


def _center_and_spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation that keep activations in range at any depth; biases are random, never all zero."""
    if name == "logit_scale":
        return 2.6592, 0.0  # log(1 / 0.07), where CLIP starts
    if len(shape) == 1:
        return (1.0 if "norm" in name and name.endswith(".weight") else 0.0), 0.02
    if "token_embedding" in name or "position_embedding" in name:
        return 0.0, 0.02
    return 0.0, 0.5 * float(np.prod(shape[1:])) ** -0.5


def _values(rng: np.random.Generator, name: str, shape: tuple[int, ...], dtype: str) -> Iterator[NDArray]:
    center, spread = _center_and_spread(name, shape)
    left = int(np.prod(shape))
    while left:
        size = min(left, _CHUNK)
        yield (rng.standard_normal(size, np.float32) * np.float32(spread) + np.float32(center)).astype(_NUMPY[dtype])
        left -= size


def _header(shapes: dict[str, tuple[int, ...]], dtype: str) -> bytes:
    """The head of a safetensors file: its length in 8 bytes, then JSON, padded to a multiple of 8."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + int(np.prod(shape)) * np.dtype(_NUMPY[dtype]).itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_shard(
    stream: BinaryIO, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]], dtype: str
) -> dict[str, float]:
    """Write one safetensors file; return the largest magnitude of each tensor."""
    amax = {}
    stream.write(_header(shapes, dtype))
    for name, shape in shapes.items():
        amax[name] = 0.0
        for values in _values(rng, name, shape, dtype):
            amax[name] = max(amax[name], float(np.abs(values).max()))
            stream.write(values.data)
    return amax


def _split(shapes: dict[str, tuple[int, ...]], count: int) -> list[dict[str, tuple[int, ...]]]:
    """The tensors in `count` parts of about the same size, in order."""
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    parts: list[dict[str, tuple[int, ...]]] = [{} for _ in range(count)]
    done = 0
    for name, shape in shapes.items():
        parts[min(done * count // total, count - 1)][name] = shape
        done += int(np.prod(shape))
    return parts


def _quantizers(model: nn.Module, amax: dict[str, float]) -> dict[str, float]:
    """An amax for everything that a recipe may quantize, named as ModelOpt names quantizers."""
    table = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            table[f"{name}.weight_quantizer"] = amax[f"{name}.weight"]
            table[f"{name}.input_quantizer"] = ACTIVATION_AMAX
        elif hasattr(module, "q_proj"):
            table |= {f"{name}.{operand}_bmm_quantizer": ACTIVATION_AMAX for operand in "qkv"}
    return table


def main() -> None:
    name, folder, dtype, shards = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    folder.mkdir(parents=True)
    config = ARCHITECTURES[name].config()
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig.from_dict(config))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}

    rng = np.random.Generator(np.random.SFC64(SEED))
    amax: dict[str, float] = {}
    index: dict[str, str] = {}
    for number, part in enumerate(_split(shapes, shards), start=1):
        file = "model.safetensors" if shards == 1 else f"model-{number:05}-of-{shards:05}.safetensors"
        with (folder / file).open("wb") as stream:
            amax |= _write_shard(stream, rng, part, dtype)
        index |= dict.fromkeys(part, file)
    if shards > 1:
        document = {"metadata": {}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(document))
    (folder / "amax.json").write_text(json.dumps(_quantizers(model, amax)))
    image = sum(int(np.prod(shape)) for key, shape in shapes.items() if key.startswith("vis"))
    report(parameters=sum(int(np.prod(shape)) for shape in shapes.values()), image_parameters=image)


if __name__ == "__main__":
    main()
