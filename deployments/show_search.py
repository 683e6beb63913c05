"""What a search found: as a document, and for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from artifacts import format as show
from deployments.console import counted, print_list, stdout
from deployments.show import print_gates

if TYPE_CHECKING:
    from flows.search import Found
    from tasks.search.plan import Trial
    from tasks.search.units import Unit

_TRIALS = ("recipe", ">FP8 share", ">least mean cosine", ">in FP16", "gates")
_UNITS = ("kept in FP16", "encoder", ">of the operations", ">1 - cosine alone", ">SNR dB")


def document(found: Found) -> dict[str, Any]:
    """Everything as JSON values; a ratio of signal to noise that is infinite is null."""
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
        "excluded": _names(trial),
        "passed": trial.passed,
        "gates": [result.model_dump(mode="json") for result in trial.gates],
    }


def _names(trial: Trial) -> list[str]:
    return sorted(unit.module for unit in trial.excluded)


def print_found(found: Found) -> None:
    """The front with the recipe in it, what is left in FP16 and why, the gates, and where the files are."""
    from tasks.search.plan import pareto

    console = stdout()
    shown = {id(trial): trial for trial in (found.trials[0], *pareto(found.trials), found.best)}
    rows = [_cells(_name(found, trial), trial) for trial in sorted(shown.values(), key=lambda t: -t.share)]
    if found.rival:
        rows.append(_cells("ModelOpt's auto_quantize", closest(found.rival)))
    print_list(console, _TRIALS, rows)
    if found.best.excluded:
        console.print()
        losses = {s.unit: s for s in found.measured.sensitivities}
        left = sorted(found.best.excluded, key=lambda unit: -losses[unit].loss)
        rows = [(*_unit(found, unit), f"{losses[unit].loss:.2e}", f"{losses[unit].snr_db:.1f}") for unit in left]
        print_list(console, _UNITS, rows)
    console.print()
    print_gates(console, found.best.gates)
    console.print(
        f"{counted(len(found.trials), 'recipe')} evaluated{_rivals(found)}; plot: {escape(str(found.settings.plot))}",
        soft_wrap=True,
    )
    console.print(f"recipe: [bold]{escape(str(found.settings.out))}[/]", soft_wrap=True)


def closest(trials: Sequence[Trial]) -> Trial:
    """The one that passes with the most work in FP8; where none does, that of the highest fidelity."""
    return max(trials, key=lambda trial: (trial.passed, trial.share if trial.passed else trial.fidelity))


def _name(found: Found, trial: Trial) -> str:
    return "found" if trial is found.best else "everything in FP8" if not trial.excluded else "on the front"


def _cells(name: str, trial: Trial) -> tuple[str, ...]:
    verdict = "passed" if trial.passed else "not passed"
    return name, show.percent(trial.share, 2), f"{trial.fidelity:.6f}", str(len(trial.excluded)), verdict


def _rivals(found: Found) -> str:
    return f", and {len(found.rival)} of auto_quantize" if found.rival else ""


def _unit(found: Found, unit: Unit) -> tuple[str, str, str]:
    return unit.module, unit.encoder, show.percent(unit.flops / found.measured.flops, 2)
