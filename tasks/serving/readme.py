"""The README.md of an exported folder: its files, their runtimes, and how to load them."""

from __future__ import annotations

from collections.abc import Iterator

from artifacts import places
from artifacts.inert import markdown
from artifacts.manifest import Manifest, Precision
from artifacts.release.fastest import ONNX_RUNTIME, PRECISIONS, choices
from tasks.clip.base import ENCODERS
from tasks.file_names import onnx_name

_GRAPHS: dict[Precision, tuple[str, str]] = {
    "fp16": ("ONNX graphs in FP16, opset 20", "ONNX Runtime 1.19 or newer; TensorRT builds engines of them"),
    "fp8": (
        "the same in FP8, with QuantizeLinear and DequantizeLinear",
        "ONNX Runtime 1.32 or newer, 1.19 to 1.31 with the option below; TensorRT builds engines of them",
    ),
}
_ONNX_RUNTIME = """\
At its default settings ONNX Runtime loads the FP8 graphs from version 1.32 on. Versions 1.19 to 1.31 refuse them
(INVALID_GRAPH) unless told not to handle pairs of QuantizeLinear and DequantizeLinear, or to optimize at level "basic":

```python
import onnxruntime as ort

options = ort.SessionOptions()
if tuple(map(int, ort.__version__.split(".")[:2])) < (1, 32):
    options.add_session_config_entry("session.disable_quant_qdq", "1")
session = ort.InferenceSession("{path}", options, providers=["CPUExecutionProvider"])
```

In Triton Inference Server, which has no such option, level "basic" is `optimization {{ graph {{ level: -1 }} }}`."""


def readme(manifest: Manifest) -> str:
    """The text in plain markdown, made only from the manifest."""
    lines = [
        f"# {markdown(manifest.ref)}",
        "",
        f"The encoders of a CLIP model, exported by clipsmith: release {markdown(manifest.ref)}, identity",
        f"{manifest.identity}.",
        "",
        "| files | what they are | what runs them |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(manifest)),
        "",
        "Embeddings are projected, and not normalised; the batch is dynamic:",
        "",
        *(f"- {markdown(row['encoder'])}: {markdown(row['input'])}" for row in manifest.tables.get("encoders", ())),
    ]
    quantized = _graphs(manifest, "fp8")
    if quantized:
        lines += ["", "## FP8 in ONNX Runtime", "", _ONNX_RUNTIME.format(path=quantized[0])]
    lines += ["", "## FP8 or FP16", "", *(f"- {markdown(choice)}" for choice in choices(manifest))]
    return "\n".join(lines) + "\n"


def _rows(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """(files, what they are, what runs them) for each row of the table."""
    for precision in reversed(PRECISIONS):
        if found := _graphs(manifest, precision):
            beside = [file.path for file in manifest.files if file.path in [f"{path}.data" for path in found]]
            yield ", ".join([*found, *beside]), *_GRAPHS[precision]
    for target in sorted({str(file.target) for file in manifest.files if file.kind == "engine"}):
        needs = "the version and GPU that the .engine.json beside each names"
        if target == ONNX_RUNTIME:
            needs = "ONNX Runtime of the version that the .engine.json beside each names, or newer"
        yield f"\\*/\\*.{markdown(target)}.engine", "engines built of these graphs", needs
    yield f"{places.PREPROCESS}/", "tokenizer and image processor", "transformers"
    yield places.MANIFEST, "what was measured, and the SHA-256 of every file", ""


def _graphs(manifest: Manifest, precision: Precision) -> list[str]:
    """The paths of the graphs of a precision, in the order of the encoders."""
    wanted = [places.within(encoder, onnx_name(precision)) for encoder in ENCODERS]
    return [path for path in wanted if any(file.path == path for file in manifest.files)]
