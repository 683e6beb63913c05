"""The release as Prefect artifacts, for people who look at the run in the UI: tables, gates, report, precision map."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from prefect import task

from artifacts import places
from artifacts.inert import fenced, markdown, visible
from artifacts.manifest import Cell, Manifest, Row
from artifacts.number_words import megabytes, metric, percent
from artifacts.report.gate_words import sentence, tally, words
from artifacts.report.markdown import precision_page, report_page
from artifacts.report.task_table import HEADS, task_lines
from artifacts.schema import SCHEMAS, Tables, number
from artifacts.store.store import active_store
from tasks.pipeline.publish import Draft
from tasks.prefect_ui.pages import show_page, show_table

_AGREEMENT = ("cosine", "rank_agreement", "nonfinite")
"""What metrics begin with that compare embeddings; the others are about the task."""
_UNITS: dict[str, Callable[[float], str]] = {"bytes": megabytes, "fraction": percent}
_TITLES = {
    "bytes": "size",
    "vs_fp16": "of FP16",
    "fp8_bytes": "in FP8",
    "fp16_bytes": "in FP16",
    "other_bytes": "other",
}
"""Of columns whose names would say another unit than the page, or nothing; others have their names, in words."""
_HEADS = sorted(HEADS, key=lambda head: " - " in head and not head.startswith("FP8"))
"""What FP8 changed comes first of the differences: the UI's page is narrow."""


def _shown(name: str, rows: Sequence[Row]) -> list[dict[str, Cell]]:
    """The rows of the table `name` in a reader's units, without columns that are empty everywhere, as the UI's page is
    narrow."""
    columns = [column for column in SCHEMAS[name].columns if any(row.get(column.name) is not None for row in rows)]
    titles = {column.name: _TITLES.get(column.name, column.name.replace("_", " ")) for column in columns}
    return [{titles[column.name]: _cell(row.get(column.name), column.unit) for column in columns} for row in rows]


def _cell(value: Cell, unit: str) -> Cell:
    return _UNITS[unit](float(value)) if unit in _UNITS and value is not None else value


def _tables(tables: Tables) -> dict[str, list[dict[str, Cell]]]:
    """The tables to show by name, in a reader's order: accuracy as the report has it, and in coverage first what is not
    as the recipe asks. Tables without rows are left out, as the UI cannot show them."""
    accuracy = tables.get("accuracy", ())
    agreement = [row for row in accuracy if str(row["metric"]).startswith(_AGREEMENT)]
    coverage = sorted(tables.get("coverage", ()), key=lambda row: row["expected"] == row["actual"])
    others = {name: rows for name, rows in tables.items() if name not in ("accuracy", "sizes", "coverage")}
    shown: dict[str, list[dict[str, Cell]]] = {
        "accuracy": [
            {head: cells[head] for head in _HEADS}
            for cells in (dict(zip(HEADS, line, strict=True)) for line in task_lines(tables))
        ],
        "agreement": [
            one | {"value": metric(str(row["metric"]), number(row, "value"))}
            for one, row in zip(_shown("accuracy", agreement), agreement, strict=True)
        ],
        "sizes": _shown("sizes", tables.get("sizes", ())),
        "coverage": _shown("coverage", coverage),
        **{name: _shown(name, rows) for name, rows in others.items()},
    }
    return {name: rows for name, rows in shown.items() if rows}


def _verdict(draft: Draft) -> str:
    """One line on all gates, and one for each gate that is not passed."""
    if not draft.gates:
        return "No gates were judged."
    state = "**Rejected**" if any(result.rejects for result in draft.gates) else "Accepted"
    lines = [f"{state}: gates {tally(draft.gates)}."]
    lines += [f"- {markdown(sentence(result))}" for result in draft.gates if result.status != "passed"]
    return "\n".join(lines)


@task(name="show-tables", persist_result=False)
def show_tables_task(draft: Draft) -> None:
    """Show one artifact per table. This is done before publishing, after which nothing may fail."""
    release = f"{draft.snapshot.model}, {draft.identity()[:12]}"
    gates = [{"gate": one.name, "result": one.status, **words(one)._asdict()} for one in draft.gates]
    tables = ({"gates": gates} if gates else {}) | _tables(draft.tables)
    # The UI lists the newest first (`deployments.server.artifact_order`): so the last is made first, and at the end the
    # verdict, which links to all.
    made = {
        name: show_table(rows, f"clipsmith-{name}", f"{name} of {release}") for name, rows in reversed(tables.items())
    }
    links = " · ".join(f"[{name}](/artifacts/artifact/{made[name]})" for name in tables)
    rest = f"{draft.identity()[:12]} --store {shlex.quote(str(active_store().root))}"
    show_page(
        f"# {markdown(release)}\n\n{_verdict(draft)}\n\n{links}\n\n"
        "This prints the release, and where its report is:\n\n"
        f"{fenced(f'clipsmith show {rest}')}\n\n{fenced(f'clipsmith report {rest}')}\n",
        "clipsmith-release",
        f"the verdict on {release}",
    )


def _where(manifest: Manifest) -> str:
    """The page's section on where the release's files are, and the commands for them."""
    store = active_store()
    options = f"--store {shlex.quote(str(store.root))}"
    commands = [f"clipsmith {what} {options}" for what in (f"report {manifest.ref}", f"show {manifest.ref}")]
    commands.append(f"clipsmith export {manifest.ref} FOLDER {options}")
    return (
        "## Files\n\nThe whole report, with every table, is a page of its own; open it in a browser:\n\n"
        f"{fenced(store.read(manifest, places.REPORT))}\n\n"
        "From a terminal, where the report is, the release in short, and all its files as a plain folder:\n\n"
        + fenced("\n".join(map(visible, commands)))
        + "\n"
    )


@task(name="show-release", persist_result=False)
def show_release_task(ref: str) -> None:
    """Show the report and the precision map of a published release as pages of the UI."""
    store = active_store()
    manifest = store.find(ref)
    html = store.read(manifest, places.REPORT).read_text(encoding="utf-8")
    report = f"{report_page(manifest, html)}\n{_where(manifest)}"
    show_page(precision_page(manifest), "clipsmith-precision-map", f"precision map of {ref}")
    show_page(report, "clipsmith-report", f"report of {ref}")  # the last, and so the first that the UI lists
