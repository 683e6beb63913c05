"""Break clipsmith on purpose, one mutant at a time in a copy of the checkout, and see that the tests notice.

Exits with 0 when every mutant was caught, with 1 when one was not, and with 2 when nothing could be found out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.finding import Unfit
from tests.mutants.running import Copy, Outcome, Run

_ROOT = Path(__file__).parent.parent.parent
_LIMIT_S = 300.0
_WIDTH = 100
_NAME = 34
_SPARE = _WIDTH - _NAME - 24
"""What a line has left for the test."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say what the mutants are, and run nothing")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant alone; repeatable")
    parser.add_argument("--root", type=Path, default=_ROOT, help="the checkout to test; default: this one")
    parser.add_argument("--python", default=sys.executable, help="its interpreter; default: this one")
    parser.add_argument("--limit", type=float, default=_LIMIT_S, help="seconds for a mutant's tests (%(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    options = parser.parse_args()
    strangers = set(options.only) - {mutant.name for mutant in MUTANTS}
    if strangers:
        parser.error(f"no mutant {', '.join(sorted(strangers))}; --list names them")
    return options


def main() -> int:
    """Run the mutants and print what became of each; the exit code."""
    options = _options()
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}\n    {mutant.symbol}\n    {', '.join(mutant.tests)}\n    {mutant.why}")
        return 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clipsmith-mutants-", ignore_cleanup_errors=True) as work:
        copy = Copy(options.root.resolve(), Path(work), options.python)
        unmutated = _unmutated(copy, mutants, options.limit)
        outcomes = _try_all(copy, mutants, options.limit) if unmutated.code == 0 else []
    seconds = time.perf_counter() - start
    if outcomes:
        _print_sum(outcomes, seconds)
    if options.json:
        document = {"unmutated": asdict(unmutated), "mutants": [asdict(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(document | {"seconds": round(seconds, 1)}, indent=2) + "\n")
    if not outcomes:
        return 2
    return 0 if all(outcome.result == "caught" for outcome in outcomes) else 1


def _unmutated(copy: Copy, mutants: Sequence[Mutant], limit_s: float) -> Run:
    """All tests that are named, once, as the checkout is: one that is red now would catch anything."""
    tests: dict[str, None] = {}
    for mutant in mutants:
        try:
            tests |= dict.fromkeys(copy.checkout.tests(mutant))
        except Unfit:  # its own line tells
            continue
    wanted = [test for test in tests if "::" not in test or test.partition("::")[0] not in tests]
    run = copy.run(sorted(wanted), limit_s * 3, first_only=False)
    print(f"unmutated: {run.passed} tests passed in {run.seconds:.0f} s", flush=True)
    if run.code is None:
        _say(f"they were not done within {limit_s * 3:g} s, so no mutant is tried")
    elif run.code:
        reason = f"{run.red} is red: {run.reason}" if run.red else run.last_words
        _say(f"without any mutant they are not all green, so nothing that they say counts: {reason}")
    return run


def _try_all(copy: Copy, mutants: Sequence[Mutant], limit_s: float) -> list[Outcome]:
    print(f"\n       {'mutant':<{_NAME}} {'result':<8} {'s':>5}  first red test", flush=True)
    outcomes = []
    for number, mutant in enumerate(mutants, 1):
        outcome = copy.try_out(mutant, limit_s)
        outcomes.append(outcome)
        place = f"{number}/{len(mutants)}"
        said = (outcome.red or "").rpartition("/")[2] if outcome.result == "caught" else outcome.detail
        line = f"{place:>6} {outcome.name:<{_NAME}} {outcome.result:<8} {outcome.seconds:>5.1f}  {_cut(said)}"
        print(line.rstrip(), flush=True)
    return outcomes


def _cut(text: str) -> str:
    return text if len(text) <= _SPARE else f"{text[: _SPARE - 3]}..."


def _print_sum(outcomes: Sequence[Outcome], seconds: float) -> None:
    counts: dict[Any, int] = dict.fromkeys(("caught", "survived", "error"), 0)
    for outcome in outcomes:
        counts[outcome.result] += 1
    said = ", ".join(f"{count} {result}" for result, count in counts.items() if count or result == "caught")
    print(f"\n{len(outcomes)} mutants: {said}, in {seconds:.0f} s")
    reasons = {mutant.name: mutant.why for mutant in MUTANTS}
    for outcome in outcomes:
        if outcome.result == "survived":
            _say(f"{outcome.name} ({outcome.symbol} in {outcome.file}) was not noticed: {reasons[outcome.name]}")
        elif outcome.result == "error":
            _say(f"{outcome.name} ({outcome.symbol}) was not found out about: {outcome.detail}")


def _say(text: str) -> None:
    print(f"\n{fill(text, _WIDTH)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
