"""Bad inputs 32 and 34: configurations with a typo or a wrong type; tolerances and baselines that prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from artifacts.errors import SameAsBaseline
from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.data.texts import evaluation_texts
from tasks.pipeline.accuracy import score
from tests.hostile.support import Bad, Workshop, check_complete
from tests.tasks.support import kept

Refuse = Callable[[Bad], None]


def test_32_config_typo(shop: Workshop, refuse: Refuse) -> None:
    config = shop.config("calibration: {sample: 64}\n")
    words = ["calibration.sample", "Extra inputs", str(config)]
    refuse(Bad(["demo", "--config", config], "ConfigError", words))


@pytest.mark.parametrize(
    "text", ['calibration: {batch: "4"}', "calibration: {batch: 4.0}", "calibration: {batch: true}"]
)
def test_32_config_of_another_type(text: str, shop: Workshop, refuse: Refuse) -> None:
    config = shop.config(f"{text}\n")
    refuse(Bad(["demo", "--config", config], "ConfigError", ["calibration.batch", "integer", str(config)]))


# --- tolerances and baselines ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_34_baseline_equal_to_candidate(encoder: str, active: Store) -> None:
    """FP16 outputs under FP8's name: every tolerance would be met."""
    data, dataset = pin_data("digits", "evaluation", 20)
    keys = {"image": list(range(20)), "text": evaluation_texts(dataset)}
    rng = np.random.default_rng(0)
    runs = []
    for name in ("image", "text"):
        values = rng.standard_normal((len(keys[name]), 8))
        for precision, noise in (("fp32", 0.0), ("fp16", 1e-4), ("fp8", 1e-4 if name == encoder else 1e-2)):
            shift = noise * np.sin(np.arange(values.size)).reshape(values.shape)
            target = "pytorch" if precision == "fp32" else "onnxruntime"
            runs.append(kept(active, name, precision, target, keys[name], values + shift))
    with pytest.raises(SameAsBaseline, match=f"FP8 embeddings of the {encoder} encoder are those of FP16") as caught:
        score(data, runs)
    check_complete(caught.value, "onnxruntime")
    honest = [run for run in runs if (run.encoder, run.precision) != (encoder, "fp8")]
    assert score(data, honest).rows


TOLERANCES = ["0", "-0.1", "1.5", ".nan", ".inf", '"0.5"', "true"]


@pytest.mark.parametrize("value", TOLERANCES)
def test_34_tolerance_that_is_no_share(value: str, shop: Workshop, refuse: Refuse) -> None:
    config = shop.config(f"gates: {{max_top1_drop: {value}}}\n")
    what = "is not a number that can be set, line 1" if value in (".nan", ".inf") else "gates.max_top1_drop"
    refuse(Bad(["demo", "--config", config], "ConfigError", [what, str(config)]))
