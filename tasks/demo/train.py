"""Retrain the demo model: `python -m tasks.demo.train --out DIR [--seed 0]`.

Only the training side of the digits is read for training; the held-out side is measured once, at the end. The same
seed gives the same files on the same machine and torch version.
"""

from __future__ import annotations

import argparse
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.data.digits import CLASSES, Digits
from tasks.demo.augment import distort
from tasks.demo.vocabulary import CONTEXT, learn_tokenizer
from tasks.demo.zero_shot import zero_shot_accuracy

if TYPE_CHECKING:
    from torch import Tensor

EPOCHS = 120
BATCH = 64
LEARNING_RATE = 5e-4  # at 2e-3 training does not separate the prompts
WEIGHT_DECAY = 0.1
MAX_GRADIENT_NORM = 1.0
BIAS_SPREAD = 0.1
WARM_UP = 0.1  # share of the steps
MAX_LOGIT_SCALE = 4.6052  # ln 100, CLIP's own limit
SIDE = 32
THREADS = 2  # fixed, as another number of threads sums in another order and gives another model


def main() -> None:
    """Train, write the snapshot and print its held-out accuracy."""
    parser = argparse.ArgumentParser(description="Retrain clipsmith's demo CLIP on handwritten digits.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the snapshot to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, options.seed)
    print(f"held-out zero-shot accuracy: {zero_shot_accuracy(options.out, Digits('evaluation')):.2%}")


def train(out: Path, seed: int) -> None:
    """Train a model from `seed` on the digits' training side and write it to `out` in the Hugging Face layout.

    It sets torch's global seed and thread count, and allows only deterministic algorithms.
    """
    import torch
    from transformers import CLIPImageProcessorPil

    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    texts = [[template.format(name) for name in CLASSES.names] for template in CLASSES.templates]
    tokenizer = learn_tokenizer(chain.from_iterable(texts))
    tokenizer.save_pretrained(out)  # before its first use, which would save its padding and truncation
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(out)
    model = _new_model(tokenizer)
    ids = [tokenizer(row, padding="max_length", return_tensors="pt")["input_ids"] for row in texts]
    _fit(model, torch.stack(ids), Digits("calibration"), processor)
    model.save_pretrained(out)


def _new_model(tokenizer: Any) -> Any:
    """A CLIP with about 1.1 million random weights; attention heads have CLIP's size of 64."""
    from torch.nn.init import normal_
    from transformers import CLIPConfig, CLIPModel

    width = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "projection_dim": 64}
    text = {
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"num_hidden_layers": 3, "image_size": SIDE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=width | text, vision_config=width | vision, projection_dim=64))
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):  # starting at zero they stay so small that no test would notice a missing one
            normal_(parameter, std=BIAS_SPREAD)
    return model


def _pixels(digits: Digits) -> Tensor:
    """All pictures, not yet normalised: (N, 3, H, W) float32 in 0..1."""
    import numpy as np
    import torch

    pictures = np.stack([np.asarray(digits.image(index)) for index in range(len(digits.samples))])  # (N, H, W, 3)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def _fit(model: Any, prompts: Tensor, digits: Digits, processor: Any) -> None:
    """Minimise the cross-entropy of pictures against one random prompt of each class. Changes `model`.

    `prompts` are the token ids of every template with every class name: (templates, classes, context) int64.
    """
    import torch

    pixels, labels = _pixels(digits), torch.tensor([sample.label for sample in digits.samples])
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    batches = len(labels) // BATCH
    optimizer = _optimizer(model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, EPOCHS * batches, pct_start=WARM_UP)
    started = time.monotonic()
    model.train()
    for epoch in range(1, EPOCHS + 1):
        for chosen in torch.randperm(len(labels))[: batches * BATCH].view(batches, BATCH):
            images = (distort(pixels[chosen]) - mean) / std
            loss = _loss(model, images, labels[chosen], prompts)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            model.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        if epoch % 10 == 0:
            print(f"epoch {epoch}/{EPOCHS}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


def _loss(model: Any, images: Tensor, labels: Tensor, prompts: Tensor) -> Any:
    """Scalar loss of `images` (B, 3, H, W) with `labels` (B,) against one random prompt of each class."""
    import torch
    from torch.nn.functional import cross_entropy

    templates, classes, _ = prompts.shape
    tokens = prompts[torch.randint(templates, (classes,)), torch.arange(classes)]  # (C, context)
    logits = model(input_ids=tokens, pixel_values=images).logits_per_image  # (B, C)
    return cross_entropy(logits, labels)


def _optimizer(model: Any) -> Any:
    """AdamW with weight decay only for matrices: decay would pull biases to zero and norms below one."""
    import torch

    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))


if __name__ == "__main__":
    main()
