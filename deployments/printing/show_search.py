"""The result of a search: as JSON values, and for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifacts import number_words as show
from deployments.printing.console import print_list, stdout
from deployments.printing.show import print_gates

if TYPE_CHECKING:
    from flows.search import Found
    from tasks.search.plan import Trial
    from tasks.search.units import Unit

_TRIALS = ("recipe", ">FP8 share", ">least mean cosine", ">in FP16", ">by channel", "gates")
_UNITS = ("encoder", ">of the operations", ">1 - cosine alone", ">SNR dB")


def document(found: Found) -> dict[str, Any]:
    """Everything as JSON values; an infinite signal-to-noise ratio is null."""
    from tasks.search.plan import pareto

    return {
        "recipe": str(found.settings.out),
        "plot": str(found.settings.plot),
        "best": _trial(found.best),
        "everything": _trial(found.trials[0]),
        "evaluations": len(found.trials),
        "auto_quantize": [_trial(trial) for trial in found.rival],
        "front": [_trial(trial) for trial in pareto(found.trials)],
        "sensitivity": [
            {"encoder": s.unit.encoder, "module": s.unit.module, "kind": s.unit.kind, "flops": s.unit.flops}
            | {"loss": s.loss, "snr_db": s.snr_db if s.snr_db < float("inf") else None}
            for s in found.measured.sensitivities
        ],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "fp8_share": trial.share,
        "cosine_mean": trial.fidelity,
        "excluded": _names(trial.excluded),
        "by_channel": _names(trial.by_channel),
        "passed": trial.passed,
        "gates": [result.model_dump(mode="json") for result in trial.gates],
    }


def _names(units: frozenset[Unit]) -> list[str]:
    return sorted(unit.module for unit in units)


def print_found(found: Found) -> None:
    """Print the Pareto front with the recipe, units in FP16 or scaled by channel and why, the gates, and the files."""
    from tasks.search.plan import pareto

    console = stdout()
    shown = {id(trial): trial for trial in (found.trials[0], *pareto(found.trials), found.best)}
    rows = [_cells(_name(found, trial), trial) for trial in sorted(shown.values(), key=lambda t: -t.share)]
    if found.rival:
        rows.append(_cells("ModelOpt's auto_quantize", closest(found.rival)))
    print_list(console, _TRIALS, rows)
    chosen = (("kept in FP16", found.best.excluded), ("weights scaled by channel", found.best.by_channel))
    for what, units in chosen:
        if units:
            console.print()
            print_list(console, (what, *_UNITS), _rows(found, units))
    console.print()
    print_gates(console, found.best.gates)
    rivals = f", and {len(found.rival)} of auto_quantize" if found.rival else ""
    evaluated = f"{show.counted(len(found.trials), 'recipe')} evaluated{rivals}"
    console.say(f"{evaluated}; plot: {found.settings.plot}")
    console.say("recipe: ", (str(found.settings.out), "bold"))


def closest(trials: Sequence[Trial]) -> Trial:
    """The trial that passes with the most work in FP8; if none passes, that with the highest fidelity."""
    return max(trials, key=lambda trial: (trial.passed, trial.share if trial.passed else trial.fidelity))


def _name(found: Found, trial: Trial) -> str:
    return "found" if trial is found.best else "everything in FP8" if trial is found.trials[0] else "on the front"


def _cells(name: str, trial: Trial) -> tuple[str, ...]:
    verdict = "passed" if trial.passed else "not passed"
    counts = str(len(trial.excluded)), str(len(trial.by_channel))
    return name, show.percent(trial.share, 2), f"{trial.fidelity:.6f}", *counts, verdict


def _rows(found: Found, units: frozenset[Unit]) -> list[tuple[str, ...]]:
    losses = {s.unit: s for s in found.measured.sensitivities}
    worst = sorted(units, key=lambda unit: -losses[unit].loss)
    return [
        (
            unit.module,
            unit.encoder,
            show.percent(unit.flops / found.measured.flops, 2),
            f"{losses[unit].loss:.2e}",
            f"{losses[unit].snr_db:.1f}",
        )
        for unit in worst
    ]
