"""How optional values are written in JSON: Prefect's run form has no control for null, and hides fields that are null.

In Python, in YAML and on the command line they stay None or a string. Only their JSON form differs, and
with it the schema that the API checks before a run starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from artifacts.models import Strict

_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"}


@dataclass(frozen=True)
class NullAs:
    """For `number | None`: null is `word` in JSON, and the form offers the word, as `no number`, and the number."""

    word: str
    other: str = "number"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _translated(handler(source), read=self._read, write=self._write)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        (number,) = _without_null(handler(schema))
        # An enum with one value, not a const: for a const the form says that it "cannot be changed".
        word = {"enum": [self.word], "title": f"no {self.other}", "type": "string"}
        return {"anyOf": [word, number | {"title": self.other}]}

    def _read(self, value: Any) -> Any:
        return None if value == self.word else value

    def _write(self, value: Any) -> Any:
        return self.word if value is None else value


@dataclass(frozen=True)
class NullAsBlank:
    """For `str | None`: null is an empty text in JSON, and an empty control in the form."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _translated(handler(source), read=lambda value: None if value == "" else value, write=lambda v: v or "")

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        (text,) = _without_null(handler(schema))
        return text


@dataclass(frozen=True)
class NameOrFile:
    """For a name from a fixed set or the path of a file: the form has a drop-down for names and a text field for paths.

    A path is `{"file": path}` in JSON: the form could not tell two kinds of text apart.
    """

    names: Callable[[], Sequence[str]]
    name_title: str = "built-in"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _translated(handler(source), read=self._read, write=self._write)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = handler(schema)
        file = text | {"title": "File", "description": "Where the worker finds it."}
        return {
            "anyOf": [
                {"enum": list(self.names()), "title": self.name_title, "type": "string"},
                {
                    "additionalProperties": False,
                    "properties": {"file": file},
                    "required": ["file"],
                    "title": "file",
                    "type": "object",
                },
            ]
        }

    def _read(self, value: Any) -> Any:
        return value["file"] if isinstance(value, dict) and value.keys() == {"file"} else value

    def _write(self, value: str) -> Any:
        return value if value in self.names() else {"file": value}


def _translated(schema: CoreSchema, *, read: Callable[[Any], Any], write: Callable[[Any], Any]) -> CoreSchema:
    writing = core_schema.plain_serializer_function_ser_schema(write, when_used="json")
    return core_schema.no_info_before_validator_function(read, schema, serialization=writing)


def _without_null(schema: JsonSchemaValue) -> list[JsonSchemaValue]:
    return [one for one in schema["anyOf"] if one != {"type": "null"}]


def for_forms(schema: JsonSchemaValue, model: type[BaseModel]) -> None:
    """A `json_schema_extra` for models whose fields all have defaults: defaults in their JSON form, bounds in `allOf`
    and in words, and the place of each field.

    PostgreSQL keeps the keys of a schema in an order of its own; the form goes by their `position`.
    Prefect's form drops bounds beside a type before it validates the values, but keeps bounds in an `allOf`: so a
    number out of bounds is reported beside its control. Of a number beside a word it says only that it is not valid:
    the description says what is.
    """
    for position, (name, value) in enumerate(model().model_dump(mode="json").items()):
        field = schema["properties"][name]
        field["position"] = position
        field["default"] = value
        told = " ".join(text for text in (field.get("description"), _bounds(field)) if text)
        if told:
            field["description"] = told
        if _BOUNDS & field.keys():
            field["allOf"] = [{key: field.pop(key) for key in sorted(_BOUNDS | {"type"}) if key in field}]


def _bounds(field: JsonSchemaValue) -> str:
    """The bounds of a number, or of a number beside a word, as a sentence; empty if there are none."""
    for one in (field, *field.get("anyOf", ())):
        least, above = one.get("minimum"), one.get("exclusiveMinimum")
        most, below = one.get("maximum"), one.get("exclusiveMaximum")
        lower = f"at least {least:,}" if least is not None else f"above {above:,}" if above is not None else ""
        upper = f"at most {most:,}" if most is not None else f"below {below:,}" if below is not None else ""
        if least is not None and most is not None:
            return f"{least:,} to {most:,}."
        if lower or upper:
            sentence = " and ".join(text for text in (lower, upper) if text)
            return f"{sentence[0].upper()}{sentence[1:]}."
    return ""


def grouped(schema: JsonSchemaValue, groups: Mapping[str, Sequence[str]]) -> None:
    """Begin the titles of a form's fields with the names of their groups: Prefect's form has no headings.

    Raises:
        ValueError: the fields are not those of the groups, in their order.
    """
    names = [name for fields in groups.values() for name in fields]
    if names != list(schema["properties"]):
        raise ValueError(f"the groups have the fields {names}, the schema has {list(schema['properties'])}")
    for group, fields in groups.items():
        for name in fields:
            field = schema["properties"][name]
            title = field.get("title") or name.replace("_", " ").capitalize()
            field["title"] = f"{group}: {title[0].lower()}{title[1:]}"


class FormModel(Strict):
    """Parameters that people set in Prefect's form or in a file; every field has a default."""

    model_config = ConfigDict(json_schema_extra=for_forms)
