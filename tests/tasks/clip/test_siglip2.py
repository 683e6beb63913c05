"""The image size of SigLIP 2 NaFlex: chosen once, written into the configuration, refused where it makes no grid."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from artifacts.errors import ConfigError, UnsupportedVariant
from tasks.clip.base import Piece
from tasks.families import family_named
from tests.tasks.families.support import CONFIGS
from tests.wording import refusal

FAMILY: Any = family_named("siglip2")
CONFIG = CONFIGS["siglip2"]
PATCHES = "vision_model.embeddings.patch_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"


def vision(**changes: Any) -> dict[str, Any]:
    """The configuration with other values for the image encoder."""
    return CONFIG | {"vision_config": CONFIG["vision_config"] | changes}


def pixels(config: dict[str, Any]) -> tuple[int, ...]:
    return FAMILY.encoder_spec(config, "image").inputs[0].shape


def test_a_size_that_is_not_asked_for_is_that_of_the_positions() -> None:
    before = copy.deepcopy(CONFIG)
    config, size = FAMILY.at_size(CONFIG, None, where="m")
    assert (size, config["vision_config"]["image_size"]) == ((32, 32), [32, 32])
    assert before == CONFIG
    assert pixels(CONFIG) == pixels(config) == (3, 32, 32)
    published = {"model_type": "siglip2", "text_config": {}, "vision_config": {}}  # what Google's files leave out
    assert FAMILY.at_size(published, None, where="m")[1] == (256, 256)


def test_a_chosen_size_stays_with_the_configuration() -> None:
    config, size = FAMILY.at_size(CONFIG, (48, 32), where="m")
    assert size == (48, 32)
    assert pixels(config) == pixels(FAMILY.resolve_config(config)) == (3, 48, 32)
    assert FAMILY.resolve_config(config)["vision_config"]["image_size"] == [48, 32]
    assert FAMILY.at_size(config, (48, 32), where="m") == FAMILY.at_size(config, None, where="m") == (config, size)
    with torch.device("meta"):
        state = FAMILY.build(config).state_dict()
    assert (state[PATCHES].shape, state[POSITIONS].shape) == ((64, 3, 8, 8), (24, 64))


def test_one_side_alone_is_no_size_of_ours() -> None:
    """transformers reads no such key; files of other origin may have it."""
    assert FAMILY.at_size(vision(image_size=224), None, where="m")[1] == (32, 32)
    assert FAMILY.at_size(vision(image_size=224), (48, 32), where="m")[1] == (48, 32)


@pytest.mark.parametrize(
    ("size", "nearest"), [((50, 32), "48 x 32"), ((48, 3), "48 x 8"), ((0, 32), "8 x 32"), ((-8, 32), "8 x 32")]
)
def test_a_size_without_whole_patches_is_refused(size: tuple[int, int], nearest: str) -> None:
    with refusal(ConfigError, "some/folder") as caught:
        FAMILY.at_size(CONFIG, size, where="some/folder")
    assert nearest in (caught.value.fix or "") and "8" in (caught.value.expected or "")
    assert caught.value.where == "some/folder"


def test_a_checkpoint_at_a_size_refuses_another() -> None:
    config, _ = FAMILY.at_size(CONFIG, (48, 32), where="m")
    with refusal(ConfigError, "m") as caught:
        FAMILY.at_size(config, (32, 32), where="m")
    assert "original weights" in (caught.value.fix or "")


@pytest.mark.parametrize("size", [[48], [48, 32, 3], [50, 32], ["48", 32], [0, 32], []])
def test_a_configuration_with_another_size_is_refused(size: list[Any]) -> None:
    for call in (FAMILY.resolve_config, lambda config: FAMILY.at_size(config, None, where="m")):
        with pytest.raises(UnsupportedVariant, match="image_size"):
            call(vision(image_size=size))


def test_positions_that_are_no_square_are_refused() -> None:
    with pytest.raises(UnsupportedVariant, match="15 patches"):
        FAMILY.resolve_config(vision(num_patches=15))


def test_where_the_weights_of_a_size_come_from() -> None:
    stored: dict[str, tuple[int, ...]] = {PATCHES: (64, 192), POSITIONS: (16, 64)}
    own = {PATCHES: Piece(PATCHES, patch=8)}
    assert FAMILY.pieces(stored) == FAMILY.pieces_at(stored, None) == FAMILY.pieces_at(stored, (32, 32)) == own
    assert FAMILY.pieces_at(stored, (48, 32)) == own | {POSITIONS: Piece(POSITIONS, grid=(6, 4))}
    assert FAMILY.pieces_at(stored, (16, 16)) == own | {POSITIONS: Piece(POSITIONS, grid=(2, 2))}
    assert FAMILY.pieces_at({}, (48, 32)) == {}


def test_the_processor_makes_pictures_of_the_size() -> None:
    from transformers import Siglip2ImageProcessorPil, SiglipImageProcessorPil

    settings = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 1, "rescale_factor": 1 / 200}
    own = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16, **settings)
    config, _ = FAMILY.at_size(CONFIG, (48, 32), where="m")
    made = FAMILY.fixed_processor(own, config)
    assert isinstance(made, SiglipImageProcessorPil)
    assert made(images=Image.new("RGB", (99, 17)), return_tensors="np")["pixel_values"].shape == (1, 3, 48, 32)
    assert {name: made.to_dict()[name] for name in settings} == {name: own.to_dict()[name] for name in settings}
    assert (made.resample, list(made.image_mean), list(made.image_std)) == (1, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    assert FAMILY.fixed_processor(made, config) is made


def test_a_folder_has_the_processor_that_it_names(tmp_path: Path) -> None:
    """Google's files name a class that wants torchvision, and no size; what a release hands on names SigLIP's."""
    from transformers import Siglip2ImageProcessorPil, SiglipImageProcessorPil

    content = {"image_processor_type": "Siglip2ImageProcessorFast", "resample": 2, "max_num_patches": 256}
    content |= {"patch_size": 16, "do_convert_rgb": None, "processor_class": "Siglip2Processor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    own = FAMILY.image_processor(tmp_path)
    assert isinstance(own, Siglip2ImageProcessorPil)
    made = FAMILY.fixed_processor(own, FAMILY.at_size(CONFIG, (48, 32), where="m")[0])
    made.save_pretrained(tmp_path)
    again = FAMILY.image_processor(tmp_path)
    assert isinstance(again, SiglipImageProcessorPil)
    assert again.to_dict() == made.to_dict()
    transparent = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    assert again(images=transparent, return_tensors="np")["pixel_values"].shape == (1, 3, 48, 32)
