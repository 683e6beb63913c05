"""Printing what differs between two releases."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from artifacts import number_words as words
from artifacts.release.comparison import INPUTS, Change, Comparison, MetricChange
from artifacts.release.measurements import Measurement
from artifacts.release.regression import is_aim, times_worse
from deployments.printing.console import Terminal, is_wide, paragraph, plain_table, stdout

_SCALE = re.compile(r"(?:input|weight)_scale")
_DIGEST = re.compile(r"[0-9a-f]{40,64}")


def print_comparison(found: Comparison, *, everything: bool = False) -> None:
    """First what the two were made from, then what that did: gates, precisions, and numbers, the worst first.

    Numbers that nobody aims at, or that differ by less than is worth a word, are left out, as are files, unless
    `everything` is asked for: then there is a table per subject and one per table of metrics.
    """
    console = stdout()
    console.say((found.before, "bold"), " and ", (found.after, "bold"))
    if not found.sections and not found.metrics:
        console.print("nothing differs")
        return
    names = _names(found)
    if everything:
        _print_everything(console, found, names)
        return
    inputs: dict[str, Sequence[Change]] = {name: changes for name, changes in found.sections.items() if name in INPUTS}
    telling = _telling(found.metrics)
    done: dict[str, Sequence[Change]] = {
        "gates": found.sections.get("gates", ()),
        "graph": [change for change in found.sections.get("graph", ()) if change.name.endswith(" actual")],
    }
    if not inputs:
        console.print("what they were made from does not differ")
    for name, changes in (inputs | done).items():
        _print_table(console, _changes(name, changes, names))
    _print_table(console, _metrics("numbers, the worst change first", telling, names, ends=True, whole=("change",)))
    shown = sum(map(len, (*inputs.values(), *done.values(), telling)))
    left = sum(map(len, found.sections.values())) + len(found.metrics) - shown
    if left:
        console.print()
        paragraph(console, f"left out: {words.counted(left, 'difference')} of files, notes and noise (--all)", indent=0)


def _telling(changes: Sequence[MetricChange]) -> list[MetricChange]:
    """The numbers that matter and changed by enough, the worst change first; then those that one side alone has."""
    judged: list[tuple[float, MetricChange]] = []
    alone: list[MetricChange] = []
    for change in changes:
        if change.before is None or change.after is None:
            alone += [change] * is_aim(change.about)
        elif (worse := times_worse(change.before, change.after)) is not None and abs(worse) >= 1:
            judged.append((worse, change))
    return [*(change for _, change in sorted(judged, key=lambda pair: -pair[0])), *alone]


def _print_everything(console: Terminal, found: Comparison, names: tuple[str, str]) -> None:
    for name, changes in found.sections.items():
        _print_table(console, _changes(name, changes, names))
    for name in dict.fromkeys(change.about.table for change in found.metrics):
        rows = [change for change in found.metrics if change.about.table == name]
        scales = [row for row in rows if _SCALE.search(row.about.metric)]
        others = [row for row in rows if row not in scales]
        _print_table(console, _scales(scales))
        _print_table(console, _metrics(name, others, names, ends=is_wide(console)))


def _print_table(console: Terminal, table: Table) -> None:
    """Nothing where it is empty."""
    if table.row_count:
        console.print()
        console.print(table)


def _names(found: Comparison) -> tuple[str, str]:
    """The names of the two releases in headings; for two versions of one model, only the version numbers."""
    (model, _, before), (other, _, after) = (ref.rpartition("@") for ref in (found.before, found.after))
    return (f"@{before}", f"@{after}") if model == other else (found.before, found.after)


def _changes(name: str, changes: Sequence[Change], names: tuple[str, str]) -> Table:
    table = plain_table(name, "what", *names)
    for change in changes:
        table.add_row(change.name, _value(change.before), _value(change.after))
    return table


def _value(value: Any) -> str:
    """A value on one side as text; digests are shortened as elsewhere."""
    if value is None:
        return "-"
    if isinstance(value, dict) and value.keys() == {"sha256", "size"}:
        return f"{value['sha256'][:12]}, {words.megabytes(value['size'])}"
    if isinstance(value, str):
        return value[:12] if _DIGEST.fullmatch(value) else value
    return json.dumps(value, ensure_ascii=False)


def _metrics(
    name: str, rows: Sequence[MetricChange], names: tuple[str, str], *, ends: bool, whole: tuple[str, ...] | None = None
) -> Table:
    """`ends` adds the 95 % intervals; `whole` as for `plain_table`: all but the metric unless given."""
    before, after = names
    table = plain_table(
        name, "of", "metric", f">{before}", f">{after}", ">change", whole=whole or ("of", before, after, "change")
    )
    for row in rows:
        about = row.about
        of = ", ".join(part for part in (about.encoder, about.precision, about.target) if part)
        against = f" against {about.reference}" if about.reference else ""
        cells = (_number(row.before, ends), _number(row.after, ends), _change(row))
        table.add_row(of, f"{about.metric}{against}", *cells)
    return table


def _scales(rows: Sequence[MetricChange]) -> Table:
    """A summary of changed scales: as every calibration changes every scale a little, only how many and how far."""
    groups: dict[tuple[str, str], list[MetricChange]] = {}
    for row in rows:
        kind = row.about.metric.rpartition(" ")[2]
        groups.setdefault((f"{row.about.encoder}, {row.about.precision}", kind), []).append(row)
    table = plain_table("scales", "of", "what", ">modules", ">least", ">most")
    for (of, kind), changes in groups.items():
        shares = sorted(share for change in changes if (share := _share(change)) is not None)
        ends = (words.percent_change(shares[0]), words.percent_change(shares[-1])) if shares else ("-", "-")
        table.add_row(of, kind, str(len(changes)), *ends)
    return table


def _number(side: Measurement | None, ends: bool) -> str:
    if side is None:
        return "-"
    text = _plain(side, side.value)
    if not ends or side.low is None or side.high is None:
        return text
    low, high = (_plain(side, end).removesuffix(" points").removesuffix(" %") for end in (side.low, side.high))
    return f"{text} ({low} to {high})"


def _plain(side: Measurement, value: float) -> str:
    if side.table == "accuracy":
        return words.metric(side.metric, value)
    whole = side.unit in ("", "bytes") and value.is_integer()
    return words.quantity(int(value) if whole else value, side.unit)


def _change(row: MetricChange) -> str:
    """The change as text: rates in points, cosines and signal-to-noise ratios as differences, all others in percent."""
    if row.change is None:
        return "-"
    if row.about.unit == "fraction":
        return words.points(row.change, 2)
    share = _share(row)
    if row.about.table == "accuracy" or share is None:
        return f"{row.change:+.4g}".replace("-", words.MINUS)
    return words.percent_change(share)


def _share(row: MetricChange) -> float | None:
    if row.before is None or row.after is None or not row.before.value:
        return None
    return row.after.value / row.before.value - 1
