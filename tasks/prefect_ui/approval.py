"""Promotion from the UI: the information for the person who approves, the promotion itself, and a record of it."""

from __future__ import annotations

from collections.abc import Iterator

from prefect import task

from artifacts.copies.opening import open_store
from artifacts.errors import DamagedAlias, DamagedManifest, ReleaseNotFound, ReleaseRejected
from artifacts.inert import markdown
from artifacts.keeping import history
from artifacts.keeping.promotion import promote
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.number_words import interval
from artifacts.release.measurements import Measurement
from artifacts.report.gate_words import sentence, tally
from artifacts.store import layout
from artifacts.store.store import Store
from tasks.prefect_ui.pages import show_page


class Proposal(Frozen):
    """A promotion that is proposed.

    `release` is pinned (`model@version`); `seen` is the number of the alias's current entry (0: none), and `now` the
    release that it points to. `text` describes in markdown what speaks for and against the promotion.
    """

    release: str
    alias: str
    now: str | None
    seen: int
    text: str


class Promoted(Frozen):
    """What a promotion did; `moved` is False if the alias pointed there already."""

    release: str
    alias: str
    before: str | None
    moved: bool


def propose(store: Store, reference: str, alias: str) -> Proposal:
    """Look up the release to promote, and the one that `alias` points to.

    Raises:
        ReleaseNotFound, BadName, DamagedManifest: there is no such release, or it cannot be read.
        ReleaseRejected: it failed a gate, so nobody needs to be asked.
    """
    with store.reading():
        manifest = store.find(reference)
        tallied, *missed = _gates(manifest)
        if manifest.rejected:
            raise ReleaseRejected(
                "\n".join([f"{manifest.ref} was rejected:", tallied, *(f"- {line}" for line in missed)]),
                where=store.root,
                expected="a release whose gates hold",
                fix="promote another release; `clipsmith promote --force --why TEXT` is for emergencies",
            )
        known = layout.numbers(layout.alias_folder(store.root, manifest.model, alias))
        now, doubt = _behind(store, manifest.model, alias) if known else (None, None)
    lines = [
        f"## Promote {markdown(manifest.ref)} to {markdown(alias)}?",
        markdown(
            f"Made {manifest.created}, recipe {manifest.provenance.recipe}, {manifest.provenance.source.name} at "
            f"{manifest.provenance.source.revision[:12]}."
        ),
        "\n".join([markdown(tallied), *(f"- {markdown(line)}" for line in missed)]),
        doubt or f"**{markdown(alias)}** points to {'nothing yet' if now is None else markdown(now.ref)} now.",
        *_figures(now, manifest),
    ]
    return Proposal(
        release=manifest.ref,
        alias=alias,
        now=None if now is None else now.ref,
        seen=known[-1] if known else 0,
        text="\n\n".join(lines),
    )


def _behind(store: Store, model: str, alias: str) -> tuple[Manifest | None, str | None]:
    """The release that the alias points to (or None), and the reason if it cannot be read, which is not an error: the
    alias can still be moved."""
    try:
        return store.find(f"{model}:{alias}"), None
    except (DamagedAlias, DamagedManifest, ReleaseNotFound) as error:
        return None, f"**What {markdown(alias)} points to now cannot be read:** {markdown(error.what)}."


def _gates(manifest: Manifest) -> list[str]:
    """The tally of the gates, and a line for each gate that is not passed."""
    if not manifest.gates:
        return ["No gates were judged."]
    missed = (sentence(result) for result in manifest.gates if result.status != "passed")
    return [f"Gates: {tally(manifest.gates)}.", *missed]


def _figures(now: Manifest | None, new: Manifest) -> Iterator[str]:
    """A table of the main figures of both releases."""
    figures = [point.figures for point in (history.points([m])[0] for m in (now, new) if m is not None)]
    names = list(dict.fromkeys(name for found in figures for name in found))
    if names:
        heads = [markdown(m.ref) for m in (now, new) if m is not None]
        rows = [[markdown(name), *(_shown(found.get(name)) for found in figures)] for name in names]
        lines = (f"| {' | '.join(cells)} |" for cells in (["", *heads], ["---"] * (len(heads) + 1), *rows))
        yield "\n".join(lines)


def _shown(figure: Measurement | None) -> str:
    if figure is None:
        return ""
    value = f"{figure.value:.10g}" if figure.unit == "bytes" else f"{figure.value:.6g}"
    return value + interval(figure.low, figure.high, "{:.6g}")


def carry_out(store: Store, proposal: Proposal, why: str | None) -> Promoted:
    """Move the alias, unless somebody has moved it since the proposal was made.

    Raises:
        AliasMoved, ReleaseNotFound, ObjectMissing, SignatureRequired: as `artifacts.keeping.promotion.promote`.
    """
    before, after, moved = promote(store, proposal.release, proposal.alias, why=why, seen=proposal.seen)
    return Promoted(release=after.ref, alias=after.alias, before=None if before is None else before.ref, moved=moved)


@task(name="promote", persist_result=False)
def promote_task(store: str, proposal: Proposal, why: str | None) -> Promoted:
    """Not cached, as aliases move. The result stays visible in the UI."""
    promoted = carry_out(open_store(store), proposal, why)
    done = f"from {promoted.before or 'nothing'} to" if promoted.moved else "had pointed already to"
    head = markdown(f"{promoted.alias}: {done} {promoted.release}")
    show_page("\n\n".join((f"# {head}", markdown(why or "No reason was given."), proposal.text)), "clipsmith-promotion")
    return promoted
