"""Prefect's run form and the API's check, both made of the JSON schema of `optimize`'s parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate
from prefect.utilities.schema_tools.validation import ValidationError

from artifacts.prefect_forms import grouped
from flows.optimize import optimize
from flows.parameters import GROUPS, OptimizeParameters
from tasks.engines import known_targets
from tasks.quantizing.recipe import builtin_names

SCHEMA: dict[str, Any] = parameter_schema(optimize).model_dump()
DEFINITIONS: dict[str, Any] = SCHEMA["definitions"]
TOP: dict[str, Any] = DEFINITIONS["OptimizeParameters"]["properties"]


def controls() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every section: what the form draws a control for."""
    for name, definition in DEFINITIONS.items():
        for field, schema in definition["properties"].items():
            yield f"{name}.{field}", schema


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The tabs of a control."""
    (inside,) = schema.get("allOf", [{}])
    return schema.get("anyOf", [schema | inside])


def refused(**parameters: Any) -> bool:
    """Whether the API refuses to start a run with these."""
    try:
        validate({"parameters": parameters}, SCHEMA, raise_on_error=True, preprocess=False)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize(("field", "schema"), list(controls()), ids=[name for name, _ in controls()])
def test_every_field_reads_well(field: str, schema: dict[str, Any]) -> None:
    assert "default" in schema, f"{field} would be drawn without its value"
    if "$ref" in schema:
        schema = DEFINITIONS[schema["$ref"].rpartition("/")[2]] | schema
    assert schema["title"] or schema["$ref"]
    assert all(one.get("type") not in (None, "null") for one in alternatives(schema)), "no control, or raw JSON"
    for one in alternatives(schema):
        if one["type"] in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & one.keys()
            assert "maximum" in one
    if not field.startswith("BatchProfile."):  # its card describes the three of them together
        assert len(schema["description"]) >= 10


def test_fields_say_their_places() -> None:
    """PostgreSQL keeps the fields by the lengths of their names; the form goes by this."""
    models = {name: one["properties"] for name, one in DEFINITIONS.items() if "position" in str(one)}
    assert {"OptimizeParameters", "CalibrationParameters", "Gates"} <= models.keys()
    for name, fields in models.items():
        assert [field["position"] for field in fields.values()] == list(range(len(fields))), name
    assert list(TOP) == [name for names in GROUPS.values() for name in names]


def test_the_form_knows_the_bounds() -> None:
    """It forgets those that stand beside the type, and keeps what is in allOf, anyOf or items."""
    outside = {name for name, schema in controls() if {"minimum", "maximum", "exclusiveMinimum"} & schema.keys()}
    assert outside == set()


def test_every_number_tells_its_bounds_in_words() -> None:
    """Of a number beside a word, Prefect's form says only that it is not valid."""
    told = {name: schema.get("description", "") for name, schema in controls()}
    ways = ((name, one) for name, schema in controls() for one in alternatives(schema))
    numbers = {name: one for name, one in ways if one.get("type") in ("integer", "number")}
    assert len(numbers) > 15
    for name, one in numbers.items():
        assert f"{one['maximum']:,}." in told[name], name
    assert told["CalibrationParameters.samples"].endswith("8 to 10,000,000.")
    assert told["LatencySettings.seconds"].endswith("Above 0 and at most 3,600.")


def test_fields_come_in_groups() -> None:
    groups = [schema["title"].partition(": ")[0] for schema in TOP.values()]
    assert list(dict.fromkeys(groups)) == list(GROUPS)
    assert groups == sorted(groups, key=list(GROUPS).index), "each group is in one piece"
    assert TOP["name"]["title"] == "What: name of the model"
    with pytest.raises(ValueError, match="the groups have the fields"):
        grouped({"properties": {"model": {}, "a new field": {}}}, {"What": ("model",)})


def test_no_word_is_both_the_name_of_a_tab_and_what_it_offers() -> None:
    tabs = [one for _, schema in controls() for one in alternatives(schema) if "anyOf" in schema]
    assert {one["title"] for one in tabs if one.get("enum") == ["automatic"]} == {"no number", "no height, width"}
    assert all(one["title"] not in one.get("enum", ()) for one in tabs)


