"""The release as Prefect artifacts, for people who look at the run in the UI: tables, gates, report, precision map."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from prefect import task

from artifacts import places
from artifacts.inert import fenced, markdown, visible
from artifacts.manifest import Cell, Manifest, Row
from artifacts.report.gate_words import sentence, tally, words
from artifacts.report.markdown import precision_page, report_page
from artifacts.store.store import active_store
from tasks.pipeline.publish import Draft
from tasks.prefect_ui.pages import show_page, show_table


def _shown(rows: Sequence[Row]) -> list[dict[str, Cell]]:
    """The rows without columns that are empty everywhere, as the UI's page is narrow."""
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in columns} for row in rows]


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
    for name, rows in draft.tables.items():
        if not rows:
            continue  # the UI cannot show an empty table
        show_table(_shown(rows), f"clipsmith-{name}", f"{name} of {release}")
    if draft.gates:
        gates = [{"gate": one.name, "result": one.status, **words(one)._asdict()} for one in draft.gates]
        show_table(gates, "clipsmith-gates", f"gates of {release}")
    rest = f"{draft.identity()[:12]} --store {shlex.quote(str(active_store().root))}"
    show_page(
        f"# {markdown(release)}\n\n{_verdict(draft)}\n\nThis prints the release, and where its report is:\n\n"
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
    show_page(report, "clipsmith-report", f"report of {ref}")
    show_page(precision_page(manifest), "clipsmith-precision-map", f"precision map of {ref}")
