"""Which recipes to evaluate: from everything in FP8 to the smallest set of exclusions that meets the gates.

1. If everything in FP8 does not meet the gates, give all linear layers of the encoders concerned weight scales by
   channel, which costs no FP8 work.
2. Exclude units in the order of what each gains per lost FP8 operation, twice as many in each step, until the gates
   hold.
3. Bisect the last step.
4. Put units back into FP8, those with the most work first, as long as the gates hold: then each remaining exclusion is
   necessary.
5. Remove scales by channel as long as the gates hold.
6. With the rest of the budget, evaluate more points on the curve of fidelity against the share of work in FP8.
7. If one of them passes with more work in FP8, also put its units back.

Steps 3 to 5 and 7 assume that fidelity does not rise when a unit becomes FP8, or gets one scale instead of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from artifacts.errors import NoRecipe
from artifacts.manifest import Encoder, GateResult, Row
from artifacts.report.gate_words import sentence
from artifacts.schema import number
from tasks.search.choice import Choice
from tasks.search.sensitivity import Sensitivity
from tasks.search.units import Unit

_CURVE = (0.1, 0.25, 0.5, 0.75)
"""The points of the curve: shares of the work that they leave in FP16."""

_NOT_OURS = ("max_fp16_change", "above_chance")
"""Gates on FP16 and FP32 themselves, whose results do not depend on the recipe."""


@dataclass(frozen=True)
class Trial:
    """One evaluated recipe: its choice, its share of the work in FP8, and the gates' results."""

    choice: Choice
    share: float
    fidelity: float
    """The smaller of the encoders' mean cosines with FP32."""
    gates: tuple[GateResult, ...]

    @property
    def excluded(self) -> frozenset[Unit]:
        return self.choice.excluded

    @property
    def by_channel(self) -> frozenset[Unit]:
        return self.choice.by_channel

    @property
    def passed(self) -> bool:
        return not any(result.rejects for result in self.gates)


def fidelity_of(rows: Sequence[Row]) -> float:
    """The smaller of the encoders' mean cosines of FP8 with FP32; 0 if an embedding is all zero."""
    wanted = {"precision": "fp8", "reference": "fp32", "metric": "cosine_mean"}
    values = [number(row, "value") for row in rows if all(row.get(k) == v for k, v in wanted.items())]
    return min(0.0 if math.isnan(value) else value for value in values if value is not None)


