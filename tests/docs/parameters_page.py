"""`docs/parameters.md`, made from the parameter model: `python -m tests.docs.parameters_page` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.parameters import OptimizeParameters

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
_HEAD = """# Parameters

<!-- not run by the tests: python -m tests.docs (writes this page, which a test compares) -->
<!-- run by make test-heavy: clipsmith optimize -->

This page is made from the parameter model (`python -m tests.docs.parameters_page`). `clipsmith optimize --config
FILE.yaml` takes these as YAML, the form in Prefect's UI shows them, and the options of the command line set those that
are needed most. A typo, a wrong type (`"4"` for 4), an impossible profile or a password in a parameter is refused
before anything starts.

Asking for more samples than a set has uses all of it. A bound under `gates` that is null is not judged: see
[gates](releases.md#gates).
"""


def page() -> str:
    """The page as Markdown."""
    plain, sections = _split(OptimizeParameters)
    parts = [_HEAD, "## At the top\n", _table("", OptimizeParameters, plain)]
    for name, field in sections.items():
        parts += [f"## `{name}`\n", *_section(name, field)]
    defaults = yaml.safe_dump(_defaults(), sort_keys=False, default_flow_style=None, width=1000)
    parts += ["## The defaults as YAML\n", f"```yaml\n{defaults}```\n"]
    return "\n".join(parts)


def _defaults() -> dict[str, Any]:
    values = OptimizeParameters().model_dump()
    return values | {"store": ".clipsmith/store"}  # whatever $CLIPSMITH_STORE says here


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    found = field.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _split(model: type[BaseModel]) -> tuple[dict[str, FieldInfo], dict[str, FieldInfo]]:
    """The fields that are values, and those that are sections."""
    fields = model.model_fields
    sections = {name: field for name, field in fields.items() if _model_of(field) is not None}
    return {name: field for name, field in fields.items() if name not in sections}, sections


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    model = _model_of(field)
    assert model is not None
    if field.description:
        yield field.description + "\n"
    plain, sections = _split(model)
    yield _table(f"{name}.", model, plain)
    inner = {_model_of(each) for each in sections.values()}
    for each in inner:  # sections of one kind have one table
        assert each is not None
        names = [n for n, field in sections.items() if _model_of(field) is each]
        yield f"{' and '.join(f'`{name}.{n}`' for n in names)}, each:\n"
        yield _table("", each, each.model_fields)


def _table(prefix: str, model: type[BaseModel], fields: dict[str, FieldInfo]) -> str:
    told = {name: of.get("description") for name, of in model.model_json_schema()["properties"].items()}  # with bounds
    rows = [
        f"| `{prefix}{name}` | {_default(field)} | {_words(field.title, told[name])} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| parameter | default | |", "|---|---|---|", *rows]) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path | str) and str(value).endswith(".clipsmith/store"):
        value = ".clipsmith/store"
    text = yaml.safe_dump(value, default_flow_style=True, width=200).removesuffix("\n...\n").strip()
    return f"`{text}`"


def _words(title: str | None, description: str | None) -> str:
    words = ". ".join(text for text in (title, description) if text)
    assert words, "a parameter must say what it is"
    return " ".join(words.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
