"""The interface of kinds of models in OpenCLIP's layout, and their common base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import BadWeights
from tasks.clip.base import Oracle
from tasks.clip.buffers import fill_buffers
from tasks.clip.hugging_face import ClipFamily
from tasks.openclip.document import Document, document_file, read_document, weights_file
from tasks.openclip.preprocess import image_settings
from tasks.openclip.tokenizer import cleaning_tokenizer

if TYPE_CHECKING:
    from torch import nn


LAYER_SCALE = "layer_scale"
"""The key in a section of a configuration that is true if the tower's blocks have a layer scale."""
_LOSS = ("logit_scale", "logit_bias")


class OpenClipKind(ClipFamily):
    """A family whose checkpoints are in OpenCLIP's layout; `tasks.openclip.KINDS` lists them."""

    oracle: ClassVar[Oracle] = "golden files"
    model_types: ClassVar[tuple[str, ...]] = ()

    def looks_like(self, document: Document) -> bool:
        """Whether a refusal of the document may give this kind's reason; if several kinds apply, the last one's is
        given."""
        raise NotImplementedError

    def why_not(self, document: Document) -> str | None:
        """What this kind does not support in a document ("vision_cfg.qk_norm true"); None if it accepts the model.

        It needs only the document: no weights, no network.
        """
        raise NotImplementedError

    def read(self, document: Document) -> dict[str, Any]:
        """The stored configuration, in the form of a `config.json`, for a document that this kind accepts."""
        raise NotImplementedError

    def load(self, folder: Path, config: dict[str, Any], attention: str) -> nn.Module:
        """The model with the folder's weights renamed; a folder in Hugging Face layout is loaded by transformers."""
        if document_file(folder) is None:
            return super().load(folder, config, attention)
        import torch

        from tasks.clip.weights import WeightReader

        reader = WeightReader([weights_file(folder)], self.pieces)
        state = {name: torch.from_numpy(reader.read(name).astype("float32")) for name in reader}
        with torch.device("meta"):
            model: nn.Module = self._model_class()._from_config(self.full_config(config), attn_implementation=attention)
        for name in _LOSS:  # embeddings do not use them, and files may lack them
            if name in model.state_dict():
                state.setdefault(name, torch.zeros(model.state_dict()[name].shape))
        missing, _ = model.load_state_dict(self.as_built(state), assign=True, strict=False)
        if missing:
            raise BadWeights(f"{len(missing)} tensors are missing, the first is {missing[0]}", where=folder)
        fill_buffers(model)
        return model.eval()

    def ignores(self, name: str, modules: Collection[str]) -> bool:
        """False: `pieces` names the tensors that are not used; any other one may be part of an encoder."""
        del name, modules
        return False

    def odd_tensors(self, config: dict[str, Any], stored: Mapping[str, tuple[int, ...]]) -> str | None:
        """Report layer scales that do not match the configuration: all must be there, or none. They are merged into
        other parameters, so that shapes do not show it."""
        scales = {(name.partition(".")[0], piece.scale) for name, piece in self.pieces(stored).items() if piece}
        for section, tower in (("vision_config", "vision_model"), ("text_config", "text_model")):
            wanted = 2 * config[section]["num_hidden_layers"] if config[section].get(LAYER_SCALE) else 0
            found = sum(owner == tower and scale is not None for owner, scale in scales)
            if found != wanted:
                return f"{found} layer scales are stored for {section}, which asks for {wanted}"
        return None

    def as_built(self, state: dict[str, Any]) -> dict[str, Any]:
        """The parameters of the `expose`d model, renamed for transformers' original class."""
        return state

    def tokenizer(self, folder: Path, config: dict[str, Any] | None) -> Any:
        """The tokenizer of the document; in a folder without one, the tokenizer that transformers finds."""
        if document_file(folder) is None:
            return super().tokenizer(folder, None)
        return cleaning_tokenizer(folder, read_document(folder), config)

    def image_processor(self, folder: Path) -> Any:
        """The image processor with the settings of `preprocess_cfg`."""
        if document_file(folder) is None:
            return super().image_processor(folder)
        from transformers import CLIPImageProcessorPil

        return CLIPImageProcessorPil(**image_settings(read_document(folder)))
