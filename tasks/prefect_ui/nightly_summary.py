"""The outcomes of a nightly run: a table for people, and events from which automations make notifications."""

from __future__ import annotations

from typing import Any, Literal

from prefect import task
from prefect.events import emit_event
from pydantic import Field

from artifacts.inert import markdown, visible
from artifacts.keeping import history
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.number_words import counted, given, points
from tasks.prefect_ui.pages import show_page, show_table

REGRESSION_EVENT = "clipsmith.regression"
_TASKS = ("top1", "recall@1_image_to_text")
_LONGEST = 300  # characters of an error in the table


class Outcome(Frozen):
    """The outcome of one variant, with the figures of its release and of the one that was in production before.

    `why` says why it was made in this run (empty if it was not made); `held` says why its alias was not moved to it.
    """

    variant: str
    result: Literal["unchanged", "released", "promoted", "rejected", "failed"]
    release: str | None = None
    production: str | None = None
    error: str | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    before: dict[str, float] = Field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    why: str = ""
    held: str = ""

    @classmethod
    def failed(cls, variant: str, error: str) -> Outcome:
        """The outcome of a variant without a release."""
        return cls(variant=variant, result="failed", error=error)

    @classmethod
    def of(
        cls,
        variant: str,
        release: Manifest,
        production: Manifest | None,
        *,
        changed: bool,
        promoted: bool,
        alarms: list[str],
    ) -> Outcome:
        """The outcome of a variant with a release, made now (`changed`) or before."""
        made: Literal["released", "unchanged"] = "released" if changed else "unchanged"
        return cls(
            variant=variant,
            result="rejected" if release.rejected else "promoted" if promoted else made,
            release=release.ref,
            production=None if production is None else production.ref,
            figures=_figures(release),
            before={} if production is None else _figures(production),
            alarms=tuple(alarms),
        )

    @property
    def bad(self) -> bool:
        """Whether the nightly run fails because of this variant."""
        return self.result in ("failed", "rejected")

    def sentence(self) -> str:
        """The outcome in words."""
        if self.error is not None:
            return self.error
        words = f"{self.release} {self.result}" + (f"; why it was made: {self.why}" if self.why else "")
        held = [f"not promoted: {self.held}"] if self.held else []
        return "; ".join([words, *held, *self.alarms])


def _figures(release: Manifest) -> dict[str, float]:
    return {name: m.value for name, m in history.points([release])[0].figures.items()}


def _row(outcome: Outcome) -> dict[str, Any]:
    now, before = outcome.figures, outcome.before
    name = next((name for name in _TASKS if f"{name} fp8" in now), None)
    change, gain = now.get(f"{name} difference"), _difference(now, before, f"{name} fp8")
    return {
        "variant": outcome.variant,
        "result": outcome.result,
        "release": outcome.release or "",
        "FP8 accuracy": "" if name is None else f"{now[f'{name} fp8']:.2%} {name.partition('_')[0]}",
        "against FP16": "" if change is None else points(change, 2),
        "FP8 size": given(now.get("ratio"), "{:.1%} of FP16", ""),
        "speedup": given(now.get("speedup"), "{:.2f}x", "not measured"),
        "production": outcome.production or "none",
        "accuracy against production": "" if gain is None else points(gain, 2),
        "not promoted because": outcome.held,
        "regressions": "; ".join(outcome.alarms) or "none",
        "made because": outcome.why,
        "remark": (outcome.error or "")[:_LONGEST],
    }


def _difference(now: dict[str, float], before: dict[str, float], name: str) -> float | None:
    return now[name] - before[name] if name in now and name in before else None


@task(name="show-summary", persist_result=False)
def show_summary_task(outcomes: list[Outcome]) -> None:
    """Show the nightly run as one table and one page."""
    counts = {name: sum(outcome.result == name for outcome in outcomes) for name in ("failed", "rejected")}
    rows = [_row(outcome) for outcome in outcomes]
    if rows:
        show_table(rows, "clipsmith-nightly", "what became of each variant")
    lines = [f"- **{markdown(outcome.variant)}**: {markdown(outcome.sentence())}" for outcome in outcomes]
    head = f"{counted(len(outcomes), 'variant')}, {counts['failed']} failed, {counts['rejected']} rejected"
    show_page("\n".join([f"# {head}", "", *lines]), "clipsmith-nightly-summary")


def report_regressions(release: Manifest, alarms: list[str]) -> None:
    """Emit one event for a release that is worse than its history; automations turn it into a notification."""
    if alarms:
        emit_event(
            event=REGRESSION_EVENT,
            resource={"prefect.resource.id": f"clipsmith.model.{release.model}", "prefect.resource.name": release.ref},
            payload={"release": release.ref, "message": "\n".join(map(visible, alarms))},
        )
