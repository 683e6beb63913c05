"""Zero-shot accuracy of a checkpoint folder in plain transformers in FP32, to check the demo model's accuracy."""

from __future__ import annotations

from pathlib import Path

from artifacts.errors import DataError
from tasks.data.base import Dataset


def zero_shot_accuracy(snapshot: Path, dataset: Dataset) -> float:
    """The share of `dataset`'s samples whose nearest class, by cosine, is their label.

    A class is the mean of its normalised prompt embeddings over the templates. Pictures and prompts go through the
    snapshot's own image processor and tokenizer.

    Raises:
        DataError: the data set has no classes.
    """
    import torch
    from torch.nn.functional import normalize
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    if dataset.classes is None:
        raise DataError(f"{dataset.source} has no classes, so there is nothing to classify", expected="a labelled set")
    model = CLIPModel.from_pretrained(snapshot, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(snapshot)
    pictures = [dataset.image(index) for index in range(len(dataset.samples))]
    labels = torch.tensor([sample.label for sample in dataset.samples])
    names, templates = dataset.classes.names, dataset.classes.templates
    prompts = [template.format(name) for name in names for template in templates]
    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        features = normalize(model.get_text_features(**tokens).pooler_output, dim=-1)  # (C * T, D)
        classes = normalize(features.reshape(len(names), len(templates), -1).mean(dim=1), dim=-1)  # (C, D)
        images = model.get_image_features(**processor(pictures, return_tensors="pt")).pooler_output  # (N, D)
    hits = (images @ classes.T).argmax(dim=-1) == labels
    return float(hits.float().mean())
