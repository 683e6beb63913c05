"""Names that people type: nothing but plain ones gets near a file system."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import BadName
from artifacts.names import check_model_name, model_name_from, parse_reference

HOSTILE = [
    "",
    "../x",
    "..",
    ".",
    "a..b",
    "a\n",
    "\na",
    "-rf",
    "--store",
    "a-",
    ".hidden",
    "a/b",
    "a\\b",
    "a\0",
    "\0",
    "A",
    "ä",
    "a b",
    "a@1",
    "$(ls)",
    "a;b",
    "m" * 101,
    "m" * 300,
    "\u0661",
    "a\u200b",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_model_name(name)


@pytest.mark.parametrize("name", [n for n in HOSTILE if n != "a@1"], ids=ascii)
def test_hostile_references_are_refused(name: str) -> None:
    for text in (name, f"{name}@1"):
        with pytest.raises(BadName):
            parse_reference(text)


@pytest.mark.parametrize("version", ["0", "01", "-1", "1.0", "1e3", "x", "", "1\n", " 1", "9999999999", "\u0661"])
def test_bad_versions_are_refused(version: str) -> None:
    with pytest.raises(BadName):
        parse_reference(f"demo@{version}")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("demo", {"model": "demo"}),
        ("demo@12", {"model": "demo", "version": 12}),
        ("demo:production", {"model": "demo", "alias": "production"}),
        ("0123abc", {"model": "0123abc"}),  # seven digits are a name
        ("0123abcd", {"model": "0123abcd", "digest_prefix": "0123abcd"}),  # the store knows which
    ],
)
def test_references(text: str, parts: dict[str, object]) -> None:
    assert parse_reference(text).model_dump(exclude_none=True) == parts


@pytest.mark.parametrize(
    "alias", ["", "Production", "1st", "-a", "a-", "a_b", "a\n", "../x", "a" * 51, "a b", "a@1", "\u0430"]
)
def test_bad_aliases_are_refused(alias: str) -> None:
    with pytest.raises(BadName, match="not an alias"):
        parse_reference(f"demo:{alias}")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("openai/clip-vit-base-patch32", "openai--clip-vit-base-patch32"),
        ("ViT-B-32", "vit-b-32"),
        ("../..", "model"),
        ("x" * 300, "x" * 100),
        ("日本", "model-cf2abf0c"),
        ("日本/2024", "2024-b8aa70ef"),
        ("a...b", "a.b"),
    ],
)
def test_store_names_of_sources(source: str, name: str) -> None:
    assert model_name_from(source) == name


def test_names_in_other_scripts_are_told_apart_in_either_unicode_form() -> None:
    names = {model_name_from(source) for source in ("犬", "猫", "\N{GREEK SMALL LETTER ALPHA WITH TONOS}", "\udce9é")}
    assert len(names) == 4
    assert all(name.startswith("model-") for name in names)
    forms = ("\N{GREEK SMALL LETTER ALPHA WITH TONOS}", "\N{GREEK SMALL LETTER ALPHA}\N{COMBINING ACUTE ACCENT}")
    assert len({model_name_from(form) for form in forms}) == 1


@given(st.text(max_size=300))
def test_any_source_has_a_safe_name(source: str) -> None:
    name = model_name_from(source)
    assert set(name) <= set(string.ascii_lowercase + string.digits + "._-")
    assert 1 <= len(name) <= 100
    assert name[0] not in "._-"
    assert ".." not in name
    assert check_model_name(name) == name


@given(st.text(alphabet="ab.-_@1\n\0/A", max_size=12))
def test_accepted_names_are_plain(text: str) -> None:
    try:
        check_model_name(text)
    except BadName:
        return
    assert text.isascii()
    assert not set(text) & set("\n\0/A@")
    assert text[0].isalnum() and text[-1].isalnum()
