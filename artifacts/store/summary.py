"""One release in one line: what lists show and what the index keeps."""

from __future__ import annotations

from collections import Counter
from typing import Any

from artifacts.manifest import Manifest
from artifacts.schema import MEASURED, number


def summary(manifest: Manifest) -> dict[str, Any]:
    """Names, sizes (bytes) and the few figures that lists show; `speedup` is None where none was measured."""
    source = manifest.provenance.source
    return {
        "ref": manifest.ref,
        "model": manifest.model,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "identity": manifest.identity,
        "created": manifest.created,
        "status": manifest.status,
        "gates": dict(Counter(result.status for result in manifest.gates)),
        "recipe": manifest.provenance.recipe,
        "source": source.name,
        "revision": source.revision,
        "bytes": sum(file.size for file in manifest.files),
        "fp8_ratio": _onnx_ratio(manifest),
        "speedup": _best_speedup(manifest),
    }


def _onnx_ratio(manifest: Manifest) -> float | None:
    """Size of FP8 ONNX files relative to FP16's, over the encoders that have both."""
    sizes = {
        (row["encoder"], row["precision"]): number(row, "bytes")
        for row in manifest.tables.get("sizes", ())
        if row["target"] == "onnx"
    }
    both = [encoder for encoder, precision in sizes if precision == "fp8" and sizes.get((encoder, "fp16"))]
    fp8, fp16 = (sum(sizes[encoder, precision] or 0 for encoder in both) for precision in ("fp8", "fp16"))
    return fp8 / fp16 if fp16 else None


def _best_speedup(manifest: Manifest) -> float | None:
    rows = manifest.tables.get("latency", ())
    gains = [number(row, "speedup") for row in rows if row["status"] == MEASURED]
    return max((gain for gain in gains if gain is not None), default=None)
