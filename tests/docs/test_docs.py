"""README and docs are true: links and paths lead somewhere, commands and their options exist, and what is made from the
code is the code's. What is printed to be typed is run in `test_printed.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deployments.every_command import COMMANDS, typed
from tests.docs import families_table
from tests.docs.parameters_page import PAGE, page
from tests.docs.printed import PAGES, ROOT

EACH = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
_ANCHOR = re.compile(r"[^\w\- ]")


def anchors(path: Path) -> set[str]:
    """The places in a page that a link can name, as GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {_ANCHOR.sub("", head.lower()).replace(" ", "-") for head in heads}


def indented(text: str) -> Iterator[str]:
    """The lines of code blocks: those that are indented, and those of `sh` fences."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("    "):
            yield line.strip()


def command_lines(path: Path) -> list[str]:
    """Every `clipsmith ...` of a page's blocks, several to a line where `|` parts them, with their continuations."""
    lines: list[str] = []
    for line in indented(path.read_text(encoding="utf-8")):
        words = line.removeprefix(".venv/bin/")
        if words.startswith("clipsmith "):
            lines.append(words)
        elif lines and re.match(r"\[?--[a-z]", words):
            lines[-1] += f" {words}"
    return lines


@EACH
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    for link in inside:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@EACH
def test_paths_of_the_repository_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:artifacts|tasks|flows|deployments|tests|docker|docs)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@EACH
def test_every_page_is_reached_from_the_readme(path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert path.name == "README.md" or f"]({path.relative_to(ROOT).as_posix()})" in readme


@pytest.mark.parametrize(
    ("where", "line"),
    [(path.relative_to(ROOT).as_posix(), line) for path in PAGES for line in command_lines(path)],
)
def test_commands_and_their_options_exist(where: str, line: str) -> None:
    words = line.partition("#")[0].split()
    name = typed(words[1:])
    assert name in COMMANDS, where
    found = COMMANDS[name]
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    others = {
        option
        for other in re.findall(r"\| *([a-z-]+)", line)
        if other in COMMANDS
        for parameter in COMMANDS[other].params
        for option in parameter.opts
    }
    for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line.partition("#")[0]):
        assert option in known | others, f"{where}: {name} has no {option}"


def test_every_command_is_shown_somewhere() -> None:
    lines = [line for path in PAGES for line in command_lines(path)]
    shown = {
        typed(words.split())
        for line in lines
        for words in re.findall(r"(?:^clipsmith|\|) *([a-z-]+(?: [a-z]+)?)", line)
    }
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    shown |= {name for name in COMMANDS if f"`clipsmith {name}" in text}
    assert sorted(COMMANDS.keys() - shown) == []


def test_every_option_of_optimize_is_told() -> None:
    text = (ROOT / "docs" / "your-own-model.md").read_text() + (ROOT / "docs" / "recipes.md").read_text()
    options = {parameter.opts[0] for parameter in COMMANDS["optimize"].params if parameter.opts[0][0] == "-"}
    assert [option for option in sorted(options) if option not in text] == []


def test_the_table_of_families_is_the_registrys() -> None:
    assert families_table.table() in families_table.PAGE.read_text(), "python -m tests.docs.families_table writes it"


def test_the_page_of_parameters_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPSMITH_STORE", raising=False)
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.docs.parameters_page`"


def test_its_yaml_is_taken_as_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.parameters import OptimizeParameters, parse_parameters, read_config

    monkeypatch.delenv("CLIPSMITH_STORE", raising=False)
    (block,) = re.findall(r"```yaml\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "config.yaml").write_text(block)
    given = parse_parameters(read_config(tmp_path / "config.yaml"), where=tmp_path)
    assert given.model_dump(exclude={"store"}) == OptimizeParameters().model_dump(exclude={"store"})


def test_the_variant_of_production_is_sound(tmp_path: Path) -> None:
    from flows.variants import Variant, read_variants

    text = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.+?)```", text, re.DOTALL) if "variants/shop-search" in block]
    indent = min(len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip())
    lines = [line[indent:] for line in block.splitlines()]
    (tmp_path / "shop-search.yaml").write_text("\n".join(lines))
    assert yaml.safe_load("\n".join(lines))["promote"] == "production"
    (found,) = read_variants(tmp_path)
    assert isinstance(found, Variant)
