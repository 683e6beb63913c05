"""Make the checkpoint that the published recipe starts from: `python -m ... MODEL CONFIG CHECKPOINT AMAX`.

CONFIG is ModelOpt's quantization configuration as JSON. Calibration sees a few random samples: the cost of exporting
does not depend on the values. AMAX gets what was calibrated, by quantizer. Runs in the recipe's environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import modelopt.torch.opt as mto
import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.quantization.nn import TensorQuantizer
from transformers import CLIPModel

from tests.benchmarks.children.report import report

BATCHES, BATCH = 2, 4


def _feed(model: Any) -> None:
    torch.manual_seed(0)
    text, side = model.config.text_config, model.config.vision_config.image_size
    for _ in range(BATCHES):
        ids = torch.randint(0, text.bos_token_id, (BATCH, text.max_position_embeddings))
        ids[:, -1] = text.eos_token_id
        model.get_text_features(ids)
        model.get_image_features(torch.randn(BATCH, 3, side, side))


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text())
    for rule in config["quant_cfg"]:
        if "cfg" in rule:
            rule["cfg"]["num_bits"] = tuple(rule["cfg"]["num_bits"])  # JSON knows no tuples, ModelOpt wants one
    return config


def main() -> None:
    folder, config, checkpoint, table = map(Path, sys.argv[1:5])
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    # Without this `save_pretrained` drops the quantizers silently.
    mto.enable_huggingface_checkpointing()
    with torch.no_grad():
        mtq.quantize(model, _config(config), _feed)
    model.save_pretrained(checkpoint)
    amax = {
        name: float(module.amax)
        for name, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and module.is_enabled and module.amax is not None
    }
    table.write_text(json.dumps(amax))
    report(quantizers=len(amax))


if __name__ == "__main__":
    main()
