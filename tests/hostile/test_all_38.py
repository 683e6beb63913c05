"""The 38 bad inputs, and where each has its test: `test_NN_...`, here by number.

| | bad input | error | file |
|---|---|---|---|
| 1 | missing model or revision | CheckpointNotFound | test_checkpoints |
| 2 | not a CLIP model | NotClip | test_checkpoints |
| 3 | text-only or vision-only model | MissingEncoder | test_checkpoints |
| 4 | NaN or Inf weights | BadWeights | test_checkpoints |
| 5 | missing or extra keys | BadWeights | test_checkpoints |
| 6 | image size unlike the configuration | CheckpointError | test_checkpoints |
| 7 | truncated JPEG | counted; BadSample above 1 % | test_data |
| 8 | bit-flipped JPEG | recorded by hash; DataError when it changes | test_data |
| 9 | decompression bomb | BadSample | test_data |
| 10 | CMYK, palette, alpha, 16-bit, EXIF-rotated, animated | none: one conversion | test_data |
| 11 | empty calibration set | TooFewSamples | test_data |
| 12 | identical images; amax 0 | DegenerateData; BadAmax | test_data |
| 13 | too few samples | TooFewSamples | test_data |
| 14 | calibration overlaps evaluation | DataOverlap | test_data |
| 15 | caption longer than the context | counted; CaptionTooLong in strict mode | test_data |
| 16 | invalid UTF-8 | DataError with the line | test_data |
| 17 | empty caption; no end token | DataError; CheckpointError | test_data |
| 18 | wrong dtype or layout | DataError; WrongInput | test_data |
| 19 | profile not min <= opt <= max, or 0 | ProfileError | test_engines |
| 20 | batch outside the profile at run time | BatchOutsideProfile | test_engines |
| 21 | engine from another GPU or TensorRT version | EngineMismatch | test_engines |
| 22 | truncated ONNX | AuditError | test_engines |
| 23 | external data missing | AuditError | test_engines |
| 24 | external data short | AuditError | test_engines |
| 25 | external data elsewhere | AuditError | test_engines |
| 26 | FP8 asked for, no Q/DQ in the graph | AuditError | test_engines |
| 27 | GPU without FP8 | Fp8Unavailable | test_engines |
| 28 | read-only store | StoreReadOnly | test_store |
| 29 | disk full | NotEnoughSpace before any work | test_store |
| 30 | pickle checkpoints | UnsafeCheckpoint | test_checkpoints |
| 31 | names that are no names | BadName and relatives | test_store |
| 32 | configuration typo, or "4" for 4 | ConfigError | test_parameters |
| 33 | JSON with NaN or duplicate keys | DamagedManifest, NotClip, CheckpointError, BadWeights | test_checkpoints |
| 34 | tolerance not in (0, 1]; baseline equal to candidate | ConfigError; SameAsBaseline | test_parameters |
| 35 | native crash or out of memory in a builder | BuilderCrash | test_engines |
| 36 | GPU busy or throttled | none: the row is marked invalid | test_engines |
| 37 | alias to an unknown version; concurrent promote | ReleaseNotFound; AliasMoved | test_store |
| 38 | store on a network file system | UnsupportedFileSystem | test_store |

Relatives of these are in `test_bad_inputs` and `test_forgeries`; random ones in `test_fuzz`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent


def _tested() -> dict[int, set[str]]:
    """Number -> the files that have a test of it."""
    found: dict[int, set[str]] = {}
    for path in FOLDER.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match = re.fullmatch(r"test_(\d\d)_\w+", node.name) if isinstance(node, ast.FunctionDef) else None
            if match:
                found.setdefault(int(match[1]), set()).add(path.stem)
    return found


def test_every_bad_input_has_its_test_where_the_table_says() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (\w+) \|$", __doc__ or "", flags=re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 39))
    assert {int(number): {file} for number, file in rows} == _tested()
