"""SigLIP 2 NaFlex at one image size (`model_type: siglip2`): the model takes any grid of patches, a graph only one.

Tschannen et al., "SigLIP 2", 2025. The size is chosen when a checkpoint is resolved, and is then kept in its
configuration as `image_size: [height, width]` of `vision_config`. The default is the square that the position
embeddings are stored for. Checkpoints with a fixed resolution belong to `siglip`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artifacts.errors import ConfigError, UnsupportedVariant
from artifacts.manifest import Encoder
from tasks.clip.base import ImageSize, InputSpec, Piece
from tasks.clip.lean import model_class
from tasks.clip.siglip import Siglip

if TYPE_CHECKING:
    from torch import nn

_LONGEST = 8192
_PATCHES = "vision_model.embeddings.patch_embedding"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_FIXED_PROCESSOR = "SiglipImageProcessorPil"
_KEPT = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "resample")


class Siglip2(Siglip):
    """Adapter for `transformers.Siglip2Model`, with one size for all pictures."""

    name = "siglip2"
    covers = "SigLIP 2 NaFlex, at one image size"
    known = ("google/siglip2-so400m-patch16-naflex",)
    model_types = ("siglip2",)
    architecture = "Siglip2"
    unquantized = (_PATCHES,)

    def full_config(self, config: dict[str, Any]) -> Any:
        """As for SigLIP.

        Raises:
            UnsupportedVariant: as for SigLIP; or positions are not on a square grid, or the size is not whole patches.
        """
        full = super().full_config(config)
        vision = full.vision_config
        if math.isqrt(vision.num_patches) ** 2 != vision.num_patches:
            raise UnsupportedVariant(
                f"the position embeddings are for {vision.num_patches} patches",
                expected="num_patches of a square grid, which transformers takes it for",
                fix="use the checkpoint with the config.json that belongs to it",
            )
        size = _size(vision)
        if not _is_whole(size, vision.patch_size):
            raise UnsupportedVariant(
                f"the configuration has image_size {list(size)}",
                expected=f"[height, width], multiples of its patch size, {vision.patch_size}",
                fix="remove image_size from config.json, and give the parameter image_size",
            )
        return full

    def at_size(
        self, stored: dict[str, Any], size: ImageSize | None, *, where: object
    ) -> tuple[dict[str, Any], ImageSize | None]:
        """Write the size into `vision_config`; a size that is there already, as in exported checkpoints, is kept.

        Raises:
            ConfigError: the size is not a multiple of the patch size, or differs from the one that is there already.
            UnsupportedVariant: as `full_config`.
        """
        vision = self.full_config(stored).vision_config
        height, width = _size(vision)
        if max(size or (height, width)) > _LONGEST:
            raise ConfigError(
                f"image_size {size or (height, width)} is too large",
                where=where,
                expected=f"at most {_LONGEST} pixels a side",
                fix="give a smaller image_size",
            )
        if size is not None and not _is_whole(size, vision.patch_size):
            nearest = [max(1, round(length / vision.patch_size)) * vision.patch_size for length in size]
            raise ConfigError(
                f"image_size {size[0]} x {size[1]} is not made of whole patches",
                where=where,
                expected=f"height and width that are multiples of the patch size, {vision.patch_size}",
                fix=f"for example {nearest[0]} x {nearest[1]}",
            )
        if size is not None and size != (height, width):
            if isinstance(stored["vision_config"].get("image_size"), list):
                raise ConfigError(
                    f"image_size {size[0]} x {size[1]} was given, and this checkpoint is one of {height} x {width}",
                    where=where,
                    expected="the size that its config.json has",
                    fix="leave image_size out, or start from the original weights",
                )
            height, width = size
        return stored | {"vision_config": stored["vision_config"] | {"image_size": [height, width]}}, (height, width)

    def image_inputs(self, vision: Any) -> tuple[InputSpec, ...]:
        """Pixels at the chosen size."""
        return (InputSpec("pixel_values", "float16", (3, *_size(vision))),)

    def expose(self, model: nn.Module) -> None:
        """As for SigLIP, and also replace the patch and position embeddings by those of one size."""
        from tasks.clip.patch_grid import PatchGrid

        super().expose(model)
        vision: Any = model.get_submodule("vision_model")
        height, width = _size(vision.config)
        side = vision.config.patch_size
        vision.embeddings = PatchGrid(vision.embeddings, (height // side, width // side))

    def odd_tensors(self, config: dict[str, Any], stored: Mapping[str, tuple[int, ...]]) -> str | None:
        """Report positions on another grid than the configuration's: they would silently be interpolated."""
        wanted = self.full_config(config).vision_config.num_patches
        found = stored.get(_POSITIONS, (wanted,))[0]
        return None if found == wanted else f"{_POSITIONS} is for {found} patches, and num_patches is {wanted}"

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """The pieces at the size that the position embeddings are stored for."""
        return self.pieces_at(stored, None)

    def pieces_at(self, stored: Mapping[str, tuple[int, ...]], size: ImageSize | None) -> Mapping[str, Piece | None]:
        """As for SigLIP; also, the patch convolution is stored as a linear layer, and positions on another grid."""
        pieces: dict[str, Piece | None] = dict(super().pieces(stored))
        weight = f"{_PATCHES}.weight"
        if len(stored.get(weight, ())) != 2 or len(stored.get(_POSITIONS, ())) != 2:
            return pieces
        side, patches = math.isqrt(stored[weight][-1] // 3), stored[_POSITIONS][0]
        if not side or 3 * side**2 != stored[weight][-1] or math.isqrt(patches) ** 2 != patches:
            return pieces  # the later check of shapes will report it
        pieces[weight] = Piece(weight, patch=side)
        if size is not None:
            rows, columns = size[0] // side, size[1] // side
            if rows != columns or rows * columns != stored[_POSITIONS][0]:
                pieces[_POSITIONS] = Piece(_POSITIONS, grid=(rows, columns))
        return pieces

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """As for SigLIP; for a model of transformers that is not `expose`d, pictures are cut into patches."""
        if encoder == "text":
            return super().encode(model, encoder, *inputs)
        from tasks.clip.patch_grid import PatchGrid, flat_patches

        (pixels,) = inputs
        shapes = None
        vision: Any = model.get_submodule("vision_model")
        if not isinstance(vision.embeddings, PatchGrid):
            pixels, shapes = flat_patches(pixels, vision.config.patch_size)
        # No mask: every picture fills the grid.
        return super().encode(model, encoder, pixels, None, shapes)

    def fixed_processor(self, images: Any, config: dict[str, Any]) -> Any:
        """SigLIP's image processor with the resampling and normalisation of SigLIP 2's.

        SigLIP 2's own keeps a picture's aspect ratio; at one size that is impossible, so other pictures are squashed.
        """
        fixed = model_class(_FIXED_PROCESSOR)
        if isinstance(images, fixed):
            return images
        height, width = _size(self.full_config(config).vision_config)
        settings = {name: getattr(images, name) for name in _KEPT}
        return fixed(size={"height": height, "width": width}, do_convert_rgb=True, **settings)


def _size(vision: Any) -> list[Any]:
    """The image size in a configuration, or the square that its position embeddings are stored for.

    transformers' own class has no such key; a single number there was not written by us, and is ignored.
    """
    size = getattr(vision, "image_size", None)
    if isinstance(size, list | tuple):
        return list(size)
    side = math.isqrt(vision.num_patches) * vision.patch_size
    return [side, side]


def _is_whole(size: Any, patch: int) -> bool:
    """Whether a size is two lengths, each a multiple of the patch size."""
    return len(size) == 2 and all(isinstance(each, int) and each > 0 and each % patch == 0 for each in size)
