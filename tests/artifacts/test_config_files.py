"""Configuration files: what is refused, in which words, and what goes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts import config_files
from artifacts.config_files import mapping, read_file
from artifacts.errors import BadWeights, ConfigError
from artifacts.limits import Limits


def read(path: Path) -> dict[str, Any]:
    return read_file(path, mapping, what="the file", error=ConfigError)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.yaml", b"a: 1\nb: {c: 1, c: 2}\n", "'c' is given twice, line 2"),
        ("a.yaml", b"a: &a {b: 1}\nc: {<<: *a, <<: *a}\n", "'<<' is given twice, line 2"),
        ("a.yaml", b"a: .nan\n", "nan is not a number"),
        ("a.yaml", b"a: [1, -.inf]\n", "-inf is not a number"),
        ("a.yaml", b"a: [1\n", "expected ',' or"),
        ("a.yaml", b"- a\n", "not a mapping"),
        ("a.yaml", b"", "not a mapping"),
        ("a.yaml", b"a: \xe9\n", "utf-8"),
        ("a.yaml", b"a: 2026-13-45\n", "month"),
        ("a.yaml", b"a: " + b"[" * 5000, "recursion"),
        ("a.yaml", b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a.json", b'{"a": 1, "a": 2}', "duplicate key"),
        ("a.json", b'{"a": NaN}', "NaN is not JSON"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json", b"[]", "not a mapping"),
        ("a.json", b'{"a": "\xe9"}', "utf-8"),
    ],
)
def test_what_is_refused(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="the file cannot be read: ") as caught:
        read(tmp_path / name)
    assert reason in caught.value.what
    assert caught.value.where == str(tmp_path / name) and caught.value.expected and caught.value.fix


def test_a_mapping_may_take_over_anothers_keys_and_give_some_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: {b: &b {c: &c {x: 1, y: 1}, d: &d {<<: *c, x: 2}}}\ne: {<<: *d, y: 3}\n")
    assert read(path)["e"] == {"x": 2, "y": 3}
    assert read(path)["a"]["b"]["d"] == {"x": 2, "y": 1}


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "nothing.yaml")
    monkeypatch.setattr(config_files, "_YAML_LIMIT", Limits(bytes=10, values=9))
    monkeypatch.setattr(config_files, "_JSON_LIMIT", Limits(bytes=12, values=9))
    for name, content in (("a.yaml", "a: 4567890"), ("a.json", '{"a": 45678}')):
        (tmp_path / name).write_text(content)
        assert read(tmp_path / name).keys() == {"a"}
        (tmp_path / name).write_text(content + " ")
        with pytest.raises(ConfigError, match="larger than"):
            read(tmp_path / name)


def test_what_a_parser_raises_is_told_as_the_callers_error(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: {b: 1}\n")
    assert read_file(path, lambda content: content["a"]["b"], what="it", error=ConfigError) == 1
    with pytest.raises(BadWeights, match="the index cannot be read: 'c'") as caught:
        read_file(path, lambda content: content["c"], what="the index", error=BadWeights, expected="a c", fix="add it")
    assert (caught.value.expected, caught.value.fix) == ("a c", "add it")
