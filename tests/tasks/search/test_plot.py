"""The plot shows every evaluated recipe, the one that was chosen, and the modules that cost the most."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from artifacts.manifest import GateResult
from tasks.search.choice import Choice
from tasks.search.plan import Trial
from tasks.search.plot import front_plot
from tasks.search.sensitivity import Sensitivity
from tasks.search.units import Unit

UNITS = [Unit("image", f"layers.{n}.fc1", "linear", 10, {}) for n in range(20)]


def trial(count: int, status: str, finer: int = 0) -> Trial:
    gate = GateResult(name="min_cosine_mean", status=status, min=0.9, value=0.9)  # type: ignore[arg-type]
    choice = Choice(frozenset(UNITS[:count]), frozenset(UNITS[10 : 10 + finer]))
    return Trial(choice, 1 - count / 20, 0.9 + count / 1000, (gate,))


def test_the_plot_is_svg_with_the_most_sensitive_modules() -> None:
    trials = [trial(0, "failed"), trial(2, "passed"), trial(5, "passed")]
    losses = [Sensitivity(unit, 10.0**-n, 10.0 * n) for n, unit in enumerate(UNITS)]
    svg = front_plot(trials, trials[1], losses)
    assert ET.fromstring(svg).tag.endswith("svg")
    assert re.findall(r"layers\.(\d+)\.fc1", svg) and "layers.0.fc1" in svg and "layers.15.fc1" not in svg
    for words in ("meets the gates", "does not", "the recipe"):
        assert words in svg
    assert "the recipe" not in front_plot(trials[:1], None, losses)
    assert front_plot(trials, trials[1], losses) == svg
    assert "by channel" not in svg and "auto_quantize" not in svg
    assert "$" not in svg  # math, which a page shows as it is written
    rival = front_plot(trials, trials[1], losses, [trial(9, "failed")])
    assert "auto_quantize, does not" in rival and ">auto_quantize<" not in rival
    svg = front_plot([*trials, trial(1, "failed", 3)], trials[1], losses)
    assert "does not, scales by channel" in svg and "gates, scales by channel" not in svg
