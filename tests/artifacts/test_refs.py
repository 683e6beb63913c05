"""References are digests of content: nothing else moves them, and paths in them stay inside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from artifacts.refs import ArtifactRef, FileEntry, canonical_json, digest_file, digest_json

SHA = hashlib.sha256(b"x").hexdigest()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def entry(path: str, content: bytes = b"x") -> FileEntry:
    return FileEntry(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\0", "a\n", "a b", "ä", "~", "a\\b", "x" * 241, ".."],
    ids=ascii,
)
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        entry(path)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"], ids=ascii)
def test_digests_are_64_hex_digits(digest: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path="a", sha256=digest, size=1)


def test_digest_is_the_sha256_of_the_listed_files() -> None:
    ref = ArtifactRef.of("onnx", [entry("b/c", b"2"), entry("a", b"one")])
    rows = [
        {"path": "a", "sha256": hashlib.sha256(b"one").hexdigest(), "size": 3},
        {"path": "b/c", "sha256": hashlib.sha256(b"2").hexdigest(), "size": 1},
    ]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    assert ref.digest == hashlib.sha256(text.encode()).hexdigest()
    assert ref.size == 4
    assert ref == ArtifactRef.of("onnx", reversed(ref.files))
    assert ArtifactRef.of("other", ref.files).digest == ref.digest
    assert ArtifactRef.of("onnx", [entry("a", b"one"), entry("b/c", b"3")]).digest != ref.digest
    assert ArtifactRef.of("onnx", [entry("a", b"one"), entry("b/d", b"2")]).digest != ref.digest
    assert ref.entry("b/c").size == 1
    with pytest.raises(KeyError, match="nothing"):
        ref.entry("nothing")


@given(JSON)
def test_canonical_json_is_json_and_one_form(value: object) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data
    assert digest_json(value) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")], {"a": float("nan")}])
def test_canonical_json_refuses_what_is_not_json(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_canonical_json_ignores_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


def test_digest_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(data)
    assert digest_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()