def test_fixed_choices_are_drop_downs() -> None:
    assert TOP["encoders"]["items"]["enum"] == ["image", "text"]
    assert TOP["precisions"]["items"]["enum"] == ["fp16", "fp8"]
    assert TOP["targets"]["items"]["enum"] == list(known_targets())
    assert TOP["recipe"]["anyOf"][0]["enum"] == builtin_names()
    method = DEFINITIONS["EncoderCalibration"]["properties"]["method"]
    assert (method["enum"], method["default"]) == (["max", "percentile", "mse", "auto"], "max")


def test_what_the_form_shows_first_is_accepted_and_is_the_demo() -> None:
    default = SCHEMA["properties"]["parameters"]["default"]
    assert not refused(**default)
    assert OptimizeParameters.model_validate(default) == OptimizeParameters()
    for field, schema in controls():
        name, _, key = field.partition(".")
        if name == "OptimizeParameters":
            assert schema["default"] == default[key]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"calibration": {"samples": 8, "batch": 4096, "source": "digits"}},
        {"calibration": {"samples": "automatic", "source": ""}, "revision": ""},
        {"calibration": {"image": {"method": "percentile", "percentile": 99.9}, "text": {"method": "auto"}}},
        {"recipe": "fp8-compact"},
        {"recipe": {"file": "/recipes/mine.yaml"}},
        {"targets": []},
        {"image_size": [384, 256]},
        {"image_size": "automatic"},
        {"gates": {"max_top1_drop": 0.005, "min_cosine_mean": "not judged"}},
        {"latency": {"seconds": 1}},
        {"model": "/models/exported"},
        {"model": "openai/clip-vit-base-patch32", "precisions": ["fp16"]},
        {"model": "openai/clip-vit-base-patch32", "calibration": {"source": "digits"}},
    ],
    ids=str,
)
def test_good_values_pass_the_api_and_survive_the_way_to_the_worker(values: dict[str, Any]) -> None:
    assert not refused(**values)
    parameters = OptimizeParameters.model_validate(values)
    sent = parameters.model_dump(mode="json")
    assert not refused(**sent)
    assert OptimizeParameters.model_validate(sent) == parameters


def test_words_of_the_form_are_null_in_python() -> None:
    form = {"calibration": {"samples": "automatic", "batch": "automatic", "source": ""}, "revision": ""}
    null = {"calibration": {"samples": None, "batch": None, "source": None}, "revision": None}
    assert OptimizeParameters.model_validate(form) == OptimizeParameters.model_validate(null) == OptimizeParameters()
    assert OptimizeParameters.model_validate({"gates": {"min_cosine_mean": "not judged"}}).gates.min_cosine_mean is None
    assert OptimizeParameters.model_validate({"recipe": {"file": "a/b.yaml"}}).recipe == "a/b.yaml"


@pytest.mark.parametrize(
    "values",
    [
        {"modell": "x"},
        {"model": ""},
        {"encoders": []},
        {"encoders": ["audio"]},
        {"encoders": ["text", "text"]},
        {"precisions": ["int8"]},
        {"targets": ["trtrtx-sm1"]},
        {"targets": ["onnxruntime", "onnxruntime"]},
        {"recipe": "fp7"},
        {"recipe": {"file": ""}},
        {"image_size": [256]},
        {"image_size": [256, 256, 3]},
        {"image_size": [0, 256]},
        {"image_size": "256"},
        {"calibration": {"samples": 7}},
        {"calibration": {"samples": "many"}},
        {"calibration": {"batch": 0}},
        {"calibration": {"preset": "big"}},
        {"calibration": {"image": {"method": "entropy"}}},
        {"calibration": {"text": {"percentile": 100}}},
        {"calibration": {"text": {"percentile": 89.9}}},
        {"evaluation": {"batch": 4097}},
        {"profile": {"min": 0}},
        {"latency": {"batches": []}},
        {"latency": {"batches": [0]}},
        {"latency": {"rounds": 2}},
        {"latency": {"seconds": 0}},
        {"gates": {"min_cosine_mean": 1.01}},
        {"gates": {"max_top1_drop": 0}},
        {"model": "openai/clip-vit-base-patch32"},
        {"model": "openai/clip-vit-base-patch32", "calibration": {"source": ""}},
    ],
    ids=str,
)
def test_bad_values_are_refused_before_a_run_starts(values: dict[str, Any]) -> None:
    assert refused(**values)
