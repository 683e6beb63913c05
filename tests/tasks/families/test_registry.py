"""The registry knows CLIP checkpoints from others, and names what half a model lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from artifacts.errors import MissingEncoder, NotClip, UnsupportedVariant
from tasks.demo import SNAPSHOT
from tasks.families import FAMILIES, family_for, family_named


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads((SNAPSHOT / "config.json").read_text())


def test_clip_is_found(config: dict[str, Any]) -> None:
    assert family_for(config, where="here") is family_named("clip")


def test_names_and_types_are_unique() -> None:
    names = [family.name for family in FAMILIES]
    types = [kind for family in FAMILIES for kind in family.model_types]
    assert len(set(names)) == len(names) and len(set(types)) == len(types)


def test_families_are_transformers_types() -> None:
    """Other than towers of our own, which transformers has no class for."""
    from transformers import CONFIG_MAPPING

    for family in FAMILIES:
        for kind in set(family.model_types) - {"openclip_towers"}:
            assert hasattr(CONFIG_MAPPING[kind](), "vision_config") and hasattr(CONFIG_MAPPING[kind](), "text_config")


@pytest.mark.parametrize(("section", "encoder"), [("text_config", "text"), ("vision_config", "image")])
@pytest.mark.parametrize("value", [None, "gone", [], 3])
def test_a_missing_section_names_the_encoder(config: dict[str, Any], section: str, encoder: str, value: Any) -> None:
    config.pop(section)
    if value != "gone":
        config[section] = value
    with pytest.raises(MissingEncoder, match=f"no {encoder} encoder") as caught:
        family_for(config, where="/some/config.json")
    assert "/some/config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("clip_text_model", "image"),
        ("clip_vision_model", "text"),
        ("siglip_text_model", "image"),
        ("siglip_vision_model", "text"),
        ("siglip2_text_model", "image"),
        ("siglip2_vision_model", "text"),
    ],
)
def test_half_a_model_names_the_other_half(kind: str, missing: str) -> None:
    with pytest.raises(MissingEncoder, match=f"no {missing} encoder"):
        family_for({"model_type": kind}, where="here")


@pytest.mark.parametrize("kind", ["bert", "blip", "CLIP", "", None, 7, ["clip"]])
def test_anything_else_is_not_clip(kind: Any, config: dict[str, Any]) -> None:
    with pytest.raises(NotClip, match="model_type is") as caught:
        family_for({**config, "model_type": kind}, where="here")
    assert "clip" in caught.value.expected


def test_no_type_at_all() -> None:
    with pytest.raises(NotClip):
        family_for({}, where="here")


def test_unknown_name() -> None:
    with pytest.raises(KeyError):
        family_named("bert")


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglip_without_its_head_is_refused(kind: str) -> None:
    config = {"model_type": kind, "text_config": {}, "vision_config": {"vision_use_head": False}}
    family = family_for(config, where="here")
    for call in (family.build, lambda config: family.encoder_spec(config, "image")):
        with pytest.raises(UnsupportedVariant, match="pooling head"):
            call(config)


@pytest.mark.parametrize("name", ["clip", "metaclip_2", "siglip", "siglip2", "chinese_clip", "altclip"])
def test_every_family_is_found_by_its_type(name: str, config: dict[str, Any]) -> None:
    assert family_for({**config, "model_type": name}, where="here").name == name
