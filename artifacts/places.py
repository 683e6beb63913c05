"""Where the files of a release are in an exported folder, and what they are called there and inside their objects.

An encoder's graphs and engines lie in a folder that has its name.
"""

from __future__ import annotations

MANIFEST = "manifest.json"
PROVENANCE = "provenance.intoto.json"
SIGNATURES = "signatures"
README = "README.md"
BESIDE = (MANIFEST, PROVENANCE, SIGNATURES, README)
"""What an export adds to a release's own files."""

CHECKPOINT, PREPROCESS, TABLES, SCRIPTS = "checkpoint", "preprocess", "tables", "scripts"
EVIDENCE = "evidence"
REPORT = "report.html"

AMAX = "amax.parquet"
MODELOPT_STATE = "modelopt_state.pth"
EMBEDDINGS, KEYS = "embeddings.npy", "keys.json"
SAMPLES = "samples.parquet"
CONVERGENCE = "convergence.parquet"
PARITY = "parity.json"
COSINES = "cosines.json"
LATENCIES = "latencies.json"
DETAILS = "task_details.json"
CLASSES = "classes.json"


def evidence(of: str, *which: str) -> str:
    """The folder of one kind of evidence, for one encoder, precision and target as far as there are several."""
    return f"{EVIDENCE}/{'-'.join((of, *which))}"


EVALUATION = evidence("evaluation")


def within(folder: str, path: str) -> str:
    """The path in an exported folder of a file that lies in `folder`, which is empty for those at the top."""
    return f"{folder}/{path}" if folder else path
