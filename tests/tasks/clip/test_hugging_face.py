"""A configuration is what transformers' own class makes of it, in every form that published files have."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from artifacts.errors import CheckpointError, ConfigError, MissingEncoder
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import ENCODERS
from tasks.families import family_for, family_named
from tests.published import SWITCHES, published
from tests.tasks.families.support import CONFIGS, NAMES
from tests.wording import refusal

CLIP = family_named("clip")
PUBLISHED = ["clip-vit-base-patch32", "clip-vit-base-patch16", "clip-vit-large-patch14"]
BIGG = "CLIP-ViT-bigG-14-laion2B-39B-b160k"
SECTIONS = ("text_config", "vision_config")


def says(config: Any) -> dict[str, Any]:
    """What a configuration of transformers says, by the fields that its class adds to those all classes share."""
    from transformers import PreTrainedConfig

    shared = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    names = [field.name for field in dataclasses.fields(config) if field.name not in shared]
    values = {name: getattr(config, name) for name in names}
    return {name: says(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}


@pytest.mark.parametrize("name", [*PUBLISHED, BIGG])
def test_a_published_configuration_is_what_transformers_makes_of_it(name: str) -> None:
    from transformers import CLIPConfig

    stored = published(name)
    before = copy.deepcopy(stored)
    config = CLIP.resolve_config(stored)
    CLIP.full_config(stored)
    assert stored == before  # transformers' class writes into what it is given
    expected = says(CLIPConfig.from_dict(before))
    assert {key: value for key, value in expected.items() if key not in SECTIONS}.items() <= config.items()
    for section in SECTIONS:
        assert expected[section].items() <= config[section].items()
        assert f"{section}_dict" not in config
    assert CLIP.resolve_config(config) == config


@pytest.mark.parametrize(
    ("name", "parameters"), zip([*PUBLISHED], [151_277_313, 149_620_737, 427_616_513], strict=True)
)
def test_it_describes_the_model_that_was_published(name: str, parameters: int) -> None:
    """The numbers of parameters are those of OpenAI's checkpoints."""
    with torch.device("meta"):
        model = CLIP.build(CLIP.resolve_config(published(name)))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_repeated_section_overrules_by_its_defaults() -> None:
    """The file of L/14 says end token 2; its `text_config_dict` says none, and so brings the default."""
    from tasks.demo import SNAPSHOT

    ends = {name: CLIP.resolve_config(published(name))["text_config"]["eos_token_id"] for name in (*PUBLISHED, BIGG)}
    assert ends == dict(zip((*PUBLISHED, BIGG), (2, 2, 49407, 49407), strict=True))
    tokenizer = CLIP.tokenizer(SNAPSHOT, None)
    for name, end in ends.items():
        config = CLIP.resolve_config(published(name))
        assert CLIP.pools_at_highest_id(config) == (end == 2)
        assert CLIP.end_token(config, tokenizer) == (tokenizer.eos_token_id if end == 2 else end)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", [*PUBLISHED, BIGG])
def test_layers_are_changed_where_they_count(name: str, encoder: Any) -> None:
    config = CLIP.resolve_config(published(name))
    other = "text" if encoder == "image" else "image"
    shallow = CLIP.with_layers(config, encoder, 1)
    assert CLIP.encoder_spec(shallow, encoder).layers == 1
    assert CLIP.encoder_spec(shallow, other) == CLIP.encoder_spec(config, other)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_may_stand_under_its_old_name_alone(section: str) -> None:
    whole = published("clip-vit-large-patch14")
    alone = {key: value for key, value in whole.items() if key != section}
    for config in (alone, alone | {section: None}):
        assert family_for(config, where="here") is CLIP
        assert CLIP.resolve_config(config) == CLIP.resolve_config(whole)


@pytest.mark.parametrize(("section", "encoder"), [("text_config", "text"), ("vision_config", "image")])
def test_siglip_has_no_old_names(section: str, encoder: str) -> None:
    """Its class would fill the missing section with defaults."""
    config = {key: value for key, value in CONFIGS["siglip"].items() if key != section}
    with pytest.raises(MissingEncoder, match=f"no {encoder} encoder"):
        family_for(config | {f"{section}_dict": CONFIGS["siglip"][section]}, where="here")


@pytest.mark.parametrize("name", ["chinese_clip", "altclip", "metaclip_2"])
def test_other_families_repeat_sections_too(name: str) -> None:
    family, config = family_named(name), CONFIGS[name]
    sections = {f"{section}_dict": config[section] | {"num_hidden_layers": 4} for section in SECTIONS}
    resolved = family.resolve_config(config | sections)
    assert [family.encoder_spec(resolved, encoder).layers for encoder in ENCODERS] == [4, 4]
    assert [family.encoder_spec(family.with_layers(resolved, e, 1), e).layers for e in ENCODERS] == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_switches_are_not_architecture(name: str) -> None:
    family, config = family_named(name), CONFIGS[name]
    switched = config | SWITCHES | {section: config[section] | SWITCHES for section in SECTIONS}
    assert family.resolve_config(switched) == family.resolve_config(config)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"siglip2"}))
def test_a_model_of_one_size_takes_no_other(name: str) -> None:
    family, config = family_named(name), CONFIGS[name]
    assert family.at_size(config, None, where="m") == (config, None)
    with refusal(ConfigError, "some/folder") as caught:
        family.at_size(config, (64, 64), where="some/folder")
    assert caught.value.where == "some/folder" and caught.value.fix == "leave image_size out"


def test_what_is_no_configuration_is_one_error(tmp_path: Any) -> None:
    config = published("clip-vit-base-patch32")
    config["vision_config"]["num_hidden_layers"] = "twelve"
    snapshot = Snapshot(
        kind="folder",
        name="m",
        model="m",
        folder=str(tmp_path),
        revision="0" * 64,
        digest="0" * 64,
        family="clip",
        stored_config=config,
        files=(),
    )
    with refusal(CheckpointError) as caught:
        _ = snapshot.config
    assert caught.value.where == str(tmp_path) and caught.value.fix
