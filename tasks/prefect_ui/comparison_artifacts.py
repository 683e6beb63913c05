"""The comparison of two re-measured releases as Prefect artifacts."""

from __future__ import annotations

from prefect import task

from artifacts.inert import markdown
from artifacts.manifest import Row
from tasks.prefect_ui.pages import show_page, show_table


def words(before: str, after: str, accuracy: list[Row], latency: list[Row], notes: list[str]) -> str:
    """The comparison in a few lines of markdown."""
    head = [f"# {markdown(f'{after} against {before}')}", *(f"> {markdown(note)}" for note in notes)]
    scores = [f"{row['metric']} on {row['target']}: {_difference(row)}" for row in accuracy if row["low"] is not None]
    speed = [
        f"{row['encoder']} on {row['target']}, batch {row['batch']}: {row['speedup']:.3g} times as fast "
        f"(95 %: {row['low']:.3g} to {row['high']:.3g})"
        for row in latency
        if row["speedup"] is not None
    ]
    reasons = dict.fromkeys(
        f"{row['target']}: latency {row['status']}: {row['note']}" for row in latency if row["note"]
    )
    return "\n\n".join([*head, "\n".join(f"- {markdown(line)}" for line in (*scores, *speed, *reasons))])


def _difference(row: Row) -> str:
    before, after, low, high = (100 * float(row[name] or 0) for name in ("before", "after", "low", "high"))
    return f"{before:.2f} % before, {after:.2f} % after: {after - before:+.2f} points (95 %: {low:+.2f} to {high:+.2f})"


@task(name="show-comparison", persist_result=False)
def show_comparison_task(before: str, after: str, accuracy: list[Row], latency: list[Row], notes: list[str]) -> None:
    """Show the comparison as tables and a summary."""
    pair = f"{after} against {before}"
    for name, rows in (("accuracy", accuracy), ("latency", latency)):
        if rows:
            show_table(rows, f"clipsmith-compare-{name}", f"{name}, {pair}")
    show_page(words(before, after, accuracy, latency, notes), "clipsmith-compare")
