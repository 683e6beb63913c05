"""The published recipe's export of one encoder to FP8: `python -m ... CHECKPOINT ENCODER OUT`.

NVIDIA, "Model Quantization: Turn FP8 Checkpoints into High-Performance Inference Engines with NVIDIA TensorRT", 2026:
restore the ModelOpt checkpoint, wrap one encoder, `get_onnx_bytes_and_metadata` at opset 20, write the bytes. Where
the post leaves a choice, this takes the cheaper one:

- attention is quantized by ModelOpt's Hugging Face plugin. The post registers the class of the diffusers plugin
  instead, whose export fails when the caller passes an attention scale, as transformers 5.14 does (TypeError in
  `export_fp8_mha`); with that worked around it costs the same or more;
- the model is restored in FP32 and halved, so that no FP32 copy is left and no conversion of the graph is needed;
- the wrapper holds its encoder alone, and the other one is dropped before the export.

Runs in the recipe's environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import modelopt.torch.opt as mto
import torch
from modelopt.torch._deploy.utils import OnnxBytes, get_onnx_bytes_and_metadata
from torch import nn
from transformers import CLIPModel

from tests.benchmarks.children.report import report


class _Encoder(nn.Module):
    """One transformer and its projection."""

    def __init__(self, transformer: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.projection = projection


class _Text(_Encoder):
    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.transformer(input_ids).pooler_output)


class _Image(_Encoder):
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.projection(self.transformer(pixel_values).pooler_output)


def _restore(checkpoint: Path, encoder: str) -> tuple[nn.Module, str, torch.Tensor]:
    """The wrapped encoder, the name of its input, and a sample of that."""
    mto.enable_huggingface_checkpointing()
    model = CLIPModel.from_pretrained(checkpoint, attn_implementation="eager").half().eval()
    if encoder == "text":
        text = model.config.text_config
        ids = torch.full((1, text.max_position_embeddings), text.eos_token_id)
        return _Text(model.text_model, model.text_projection).eval(), "input_ids", ids
    side = model.config.vision_config.image_size
    pixels = torch.randn(1, 3, side, side, dtype=torch.float16)
    return _Image(model.vision_model, model.visual_projection).eval(), "pixel_values", pixels


def main() -> None:
    checkpoint, encoder, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    wrapper, name, sample = _restore(checkpoint, encoder)
    content, _ = get_onnx_bytes_and_metadata(
        wrapper, (sample,), model_name=encoder, dynamic_axes={name: {0: "batch"}}, onnx_opset=20
    )
    OnnxBytes.from_bytes(content).write_to_disk(str(out))
    report()


if __name__ == "__main__":
    main()
