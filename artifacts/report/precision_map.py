"""A picture of one encoder: the precision of every module, block by block, as inline SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from artifacts.inert import visible
from artifacts.manifest import Row
from artifacts.number_words import megabytes
from artifacts.schema import number

_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|resblocks)\.(\d+)\.(.+)")
_QK, _PV = "q \N{MIDDLE DOT} k\N{MODIFIER LETTER CAPITAL T}", "softmax \N{MIDDLE DOT} v"
# The order of a block's modules in the map. Other modules keep their own names and come after these.
_ROLES = ("q", "k", "v", _QK, _PV, "out", "fc1", "fc2")
_KINDS = {"bmm_qk": _QK, "bmm_pv": _PV}
_SUFFIXES = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "out_proj": "out",
    "query": "q",
    "key": "k",
    "value": "v",
    "attention.output.dense": "out",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "fc1": "fc1",
    "fc2": "fc2",
}

_FILLS = {"fp8": ("#1d4ed8", "#ffffff", "8"), "fp16": ("#dbe2ea", "#1f2937", "16")}
_OTHER_FILL = ("#fde68a", "#1f2937", "?")
_ABSENT, _WRONG, _INK, _QUIET = "#f6f7f9", "#dc2626", "#1f2937", "#5b6675"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
_CELL_HEIGHT, _GAP, _CHARACTER, _NARROWEST = 22, 3, 6.8, 500.0


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float = _CELL_HEIGHT


def precision_map_svg(rows: Sequence[Row]) -> str:
    """An SVG of the coverage rows of one encoder: a column per block, a line per module, the rest as a strip below.

    A cell's colour and text show the precision found in the graph; a red outline means that another one was asked for.
    """
    cells, others = _place(rows)
    found = dict.fromkeys(role for role, _ in cells)
    roles = [*(role for role in _ROLES if role in found), *(role for role in found if role not in _ROLES)]
    layers = sorted({layer for _, layer in cells})
    left = 16 + _CHARACTER * max((len(role) for role in roles), default=0)
    step = min(44.0, max(23.0, 900 / max(len(layers), 1)))
    width = max(left + step * len(layers), _NARROWEST)

    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": _FONT})
    svg.set("font-size", "12")
    svg.set("aria-label", _summary(rows))
    bottom = _legend(svg)
    if cells:
        bottom = _grid(svg, cells, roles, layers, _Box(left, bottom, step))
    bottom = _strip(svg, others, width, bottom)
    svg.set("viewBox", f"0 0 {width:g} {bottom:g}")
    svg.set("width", f"{width:g}")
    svg.set("height", f"{bottom:g}")
    return ET.tostring(svg, encoding="unicode")


def _place(rows: Iterable[Row]) -> tuple[dict[tuple[str, int], Row], list[Row]]:
    """Split rows into those of a block, by (role, layer), and the others."""
    cells: dict[tuple[str, int], Row] = {}
    others: list[Row] = []
    for row in rows:
        found = _LAYER.search(str(row["module"]))
        if found is None:
            others.append(row)
            continue
        layer, role = int(found[1]), _role(str(row["kind"]), found[2])
        # Two modules of one role in one block (a second attention, say): the later one keeps its full name.
        cells[f"{found[2]} {row['kind']}" if (role, layer) in cells else role, layer] = row
    return cells, others


def _role(kind: str, suffix: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    ends = (role for end, role in _SUFFIXES.items() if suffix == end or suffix.endswith(f".{end}"))
    return next(ends, suffix)


def _grid(
    svg: ET.Element, cells: dict[tuple[str, int], Row], roles: Sequence[str], layers: Sequence[int], origin: _Box
) -> float:
    for column, layer in enumerate(layers):
        middle = origin.x + origin.width * (column + 0.5)
        _text(svg, middle, origin.y + 12, str(layer), fill=_QUIET, anchor="middle", size=11)
    _text(svg, origin.x - 10, origin.y + 12, "block", fill=_QUIET, anchor="end", size=11)
    top = origin.y + 20
    for line, role in enumerate(roles):
        y = top + line * (_CELL_HEIGHT + _GAP)
        _text(svg, origin.x - 10, y + 15, role, anchor="end")
        for column, layer in enumerate(layers):
            box = _Box(origin.x + origin.width * column, y, origin.width - _GAP)
            row = cells.get((role, layer))
            if row is None:
                _rectangle(svg, box, _ABSENT)
            else:
                _cell(svg, row, box)
    return top + len(roles) * (_CELL_HEIGHT + _GAP) + 8


def _strip(svg: ET.Element, rows: Sequence[Row], width: float, top: float) -> float:
    """Modules outside the blocks, a cell and a name each, in as many columns as fit."""
    if not rows:
        return top
    names = [f"{visible(str(row['module']))} ({row['kind']})" for row in rows]
    step = 48 + _CHARACTER * max(map(len, names))
    columns = max(1, int(width // step))
    _text(svg, 0, top + 14, "outside the blocks", fill=_QUIET, size=11)
    top += 22
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        x, y = (index % columns) * step, top + (index // columns) * (_CELL_HEIGHT + _GAP)
        _cell(svg, row, _Box(x + 2, y, 26))
        _text(svg, x + 36, y + 15, name)
    return top + -(-len(rows) // columns) * (_CELL_HEIGHT + _GAP) + 4


def _legend(svg: ET.Element) -> float:
    entries = (("fp8", "FP8", False), ("fp16", "FP16", False), ("fp16", "not what the recipe asks for", True))
    x = 2.0
    for precision, label, wrong in entries:
        _mark(svg, _Box(x, 2, 26), precision, wrong=wrong)
        _text(svg, x + 34, 17, label)
        x += 34 + _CHARACTER * len(label) + 22
    return 42.0


def _cell(svg: ET.Element, row: Row, box: _Box) -> None:
    group = ET.SubElement(svg, "g")
    ET.SubElement(group, "title").text = _tooltip(row)
    _mark(group, box, str(row["actual"]), wrong=row["actual"] != row["expected"])


def _mark(parent: ET.Element, box: _Box, precision: str, *, wrong: bool) -> None:
    fill, ink, figure = _FILLS.get(precision, _OTHER_FILL)
    _rectangle(parent, box, fill, wrong=wrong)
    _text(parent, box.x + box.width / 2, box.y + 15, figure, fill=ink, anchor="middle", size=11)


def _rectangle(parent: ET.Element, box: _Box, fill: str, *, wrong: bool = False) -> None:
    # A stroke is drawn half outside its shape; drawing it inside keeps it off the neighbours.
    inset = 1.25 if wrong else 0.0
    shape = {
        "x": f"{box.x + inset:g}",
        "y": f"{box.y + inset:g}",
        "width": f"{box.width - 2 * inset:g}",
        "height": f"{box.height - 2 * inset:g}",
        "rx": "3",
        "fill": fill,
    }
    ET.SubElement(parent, "rect", shape | ({"stroke": _WRONG, "stroke-width": "2.5"} if wrong else {}))


def _text(
    parent: ET.Element, x: float, y: float, text: str, *, fill: str = _INK, anchor: str = "start", size: int = 12
) -> None:
    attributes = {"x": f"{x:g}", "y": f"{y:g}", "fill": fill, "text-anchor": anchor, "font-size": str(size)}
    ET.SubElement(parent, "text", attributes).text = visible(text)


def _tooltip(row: Row) -> str:
    lines = [f"{row['module']} ({row['kind']})", f"{row['actual']}".upper()]
    if row["actual"] != row["expected"]:
        lines[1] += f", the recipe asks for {row['expected']}".replace("fp", "FP")
    for name, label in (("input_scale", "input scale"), ("weight_scale", "weight scale")):
        scale = number(row, name)
        if scale is not None:
            lines.append(f"{label} {scale:.6g}")
    size = number(row, "weight_bytes")
    if size:
        lines.append(f"weight {megabytes(size)}")
    return visible("\n".join(lines), lines=True)


def _summary(rows: Sequence[Row]) -> str:
    fp8 = sum(row["actual"] == "fp8" for row in rows)
    wrong = sum(row["actual"] != row["expected"] for row in rows)
    return f"Precision map: {fp8} of {len(rows)} modules are FP8, {wrong} differ from the recipe"
