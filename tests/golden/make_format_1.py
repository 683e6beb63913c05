"""How `format-1/` was made, once: `python -m tests.golden.make_format_1`. It is not made again: later versions read it.

A store of format 1 that has everything in it: two models, a retired version, a rejected release that was promoted by
force, an alias with a rollback in its history, a signature, a policy, objects that releases share.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from artifacts.keeping import promotion
from artifacts.keeping.promotion import promote, rollback
from artifacts.manifest import DataSource, GateResult, Manifest, Provenance, Source
from artifacts.refs import ArtifactRef
from artifacts.store import aliases, signatures
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, files_of

GOLDEN = Path(__file__).parent / "format-1"
DATA = DataSource(source="digits", digest="a1" * 32, samples=512, skipped=3, truncated=1)
SIZES = ({"encoder": "image", "precision": "fp8", "target": "onnx", "bytes": 714_000, "vs_fp16": 0.555},)


def provenance(model: str) -> Provenance:
    source = Source(
        kind="hub",
        name=f"openai/{model}",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        digest="b2" * 32,
        weights={"model.safetensors": "c3" * 32},
        family="clip",
    )
    return Provenance(
        source=source,
        calibration=DATA,
        evaluation=DATA.model_copy(update={"samples": 500, "skipped": 0, "truncated": 0}),
        recipe="fp8",
        recipe_digest="d4" * 32,
        recipe_content={"quantize": {"algorithm": "max", "scale": 0.5, "on": True, "off": None}},
        parameters={"precisions": ["fp16", "fp8"], "profile": {"max": 32, "min": 1, "opt": 8}},
        packages={"onnx": "1.23.0", "torch": "2.13.0"},
        device={"cores": 2, "cpu": "x86-64", "gpu": None},
        code="0.2.0",
        parents=("e5" * 32,),
    )


def publish(store: Store, model: str, number: int, *gates: GateResult) -> ArtifactRef:
    """One release of three files, two of them in an object that all releases share."""
    own = add(store, f"{model} {number}\n".encode(), "fp8.onnx", kind="onnx")
    with store.staging() as folder:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.json").write_text('{"a": 0}\n')
        (folder / "preprocessor_config.json").write_text("{}\n")
        shared = store.add("preprocess", folder)

    def build(version: int, sequence: int) -> Manifest:
        (onnx,) = files_of(own, "image")
        onnx = onnx.model_copy(update={"encoder": "image", "precision": "fp8"})
        return Manifest(
            model=model,
            version=version,
            sequence=sequence,
            created=f"2026-11-{number:02d}T00:00:00+00:00",
            identity=digest(f"{model} {number}"),
            provenance=provenance(model),
            files=(onnx, *files_of(shared, "preprocess")),
            tables={"sizes": SIZES},
            gates=gates,
        )

    store.publish(model, digest(f"{model} {number}"), build)
    return own


def main() -> None:
    store = Store.open(GOLDEN)
    passed = GateResult(name="max_size_ratio", status="passed", max=0.98, value=0.555, metric=None, encoder="image")
    failed = GateResult(name="min_cosine_mean", status="failed", min=0.9, value=0.5, low=0.4, high=0.6)
    for number in (1, 2, 3):
        publish(store, "alpha", number, passed)
    publish(store, "beta", 1)
    publish(store, "beta", 2, passed, failed)
    promote(store, "alpha@2", "production", why="the first that works")
    promote(store, "alpha@3", "production")
    rollback(store, "alpha", "production", why="too slow")
    promote(store, "alpha@3", "staging")
    promote(store, "beta@2", "production", force=True, why="for a demonstration")
    key = ec.generate_private_key(ec.SECP256R1())
    private = GOLDEN / "private.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    signatures.sign(store, store.find("alpha@3"), private, None)
    private.unlink()
    (GOLDEN / "keys").mkdir()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (GOLDEN / "keys" / "release.pem").write_bytes(public)
    (GOLDEN / "policy.yaml").write_text("promotion: {require_signature: [keys/release.pem]}\n")
    store.close()
    collect(store, keep=2)
    collect(store)
    store.close()
    for name in ("staging", "leases", "locks", "quarantine", "cache"):
        shutil.rmtree(GOLDEN / name)
    (GOLDEN / "publish.lock").unlink()
    assert aliases.current(GOLDEN, "alpha", "production").version == 2


if __name__ == "__main__":
    assert not GOLDEN.exists(), "the golden store is made once and never again"
    with (
        mock.patch.object(promotion, "current_user", lambda: "ann@example"),
        mock.patch.object(signatures, "current_user", lambda: "ann@example"),
    ):
        main()
