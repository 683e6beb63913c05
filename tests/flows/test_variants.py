"""Files of variants: what is wrong with one is said of that one, and hides no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from artifacts.errors import ConfigError
from flows.variants import BadVariant, Schedule, Variant, by_schedule, not_variants, read_variants, variants_folder


def only(folder: Path, text: str | bytes) -> Variant | BadVariant:
    """The one variant that this file makes."""
    (folder / "one.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    (found,) = read_variants(folder)
    return found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedule: {timezone: Europe/Brelin}\n", "'Europe/Brelin' is not a time zone"),
        ('schedule: {cron: "99 * * * *"}\n', "'99 * * * *' is not a cron expression: write five fields"),
        ('schedule: {cron: ""}\n', "'' is not a cron expression"),
        ('schedule: {cron: "0 0 3 * * *"}\n', "'0 0 3 * * *' has 6 fields, which would mean seconds, too: write five"),
        ('schedule: {cron: "0 0 3 * * * 2030"}\n', "has 7 fields"),
        ('schedule: {cron: "0 0 30 2 *"}\n', "'0 0 30 2 *' never comes"),
        ('schedule: {cron: "0 0 31 4,jun *"}\n', "'0 0 31 4,jun *' never comes"),
        ("schedule: {hour: 4}\n", "hour: Extra inputs are not permitted"),
        ("name: another\nparamters: {}\n", "paramters: Extra inputs are not permitted"),
        ("promote: not an alias\n", "'not an alias' is not an alias"),
        ("parameters: {profile: {min: 8, opt: 4, max: 16}}\n", "the batch profile is min 8"),
        ("promote: 3\n", "promote"),
        ("parameters: {evaluation: {samples: -1}}\n", "evaluation"),
        ("parameters: [\n", "cannot be read"),
        (b"parameters: {model: \xe9}\n", "cannot be read"),
        ("- a\n- b\n", "not a mapping"),
        ("", "not a mapping"),
    ],
)
def test_a_wrong_file_is_a_bad_variant_that_says_what_is_wrong(tmp_path: Path, text: str | bytes, words: str) -> None:
    found = only(tmp_path, text)
    assert isinstance(found, BadVariant)
    assert words in str(found.error)
    assert str(tmp_path / "one.yaml") in str(found.error)
    assert len(found.error.what.splitlines()) == 1 or "cannot be read" in words


def test_a_bad_file_hides_no_good_one_and_they_come_by_name(tmp_path: Path) -> None:
    for name, text in (("c", "{}\n"), ("a", "{}\n"), ("b", "parameters: [\n"), ("d", "{a: 1}\n")):
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("not a variant")
    (tmp_path / "e.yaml").symlink_to(tmp_path / "nowhere")
    found = read_variants(tmp_path)
    assert [(one.name, type(one)) for one in found] == [
        ("a", Variant),
        ("b", BadVariant),
        ("c", Variant),
        ("d", BadVariant),
        ("e", BadVariant),
    ]


def test_a_variant_is_named_after_its_file(tmp_path: Path) -> None:
    assert only(tmp_path, "name: another\n").name == "one"


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_night(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CLIPSMITH_VARIANTS"):
        read_variants(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no folder of variants"):
        read_variants(tmp_path / "file")


def test_the_folder_is_that_of_the_environment_or_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = Path(__file__).parents[2] / "deployments" / "variants"
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))
    assert variants_folder() == tmp_path
    monkeypatch.setenv("CLIPSMITH_VARIANTS", "")
    assert variants_folder() == packaged
    monkeypatch.delenv("CLIPSMITH_VARIANTS")
    assert variants_folder() == packaged


@pytest.mark.parametrize("cron", ["@daily", "0 0 29 2 *", "0 3 L * *", "*/15 1-5 * * mon-fri"])
def test_crons_that_come(cron: str, tmp_path: Path) -> None:
    assert isinstance(only(tmp_path, f'schedule: {{cron: "{cron}"}}\n'), Variant)


async def read_in_a_loop(folder: Path) -> list[Variant | BadVariant]:
    return read_variants(folder)


def test_a_schedule_is_checked_where_an_event_loop_runs(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text('schedule: {cron: "0 3 * * *"}\n')
    (found,) = asyncio.run(read_in_a_loop(tmp_path))
    assert isinstance(found, Variant)


def test_both_endings_are_read_hidden_files_are_not_and_the_others_are_told(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", ".hidden.yaml", "._a.yaml", ".a.yaml.swp", "b.yml~", "#c.yaml#", ".DS_Store"):
        (tmp_path / name).write_text("{}\n")
    for name in ("README.md", "c.YAML", "d.json", "e"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / "old").mkdir()
    assert [(one.name, type(one)) for one in read_variants(tmp_path)] == [("a", Variant), ("b", Variant)]
    assert not_variants(tmp_path) == ["README.md", "c.YAML", "d.json", "e", "old"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text("{}\n")
    (tmp_path / "shop.yaml").write_text("{}\n")
    (found,) = read_variants(tmp_path)
    assert isinstance(found, BadVariant)
    assert found.error.what == "shop.yaml and shop.yml are both the variant shop"


def test_an_empty_folder_has_a_night_that_tells() -> None:
    assert by_schedule([]) == {Schedule(): []}
