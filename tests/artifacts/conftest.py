"""Synthetic but realistic releases, so that tables and reports are tested without a model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artifacts.manifest import DataSource, Manifest, Provenance, Row, Source
from artifacts.refs import digest_json
from artifacts.release.evidence import Evidence
from artifacts.schema import SCHEMAS
from tests.s3 import moto, s3_environment

ENCODERS = ("image", "text")
HIDDEN = {"image": 1024, "text": 768}
ENGINES = ("onnxruntime", "trtrtx-sm89")
LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")


def make_row(table: str, **values: Any) -> Row:
    """A row of `table` with these values and None elsewhere."""
    return {column.name: values.get(column.name) for column in SCHEMAS[table].columns}


def weights(encoder: str, layers: int) -> int:
    return layers * 12 * HIDDEN[encoder] ** 2 + 2_000_000


def encoder_rows(layers: int) -> list[Row]:
    return [
        make_row(
            "encoders",
            encoder=encoder,
            family="clip",
            layers=layers,
            hidden_size=HIDDEN[encoder],
            heads=HIDDEN[encoder] // 64,
            parameters=weights(encoder, layers),
            embedding_dim=768,
            input="pixel_values: float16 [batch, 3, 224, 224]"
            if encoder == "image"
            else "input_ids: int64 [batch, 77]",
            output=f"{encoder}_embeds: float16 [batch, 768]",
        )
        for encoder in ENCODERS
    ]


def size_rows(layers: int, unavailable: str | None) -> list[Row]:
    rows = []
    for encoder in ENCODERS:
        for target in ("onnx", *ENGINES, *(("trtrtx-sm120",) if unavailable else ())):
            for precision in ("fp16", "fp8"):
                missing = target == "trtrtx-sm120"
                fp16 = 2 * weights(encoder, layers)
                size = fp16 if precision == "fp16" else int(fp16 * 0.506)
                onnx = {"fp8_bytes": 0 if precision == "fp16" else size - 90_000, "fp16_bytes": 80_000}
                rows.append(
                    make_row(
                        "sizes",
                        encoder=encoder,
                        precision=precision,
                        target=target,
                        bytes=None if missing else size,
                        vs_fp16=None if missing else size / fp16,
                        **(onnx | {"other_bytes": 10_000} if target == "onnx" else {}),
                        status=f"unavailable: {unavailable}" if missing else "built",
                    )
                )
    return rows


def coverage_rows(layers: int, wrong: bool) -> list[Row]:
    rows = []
    for encoder in ENCODERS:
        tower = "vision_model" if encoder == "image" else "text_model"
        modules = [(f"{tower}.encoder.layers.{n}.{name}", "linear") for n in range(layers) for name in LINEARS]
        for kind in ("bmm_qk", "bmm_pv"):
            modules += [(f"{tower}.encoder.layers.{n}.self_attn", kind) for n in range(layers)]
        modules.append(("visual_projection" if encoder == "image" else "text_projection", "linear"))
        if encoder == "image":
            modules.append((f"{tower}.embeddings.patch_embedding", "conv"))
            modules.append((f"{tower}.embeddings.position_embedding", "embedding"))
        else:
            modules.append((f"{tower}.embeddings.token_embedding", "embedding"))
        for index, (module, kind) in enumerate(modules):
            expected = "fp16" if kind in ("conv", "embedding") else "fp8"
            actual = "fp16" if wrong and encoder == "image" and module.endswith("layers.1.mlp.fc2") else expected
            fp8 = actual == "fp8"
            rows.append(
                make_row(
                    "coverage",
                    encoder=encoder,
                    precision="fp8",
                    module=module,
                    kind=kind,
                    expected=expected,
                    actual=actual,
                    input_scale=0.0123 + index / 1e4 if fp8 else None,
                    weight_scale=0.00071 if fp8 and kind == "linear" else None,
                    weight_bytes=0 if kind.startswith("bmm") else HIDDEN[encoder] ** 2 * (1 if fp8 else 2),
                    node=f"node_MatMul_{index}",
                )
            )
    return rows


def accuracy_rows() -> list[Row]:
    def row(encoder: str, precision: str, reference: str, metric: str, value: float, **more: Any) -> Row:
        base = {"target": "onnxruntime", "samples": 2000}
        values = {"precision": precision, "reference": reference, "metric": metric, "value": value}
        return make_row("accuracy", encoder=encoder, **(base | values | more))

    rows = []
    for encoder, mean in (("image", 0.99921), ("text", 0.99724)):
        for precision, value in (("fp16", 0.9999994), ("fp8", mean)):
            rows.append(row(encoder, precision, "fp32", "cosine_mean", value, low=value - 3e-7, high=value + 3e-7))
            rows.append(row(encoder, precision, "fp32", "cosine_min", 1 - 4 * (1 - value)))
            rows.append(row(encoder, precision, "fp32", "snr_db", -10 * math.log10(2 * (1 - value))))
            rows.append(row(encoder, precision, "fp32", "rank_agreement", 1 - 2 * (1 - value), samples=1024))
            rows.append(row(encoder, precision, "fp32", "nonfinite", 0.0))
    for precision, value in (("fp32", 0.7542), ("fp16", 0.7541), ("fp8", 0.7519)):
        target = "pytorch" if precision == "fp32" else "onnxruntime"
        more = {"target": target, "low": value - 0.019, "high": value + 0.018}
        rows.append(row("both", precision, "labels", "top1", value, **more))
    rows.append(row("both", "fp8", "fp16", "top1_difference", -0.0022, low=-0.0061, high=0.0016))
    rows.append(row("both", "fp8", "fp16", "top1_mcnemar_p", 0.42))
    rows.append(row("both", "fp32", "chance", "top1_over_chance", 0.75, target="pytorch", low=0.73, high=0.77))
    for metric, value in (("recall@1_image_to_text", 0.564), ("recall@1_text_to_image", 0.365)):
        rows.append(row("both", "fp8", "captions", metric, value, low=value - 0.02, high=value + 0.02))
    return rows


def latency_rows(measured: bool) -> list[Row]:
    rows = []
    for encoder, cost in (("image", 9.0), ("text", 4.0)):
        for target in ENGINES:
            for precision in ("fp16", "fp8"):
                for batch in (1, 8):
                    ran = measured or target == "onnxruntime"
                    emulated = not measured
                    status = "built, not run" if not ran else "emulated" if emulated else "measured"
                    median = cost * batch**0.9 * (1 if precision == "fp16" else 1.4 if emulated else 0.62)
                    timed = {
                        "median_ms": median,
                        "p95_ms": median * 1.06,
                        "p99_ms": median * 1.13,
                        "throughput": batch * 1000 / median,
                        "rounds": 200,
                        "device": "NVIDIA L4" if measured else "x86-64, 2 cores",
                        "clock_mhz": 2040.0,
                        "load": 0.03,
                    }
                    gain = {"speedup": 1.61, "speedup_low": 1.58, "speedup_high": 1.64}
                    rows.append(
                        make_row(
                            "latency",
                            encoder=encoder,
                            target=target,
                            precision=precision,
                            batch=batch,
                            status=status,
                            note=None if ran else "needs a GPU of compute capability 8.9",
                            **(timed if ran else {}),
                            **(gain if measured and precision == "fp8" else {}),
                        )
                    )
    return rows


def stage_rows() -> list[Row]:
    rows = [make_row("stages", step="checkpoint", wall_s=2.1, peak_rss_mb=210.0)]
    rows.append(make_row("stages", step="calibration", wall_s=13.9, peak_rss_mb=2400.0))
    for encoder in ENCODERS:
        for precision in ("fp16", "fp8"):
            values = {"encoder": encoder, "precision": precision}
            rows.append(make_row("stages", step="onnx export", wall_s=5.3, peak_rss_mb=580.0, **values))
            values["target"] = "trtrtx-sm89"
            rows.append(make_row("stages", step="engine build", wall_s=3.9, peak_rss_mb=1500.0, **values))
    rows.append(make_row("stages", step="accuracy", wall_s=61.0, peak_rss_mb=1900.0))
    rows.append(make_row("stages", step="publish", wall_s=0.3, peak_rss_mb=None))
    return rows


def build_manifest(
    layers: int = 3,
    *,
    wrong: bool = False,
    measured: bool = False,
    unavailable: str | None = None,
    source: str = "openai/clip-vit-large-patch14",
    tables: dict[str, list[Row]] | None = None,
) -> Manifest:
    """A release of a CLIP with `layers` blocks per encoder; `tables` replaces tables by name."""
    made = {
        "encoders": encoder_rows(layers),
        "sizes": size_rows(layers, unavailable),
        "coverage": coverage_rows(layers, wrong),
        "accuracy": accuracy_rows(),
        "latency": latency_rows(measured),
        "stages": stage_rows(),
    }
    data = DataSource(source="digits", digest="b" * 64, samples=512)
    return Manifest(
        model="openai--clip-vit-large-patch14",
        version=4,
        sequence=17,
        created="2026-11-03T02:14:09Z",
        identity="c" * 64,
        provenance=Provenance(
            source=Source(
                kind="hub",
                name=source,
                revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
                digest="d" * 64,
                weights={"model.safetensors": "e" * 64},
                family="clip",
            ),
            calibration=data,
            evaluation=data.model_copy(update={"samples": 2000}),
            recipe="fp8-attention",
            recipe_digest=digest_json({"algorithm": "max"}),
            recipe_content={"quantize": {"algorithm": "max"}},
            parameters={"calibration": {"samples": 512, "batch": 16}, "targets": list(ENGINES), "gates": {}},
            packages={"torch": "2.13.0", "nvidia-modelopt": "0.47.0", "tensorrt-rtx": "1.7.1", "onnx": "1.23.0"},
            device={"cpu": "x86-64", "cores": 2, "gpu": None},
            code="0.1.0",
        ),
        files=(),
        tables={name: tuple(rows) for name, rows in (made | (tables or {})).items()},
    )


def build_evidence(measured: bool = False) -> Evidence:
    """Samples that agree in kind with `build_manifest`."""
    dice = random.Random(7)
    cosines = {}
    for encoder, error in (("image", 8e-4), ("text", 2.8e-3)):
        cosines[f"{encoder} fp16 onnxruntime"] = [1 - abs(dice.gauss(0, 3e-7)) for _ in range(500)]
        cosines[f"{encoder} fp8 onnxruntime"] = [1 - error * dice.lognormvariate(0, 0.5) for _ in range(500)]
    latencies = {}
    for row in latency_rows(measured):
        median = row["median_ms"]
        if isinstance(median, float):
            key = f"{row['encoder']} {row['precision']} {row['target']} batch {row['batch']}"
            latencies[key] = [median * dice.lognormvariate(0, 0.035) for _ in range(200)]
    convergence: list[Row] = []
    for quantizer in range(40):
        seen = 0.0
        for samples in range(16, 513, 16):
            seen = max(seen, dice.lognormvariate(0, 0.06))
            convergence.append({"quantizer": f"layers.{quantizer}.input", "samples": samples, "amax": seen})
    return Evidence(cosines=cosines, latencies_ms=latencies, convergence=convergence)


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    """Makes manifests: see `build_manifest`."""
    return build_manifest


@pytest.fixture
def evidence_of() -> Callable[..., Evidence]:
    """Makes evidence: see `build_evidence`."""
    return build_evidence


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server, which runs as long as the tests do."""
    with moto(tmp_path_factory.mktemp("moto") / "log") as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the S3 server (boto3), and the environment that lets others find it."""
    import boto3

    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")
