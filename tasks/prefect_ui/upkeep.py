"""Verification, repair and garbage collection of the store, with tables of the results for the UI."""

from __future__ import annotations

from prefect import get_run_logger, task

from artifacts import number_words as words
from artifacts.copies.opening import open_store
from artifacts.errors import StoreDamaged
from artifacts.inert import markdown
from artifacts.keeping.repair import Repaired, advice, repair
from artifacts.store.garbage import Collected, collect
from artifacts.store.verification import Problem, Verification, tally, verify
from tasks.prefect_ui.pages import show_page, show_table

_SHOWN = 1000
"""The most rows of a table: more would be slow and nobody reads them; the text says how many there are."""


@task(name="verify", persist_result=False)
def verify_task(store: str) -> Verification:
    """Hash every object and read every record again."""
    found = verify(store)
    get_run_logger().info(summary(found))
    _table("clipsmith-verify", [problem_row(problem) for problem in found.problems], summary(found))
    return found


@task(name="repair", persist_result=False)
def repair_task(store: str) -> Repaired:
    """Restore what can be restored, and move the rest aside."""
    done = repair(open_store(store))
    rows = [{"what": "restored", "where": f"object {digest}"} for digest in done.restored]
    rows += [{"what": "set aside in quarantine/", "where": where} for where in done.quarantined]
    text = f"{len(done.restored)} restored, {len(done.quarantined)} set aside; then {summary(done.after)}"
    get_run_logger().info(text)
    _table("clipsmith-repair", rows, text)
    return done


@task(name="gc", persist_result=False)
def collect_task(store: str, keep: int | None, dry_run: bool) -> Collected:
    """Remove what no release, alias or running process needs."""
    found = collect(open_store(store), keep=keep, dry_run=dry_run)
    text = freed(found, dry_run)
    get_run_logger().info(text)
    _table("clipsmith-gc", collected_rows(found), text)
    return found


def require_sound(found: Verification, root: object) -> None:
    """Raise an error if something is damaged.

    Raises:
        StoreDamaged: something is; the message names the first problems.
    """
    if found.problems:
        named = [f"  {problem.kind} {problem.where}: {advice(problem)}" for problem in found.problems[:5]]
        more = len(found.problems) - len(named)
        raise StoreDamaged(
            "\n".join([f"the store is {summary(found)}", *named, *([f"  and {more} more"] if more else [])]),
            where=root,
            expected="what was written",
            fix="run maintain with `repair`; for what is left then, do what the table of problems says",
        )


def summary(found: Verification) -> str:
    """The outcome in one line."""
    looked = (
        f"{found.releases} releases, {found.objects} objects, {words.megabytes(found.bytes)} in {found.seconds:.1f} s"
    )
    if not found.problems:
        return f"sound: {looked}"
    return f"not sound: {tally(found.problems)} ({looked})"


def problem_row(problem: Problem) -> dict[str, str]:
    """The row of a table for one problem."""
    return {
        "problem": problem.kind,
        "where": problem.where,
        "what": problem.what,
        "releases": ", ".join(problem.releases),
        "next": advice(problem),
    }


def collected_rows(found: Collected) -> list[dict[str, str]]:
    """Rows for everything that was removed, or would be."""
    rows = [{"what": "release, retired", "which": ref} for ref in found.releases]
    rows += [{"what": "object", "which": digest} for digest in found.objects]
    return rows + [{"what": "leftover", "which": where} for where in found.leftovers]


def freed(found: Collected, dry_run: bool) -> str:
    """What was freed, in one line."""
    counts = f"{len(found.releases)} releases, {len(found.objects)} objects, {len(found.leftovers)} leftovers"
    return f"{'would remove' if dry_run else 'removed'} {counts}: {words.megabytes(found.bytes)}"


def _table(key: str, rows: list[dict[str, str]], text: str) -> None:
    """Show a table in the UI, or only the text if there are no rows."""
    if rows:
        more = f"; the first {_SHOWN} are shown" if len(rows) > _SHOWN else ""
        show_table(rows[:_SHOWN], key, text + more)
    else:
        show_page(f"{markdown(text)}.", key)
