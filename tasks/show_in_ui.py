"""The release's tables and gates as Prefect artifacts, for people who look at the run in the UI."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from artifacts.gate_words import sentence, tally, words
from artifacts.manifest import Cell, GateResult
from artifacts.store import active_store
from tasks.publish import Draft


def _cell(value: Cell) -> Cell:
    """Blank for null: rows never hold NaN, which breaks the UI's page."""
    if value is None:
        return ""
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _gate(result: GateResult) -> dict[str, str]:
    return {"gate": result.name, "result": result.status, **words(result)._asdict()}


def _verdict(draft: Draft) -> str:
    """One line on the gates, and one for each that is not passed."""
    if not draft.gates:
        return "No gates were judged."
    state = "**Rejected**" if any(result.rejects for result in draft.gates) else "Accepted"
    lines = [f"{state}: gates {tally(draft.gates)}."]
    lines += [f"- {sentence(result)}" for result in draft.gates if result.status != "passed"]
    return "\n".join(lines)


@task(name="show-tables", persist_result=False)
def show_tables_task(draft: Draft) -> None:
    """One table artifact per table, before publishing: nothing may fail after it."""
    release = f"{draft.snapshot.model}, {draft.identity()[:12]}"
    for name, rows in draft.tables.items():
        shown = [{key: _cell(value) for key, value in row.items()} for row in rows]
        create_table_artifact(table=shown, key=f"clipsmith-{name}", description=f"{name} of {release}")
    if draft.gates:
        gates = [_gate(result) for result in draft.gates]
        create_table_artifact(table=gates, key="clipsmith-gates", description=f"gates of {release}")
    command = f"--store {active_store().root}"
    create_markdown_artifact(
        markdown=f"# {release}\n\n{_verdict(draft)}\n\n"
        f"`clipsmith show {draft.identity()[:12]} {command}` prints this release, "
        f"`clipsmith report {draft.identity()[:12]} {command}` where its report is.\n",
        key="clipsmith-release",
    )
