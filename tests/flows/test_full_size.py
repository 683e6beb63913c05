"""The same command on full-size models of random weights, calibrated on ordinary photographs."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.published import published
from tests.thorough import amount

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(2400)]

END = 49407
B32 = published("clip-vit-base-patch32")
L14 = published("clip-vit-large-patch14")
MODES = ("RGB", "L", "CMYK", "P", "RGBA")
TARGETS = ["onnxruntime", "trtrtx-sm89", *amount([], ["trtrtx-sm120"])]


def _model(folder: Path, config: dict[str, Any]) -> Path:
    """A CLIP with OpenAI's own configuration, random weights, biases included, and a tokenizer of the real size."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig.from_dict(copy.deepcopy(config)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [f"unused{number}" for number in range(len(tokens), END - 1)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def _photographs(folder: Path, count: int, seed: int) -> Path:
    """Crops of scikit-learn's and scikit-image's photographs in mixed sizes, modes and formats, with captions."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(array) for array in (*load_sample_images().images, data.astronaut(), data.coffee())]
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "caption"])
        for number in range(count):
            picture = pictures[number % len(pictures)]
            width, height = (int(side * rng.uniform(0.3, 0.9)) for side in picture.size)
            left, top = (
                int(rng.uniform(0, full - part)) for full, part in ((picture.width, width), (picture.height, height))
            )
            mode = MODES[number % len(MODES)]
            name = f"{seed}-{number}.{'png' if mode in ('P', 'RGBA') else 'jpg'}"
            picture.crop((left, top, left + width, top + height)).convert(mode).save(folder / name)
            writer.writerow([name, f"photo {number} of series {seed}"])
    return folder


# Six linear layers a block and the projection, two products an attention.
SIZES = [
    pytest.param("vit-b-32", B32, {"image": 12 * 6 + 1, "text": 12 * 6 + 1}, {"image": 24, "text": 24}, id="B32"),
    pytest.param("vit-l-14", L14, {"image": 24 * 6 + 1, "text": 12 * 6 + 1}, {"image": 48, "text": 24}, id="L14"),
]


@pytest.mark.parametrize(("name", "config", "linears", "bmms"), amount(SIZES[1:], SIZES))
def test_full_size_model_on_photographs(
    tmp_path: Path,
    clipsmith: Callable[..., Any],
    name: str,
    config: dict[str, Any],
    linears: dict[str, int],
    bmms: dict[str, int],
) -> None:
    model = _model(tmp_path / name, config)
    options = tmp_path / "config.yaml"
    options.write_text(json.dumps({"targets": TARGETS, "latency": {"batches": [1], "rounds": 3, "seconds": 1.0}}))
    result = clipsmith(
        *("optimize", model, "--config", options, "--store", tmp_path / "store", "--json"),
        *("--calibration", _photographs(tmp_path / "photos", 20, 1)),
        *("--evaluation", _photographs(tmp_path / "holdout", 8, 2)),
        timeout=2400,
    )
    assert result.code == 0, result.err
    document = result.document
    assert document["ref"] == f"{name}@1"

    coverage = pd.DataFrame(document["tables"]["coverage"]).query("precision == 'fp8' and actual == 'fp8'")
    for encoder in ("image", "text"):
        kinds = coverage[coverage.encoder == encoder].kind.value_counts()
        assert kinds["linear"] == linears[encoder]
        assert kinds["bmm_qk"] + kinds["bmm_pv"] == bmms[encoder]

    accuracy = pd.DataFrame(document["tables"]["accuracy"])
    fp16 = accuracy.query("precision == 'fp16' and reference == 'fp32' and metric == 'cosine_min'")
    assert len(fp16) == 2
    assert (fp16.value >= 0.9999).all()
    fp8 = accuracy.query("precision == 'fp8' and reference == 'fp32' and metric == 'cosine_mean'")
    assert (fp8.value.between(0.98, 0.99999)).all()  # chaotic at depth; 1.0 would mean that nothing was quantized

    sizes = pd.DataFrame(document["tables"]["sizes"]).query("precision == 'fp8'")
    assert set(sizes.target) == {"onnx", *TARGETS}
    assert (sizes.vs_fp16 < 0.85).all()
    assert {"recall@1_image_to_text", "recall@1_text_to_image"} <= set(accuracy.metric)
