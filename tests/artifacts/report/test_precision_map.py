"""Precision maps: every module has a cell, and a cell says what the graph holds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import pytest

from artifacts.manifest import Manifest, Row
from artifacts.report.precision_map import precision_map_svg

MakeManifest = Callable[..., Manifest]
SVG = "{http://www.w3.org/2000/svg}"


def parse(rows: Sequence[Row]) -> ET.Element:
    return ET.fromstring(precision_map_svg(rows))


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def cells(svg: ET.Element) -> dict[str, ET.Element]:
    """Groups by the first line of their tooltip."""
    return {(group.findtext(f"{SVG}title") or "").splitlines()[0]: group for group in svg.iter(f"{SVG}g")}


def one(module: str, kind: str = "linear", expected: str = "fp8", actual: str = "fp8") -> Row:
    return {
        "encoder": "text",
        "precision": "fp8",
        "module": module,
        "kind": kind,
        "expected": expected,
        "actual": actual,
        "input_scale": 0.0125,
        "weight_scale": None,
        "weight_bytes": 2_500_000,
        "node": None,
    }


@pytest.fixture
def image_rows(manifest_of: MakeManifest) -> Callable[..., list[Row]]:
    def make(layers: int, *, wrong: bool = False) -> list[Row]:
        rows = manifest_of(layers, wrong=wrong).tables["coverage"]
        return [row for row in rows if row["encoder"] == "image"]

    return make


@pytest.mark.parametrize("layers", [2, 3, 24, 48])
def test_every_module_has_a_cell(image_rows: Callable[..., list[Row]], layers: int) -> None:
    rows = image_rows(layers)
    svg = parse(rows)
    assert len(cells(svg)) == len(rows) == layers * 8 + 3
    assert {"q", "k", "v", "softmax \N{MIDDLE DOT} v", "out", "fc1", "fc2", str(layers - 1)} <= set(texts(svg))
    assert float(svg.get("width", "0")) <= 1300


def test_a_module_that_differs_from_the_recipe_is_outlined(image_rows: Callable[..., list[Row]]) -> None:
    found = cells(parse(image_rows(3, wrong=True)))
    outlined = [name for name, group in found.items() if group[1].get("stroke")]
    assert outlined == ["vision_model.encoder.layers.1.mlp.fc2 (linear)"]
    title = found[outlined[0]].findtext(f"{SVG}title") or ""
    assert "FP16, the recipe asks for FP8" in title


def test_a_tooltip_tells_scales_and_bytes() -> None:
    group = cells(parse([one("m.layers.0.mlp.fc1")]))["m.layers.0.mlp.fc1 (linear)"]
    assert (group.findtext(f"{SVG}title") or "").splitlines()[1:] == ["FP8", "input scale 0.0125", "weight 2.5 MB"]


def test_bert_names_have_the_same_roles() -> None:
    layer = "text_model.encoder.layer.0"
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    rows = [one(f"{layer}.{name}") for name in (*names, "intermediate.dense", "output.dense")]
    assert {"q", "k", "v", "out", "fc1", "fc2"} <= set(texts(parse(rows)))


def test_unknown_names_keep_their_own() -> None:
    svg = parse([one("m.layers.0.mystery.gate"), one("m.layers.1.mystery.gate"), one("head.pool")])
    assert "mystery.gate" in texts(svg)
    assert "head.pool (linear)" in texts(svg)


def test_two_modules_of_one_role_both_show() -> None:
    rows = [one("m.layers.0.self_attn.q_proj"), one("m.layers.0.cross_attn.q_proj")]
    assert len(cells(parse(rows))) == 2


def test_names_are_inert() -> None:
    svg = precision_map_svg([one("m.layers.0.<script>alert(1)</script>\x00"), one('"><script>')])
    assert "<script" not in svg
    assert len(cells(ET.fromstring(svg))) == 2


def test_no_rows_still_make_a_picture() -> None:
    assert parse([]).tag == f"{SVG}svg"