def pareto(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other one beats in both share and fidelity, by descending share."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (-trial.share, -trial.fidelity)):
        if not front or trial.fidelity > front[-1].fidelity:
            front.append(trial)
    return front


class _Stop(Exception):
    """The budget is spent, or nothing is left to exclude that could help."""


class Planner:
    """Calls `evaluate` for at most `budget` choices; `trials` are what it returned, in order."""

    def __init__(self, sensitivities: Sequence[Sensitivity], evaluate: Callable[[Choice], Trial], budget: int) -> None:
        # The name makes the order deterministic for equal values.
        ranked = sorted(sensitivities, key=lambda s: (-s.loss_per_flop, -s.loss, s.unit.module))
        self._ranked = [found.unit for found in ranked]
        self._evaluate = evaluate
        self._budget = budget
        self.trials: list[Trial] = []

    def run(self) -> None:
        """Evaluate until the plan is done or the budget is spent."""
        try:
            found = self._try(Choice())
            if not found.passed:
                wanted = self._blamed(found)
                if not wanted:
                    raise _Stop
                linears = {unit for unit in self._ranked if unit.encoder in wanted and unit.can_go_by_channel}
                finer = self._try(Choice(by_channel=frozenset(linears)))
                found = self._reduce(self._exclude_until_passed(finer))
            self._draw_curve(found.by_channel)
            if (better := self.best()) is not found:
                self._reduce(better)
        except _Stop:
            pass

    def best(self) -> Trial:
        """The passing trial with the most work in FP8, and among equal ones that with the fewest choices.

        Raises:
            NoRecipe: no trial within the budget passes; the message says which gates the closest one fails.
        """
        passed = [trial for trial in self.trials if trial.passed]
        if passed:
            return max(passed, key=lambda t: (t.share, -len(t.excluded), -len(t.by_channel), t.fidelity))
        closest = min(self.trials, key=lambda trial: (sum(r.rejects for r in trial.gates), -trial.fidelity))
        failed = [f"  {sentence(result)}" for result in closest.gates if result.rejects]
        raise NoRecipe(
            "\n".join([f"no recipe met the gates in {len(self.trials)} evaluations", *failed]),
            where=f"the closest leaves {len(closest.excluded)} of {len(self._ranked)} modules in FP16",
            expected="a recipe that keeps some of each encoder's work in FP8 and passes every gate",
            fix="raise --budget; evaluate on more samples where a gate is undecided; or ask for less",
        )

    # --- the steps -----------------------------------------------------------------------------------------

    def _exclude_until_passed(self, trial: Trial) -> Trial:
        step = 1
        while not trial.passed:
            added = self._next(trial, step)
            if not added:
                raise _Stop
            before, trial, step = trial, self._try(_without(trial, added)), 2 * step
            if trial.passed and len(added) > 1:
                return self._bisect(before, added, trial)
        return trial

    def _bisect(self, before: Trial, added: Sequence[Unit], passed: Trial) -> Trial:
        """The trial with the fewest of `added`, from the first on, that passes."""
        low, high = 0, len(added)
        while high - low > 1:
            middle = (low + high) // 2
            trial = self._try(_without(before, added[:middle]))
            low, high, passed = (low, middle, trial) if trial.passed else (middle, high, passed)
        return passed

    def _reduce(self, trial: Trial) -> Trial:
        """Put units back into FP8, by channel if possible; then replace scales by channel by one scale if possible."""
        work = sorted(trial.excluded, key=lambda unit: (-unit.flops, -self._ranked.index(unit)))
        trial = self._take_back(trial, work, _put_back)
        least = sorted(trial.by_channel, key=lambda unit: -self._ranked.index(unit))
        return self._take_back(trial, least, lambda t, units: Choice(t.excluded, t.by_channel - set(units)))

    def _take_back(
        self, trial: Trial, units: Sequence[Unit], change: Callable[[Trial, Sequence[Unit]], Choice]
    ) -> Trial:
        """Apply `change` to as many of `units` as possible, trying halves first, as usually many can go together; then
        each remaining unit is necessary."""
        waiting = [units]
        while waiting:
            group = waiting.pop(0)
            if not group:
                continue
            attempt = self._try(change(trial, group))
            if attempt.passed:
                trial = attempt
            elif len(group) > 1:
                middle = len(group) // 2
                waiting[:0] = [group[:middle], group[middle:]]
        return trial

    def _draw_curve(self, by_channel: frozenset[Unit]) -> None:
        attention = frozenset(unit for unit in self._ranked if unit.kind == "attention")
        self._try(Choice(attention, by_channel))
        whole = sum(unit.flops for unit in self._ranked)
        for share in _CURVE:
            excluded, lost = [], 0
            for unit in self._ranked:
                if lost + unit.flops <= share * whole:
                    excluded.append(unit)
                    lost += unit.flops
            self._try(Choice(frozenset(excluded), by_channel - set(excluded)))

    # --- helpers -------------------------------------------------------------------------------------------

    def _next(self, trial: Trial, count: int) -> list[Unit]:
        """The best `count` further exclusions in the encoders that failed gates concern; each keeps one unit in FP8."""
        wanted = self._blamed(trial)
        left = [unit for unit in self._ranked if unit not in trial.excluded]
        found: list[Unit] = []
        for unit in left:
            excluded = trial.excluded | {*found, unit}
            if unit.encoder in wanted and len(found) < count and self._works(unit.encoder, excluded):
                found.append(unit)
        return found

    def _blamed(self, trial: Trial) -> set[Encoder]:
        """The encoders that failed gates concern; none if one of these gates does not depend on the recipe."""
        missed = [result for result in trial.gates if result.rejects]
        if any(result.name in _NOT_OURS or result.status == "not measured" for result in missed):
            return set()
        everyone = {unit.encoder for unit in self._ranked}
        return {encoder for encoder in everyone if encoder in {result.encoder for result in missed}} or everyone

    def _works(self, encoder: Encoder, excluded: frozenset[Unit]) -> bool:
        """Whether the encoder still has work in FP8; without any, it would really be FP16."""
        return any(unit.flops and unit.encoder == encoder and unit not in excluded for unit in self._ranked)

    def _try(self, choice: Choice) -> Trial:
        for trial in self.trials:
            if trial.choice == choice:
                return trial
        if len(self.trials) >= self._budget:
            raise _Stop
        self.trials.append(self._evaluate(choice))
        return self.trials[-1]


def _without(trial: Trial, units: Sequence[Unit]) -> Choice:
    return Choice(trial.excluded | set(units), trial.by_channel - set(units))


def _put_back(trial: Trial, units: Sequence[Unit]) -> Choice:
    finer = {unit for unit in units if unit.can_go_by_channel}
    return Choice(trial.excluded - set(units), trial.by_channel | finer)
