"""What differs between two releases, for people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from artifacts import format as words
from artifacts.comparison import Change, Comparison, MetricChange
from artifacts.measurements import Measurement
from deployments.console import plain_table, stdout

_SCALE = re.compile(r"(?:input|weight)_scale")
_DIGEST = re.compile(r"[0-9a-f]{40,64}")


def print_comparison(found: Comparison) -> None:
    """A table per subject, then one per table of metrics; what is equal is not there."""
    console = stdout()
    console.print(f"[bold]{found.before}[/] and [bold]{found.after}[/]", soft_wrap=True)
    if not found.sections and not found.metrics:
        console.print("nothing differs")
    for name, changes in found.sections.items():
        console.print()
        _print_changes(console, name, changes, found)
    for name in dict.fromkeys(change.about.table for change in found.metrics):
        console.print()
        rows = [change for change in found.metrics if change.about.table == name]
        if name == "coverage":
            _print_scales(console, [row for row in rows if _SCALE.search(row.about.metric)])
            rows = [row for row in rows if not _SCALE.search(row.about.metric)]
        if rows:
            _print_metrics(console, name, rows, found)


def _print_changes(console: Console, name: str, changes: Sequence[Change], found: Comparison) -> None:
    table = plain_table(name, "what", found.before, found.after)
    for column in table.columns:
        column.overflow = "fold"
    for change in changes:
        table.add_row(escape(change.name), _value(change.before), _value(change.after))
    console.print(table)


def _value(value: Any) -> str:
    """A value on one side; digests are cut as elsewhere."""
    if value is None:
        return "-"
    if isinstance(value, dict) and value.keys() == {"sha256", "size"}:
        return f"{value['sha256'][:12]}, {words.megabytes(value['size'])}"
    if isinstance(value, str):
        return escape(value[:12] if _DIGEST.fullmatch(value) else value)
    return escape(json.dumps(value, ensure_ascii=False))


def _print_metrics(console: Console, name: str, rows: Sequence[MetricChange], found: Comparison) -> None:
    table = plain_table(name, "of", "metric", f">{found.before}", f">{found.after}", ">change")
    for row in rows:
        about = row.about
        of = ", ".join(part for part in (about.encoder, about.precision, about.target) if part)
        against = f" against {about.reference}" if about.reference else ""
        cells = (_number(row.before, about), _number(row.after, about), _change(row))
        table.add_row(escape(of), escape(f"{about.metric}{against}"), *cells)
    console.print(table)


def _print_scales(console: Console, rows: Sequence[MetricChange]) -> None:
    """Every calibration moves every scale a little: how many and how far says it all."""
    groups: dict[tuple[str, str], list[MetricChange]] = {}
    for row in rows:
        kind = row.about.metric.rpartition(" ")[2]
        groups.setdefault((f"{row.about.encoder}, {row.about.precision}", kind), []).append(row)
    if not groups:
        return
    table = plain_table("scales", "of", "what", ">modules", ">least", ">most")
    for (of, kind), changes in groups.items():
        shares = sorted(share for change in changes if (share := _share(change)) is not None)
        ends = (_signed(shares[0]), _signed(shares[-1])) if shares else ("-", "-")
        table.add_row(of, kind, str(len(changes)), *ends)
    console.print(table)


def _number(side: Measurement | None, about: Measurement) -> str:
    if side is None:
        return "-"
    if about.table == "accuracy":
        text = words.metric(about.metric, side.value)
        if side.low is None or side.high is None:
            return text
        return f"{text} ({words.metric(about.metric, side.low)} to {words.metric(about.metric, side.high)})"
    return words.quantity(
        int(side.value) if about.unit in ("", "bytes") and side.value.is_integer() else side.value, about.unit
    )


def _change(row: MetricChange) -> str:
    """Rates in points, cosines and signal-to-noise ratios as they are, everything else in percent."""
    if row.change is None:
        return "-"
    if row.about.unit == "fraction":
        return words.points(row.change, 2)
    share = _share(row)
    if row.about.table == "accuracy" or share is None:
        return f"{row.change:+.4g}".replace("-", words.MINUS)
    return _signed(share)


def _share(row: MetricChange) -> float | None:
    if row.before is None or row.after is None or not row.before.value:
        return None
    return row.after.value / row.before.value - 1


def _signed(share: float) -> str:
    return f"{share * 100:+.1f} %".replace("-", words.MINUS)
