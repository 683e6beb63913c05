"""Records a run of this version: `python -m tests.golden.make_run FOLDER` writes FOLDER/{model,store}.

It is run once for each version whose cache later versions must get along with: a tiny random CLIP, the store that one
`optimize` of it made, and in its cache what it kept of the steps; of the first run that is in FOLDER/results, as
Prefect's home had it. `tests/golden/run-<n>.tar.xz` is that folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

PARAMETERS: dict[str, Any] = {
    "encoders": ["text"],
    "targets": ["onnxruntime"],
    "calibration": {"source": "digits", "samples": 16, "batch": 4},
    "evaluation": {"samples": 20, "batch": 8},
    "latency": {"batches": [1], "rounds": 5},
    "gates": {"max_size_ratio": None},
}
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_model(folder: Path) -> Path:
    """A random CLIP with the demo's tokenizer and processor."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from tasks.demo import SNAPSHOT

    torch.manual_seed(0)
    base = json.loads((SNAPSHOT / "config.json").read_text())
    base["text_config"] |= SMALL
    base["vision_config"] |= SMALL
    base["projection_dim"] = 16
    CLIPModel(CLIPConfig.from_dict(base)).save_pretrained(folder)
    for file in SNAPSHOT.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copyfile(file, folder / file.name)
    return folder


def make(folder: Path) -> None:
    """Write model and store."""
    from tasks.engines import onnx_runtime

    onnx_runtime.cpu_name = lambda: "a processor"  # type: ignore[assignment]  # whose name is nobody's business later
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    model = make_model(folder / "model")
    values = PARAMETERS | {"model": str(model), "store": str(folder / "store")}
    print(optimize(OptimizeParameters.model_validate(values)))


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
