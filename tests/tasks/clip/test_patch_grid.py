"""Patches and positions at one size are those of transformers' own embeddings of SigLIP 2 NaFlex."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.siglip2.configuration_siglip2 import Siglip2VisionConfig
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches
from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

from tasks.clip.patch_grid import PatchGrid, flat_patches

CONFIG = Siglip2VisionConfig(hidden_size=24, patch_size=4, num_patches=16)
GRIDS = [(4, 4), (6, 3), (2, 8), (1, 1)]


def theirs() -> Any:
    torch.manual_seed(0)
    embeddings = Siglip2VisionEmbeddings(CONFIG)
    with torch.no_grad():
        for parameter in embeddings.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return embeddings


@pytest.mark.parametrize("grid", GRIDS)
def test_patches_are_cut_as_the_image_processor_cuts_them(grid: tuple[int, int]) -> None:
    pictures = torch.randn(3, 3, grid[0] * 4, grid[1] * 4)
    flat, shapes = flat_patches(pictures, 4)
    wanted = np.stack([convert_image_to_patches(picture, 4) for picture in pictures.numpy()])
    assert np.array_equal(flat.numpy(), wanted)
    assert shapes.tolist() == [list(grid)] * 3


@pytest.mark.parametrize("grid", GRIDS)
def test_embeddings_are_transformers(grid: tuple[int, int]) -> None:
    source = theirs()
    pictures = torch.randn(3, 3, grid[0] * 4, grid[1] * 4)
    with torch.no_grad():
        wanted, got = source(*flat_patches(pictures, 4)), PatchGrid(source, grid)(pictures)
    assert got.shape == (3, grid[0] * grid[1], 24)
    assert torch.allclose(got, wanted, atol=2e-5)


def test_without_weights_it_has_the_same_shapes() -> None:
    with torch.device("meta"):
        empty = PatchGrid(Siglip2VisionEmbeddings(CONFIG), (6, 3))
    shapes = {name: tensor.shape for name, tensor in PatchGrid(theirs(), (6, 3)).state_dict().items()}
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == shapes
    assert shapes["patch_embedding.weight"] == (24, 3, 4, 4) and shapes["position_embedding.weight"] == (18, 24)
