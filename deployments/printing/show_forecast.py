"""What a run would do: lines for people, a document for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifacts.number_words import about, counted, given, megabytes
from deployments.printing.console import paragraph, print_list, stdout

if TYPE_CHECKING:
    from flows.dry_run import Forecast


def print_forecast(found: Forecast) -> None:
    """A line for each step, then how many of them are in the cache, how long the others take, and the disk."""
    console = stdout()
    seconds = {} if found.times is None else found.times.seconds
    rows = [
        (str(step), given(seconds.get(step), "{:,.1f} s"), "cached" if step in found.cached else "")
        for step in found.steps
    ]
    print_list(console, ("step", ">last time", "now"), rows)
    left = len(found.steps) - len(found.cached)
    text = f"{counted(len(found.steps), 'step')}, {len(found.cached)} of them in the cache"
    if left:
        text += f"; up to {left} to do"
    if left and found.times is not None and found.seconds is not None:
        text += f", about {about(found.seconds)} by the last run's times ({found.times.ref})"
    paragraph(console, text, indent=0)
    needed = "the weights are not here, so the room is not known" if found.needed is None else None
    needed = needed or f"the run may need {megabytes(found.needed or 0, 0)}"
    paragraph(console, f"disk: {needed}; {megabytes(found.free, 0)} are free", indent=0)
    console.say("nothing was started")


def document(found: Forecast) -> dict[str, Any]:
    """The same as JSON values."""
    seconds = {} if found.times is None else found.times.seconds
    return {
        "steps": [
            {"step": str(step), "cached": step in found.cached, "seconds": seconds.get(step)} for step in found.steps
        ],
        "seconds": found.seconds,
        "times_of": None if found.times is None else found.times.ref,
        "needed_bytes": found.needed,
        "free_bytes": found.free,
    }
