"""ModelOpt's own search, `auto_quantize`, for comparison: its choices at given mean bits per weight.

It scores linear layers (q, k and v as one) by the gradients of a loss, and chooses the formats with the least sum of
scores that keep the mean bits per weight within a bound (`modelopt.torch.quantization.auto_quantize`, "gradient"): FP8
with one scale per weight, FP8 with one scale per output channel, or none. It does not know gates, so the bound is
bisected until they hold. It does not choose for attention products and embedding tables, which stay in FP8.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from artifacts.errors import ConfigError
from tasks.runs.stdout_to_log import prints_to_log
from tasks.search.choice import Choice
from tasks.search.journal import Journal
from tasks.search.plan import Trial
from tasks.search.units import Unit

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.clip.hugging_face import ClipFamily

_KIND = "auto_quantize"
_STEPS = 512
"""The number of bounds between 8 bits, where everything is FP8, and 16; each is solved on demand."""


@dataclass(frozen=True)
class Pairs:
    """A batch: FP32 pixels (batch, 3, H, W), the inputs of its distinct texts, and the index of each picture's text."""

    pixels: torch.Tensor
    texts: Sequence[torch.Tensor]
    targets: torch.Tensor


class AutoQuantize:
    """ModelOpt's search on one model. `load` gives the unquantized model, and `pairs` the samples to score it on; they
    are not called if the journal has all results."""

    def __init__(
        self,
        load: Callable[[], tuple[nn.Module, ClipFamily]],
        pairs: Callable[[], Sequence[Pairs]],
        units: Sequence[Unit],
        journal: Journal,
    ) -> None:
        self._load = load
        self._pairs = pairs
        self._linear = {unit.module: unit for unit in units if unit.kind == "linear"}
        self._journal = journal

    def choice(self, bits: float) -> Choice:
        """Its choice for the linear layers at this mean number of bits per weight, 8 to 16.

        Raises:
            ConfigError: the samples have a single caption, so there is no loss, and no gradients.
        """
        names = self._journal.get(_KIND, f"{bits:g}")
        if names is None:
            names = self._solve(bits)
            self._journal.put(_KIND, f"{bits:g}", names)
        return Choice(*(frozenset(self._linear[name] for name in part) for part in names))

    def _solve(self, bits: float) -> list[list[str]]:
        """The names of layers that are not quantized, and of layers with scales by channel."""
        import modelopt.torch.quantization as mtq

        # The cost if everything possible is FP8; other layers count as 16 bits per weight.
        costs = [min(found["costs"]) for found in self._state["candidate_stats"].values()]
        bound = max(bits, 16 * sum(costs) / self._state["cost_denominator"])
        with prints_to_log(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            config = mtq.get_auto_quantize_config(self._state, {"effective_bits": bound})
        on = {rule["quantizer_name"]: rule for rule in config["quant_cfg"] if rule.get("enable", True)}
        rules = {name: on.get(unit.weight_quantizer) for name, unit in self._linear.items()}
        by_channel = [name for name, rule in rules.items() if rule is not None and rule["cfg"].get("axis") is not None]
        return [[name for name, rule in rules.items() if rule is None], by_channel]

    @cached_property
    def _state(self) -> dict[str, Any]:
        """The search's state after calibration and scoring, which are done once."""
        import modelopt.torch.quantization as mtq
        import torch
        from torch import nn

        pairs = self._pairs()
        if all(len(batch.texts[0]) < 2 for batch in pairs):
            raise ConfigError(
                "auto_quantize needs pictures with different captions: its scores come from telling them apart",
                where="--compare",
                expected="at least two captions among the samples",
                fix="leave --compare out, or calibrate on other data",
            )
        model, family = self._load()
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        with torch.enable_grad(), prints_to_log(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _, state = mtq.auto_quantize(
                model,
                constraints={"effective_bits": 16.0},
                quantization_formats=[_format(None), _format(0)],
                data_loader=pairs,
                forward_step=lambda model, batch: _logits(model, family, batch),
                loss_func=lambda logits, batch: torch.nn.functional.cross_entropy(logits, batch.targets),
                num_calib_steps=len(pairs),
                num_score_steps=len(pairs),
                disabled_layers=[name for name in layers if name not in self._linear],
            )
        found: dict[str, Any] = state
        return found


def _format(axis: int | None) -> dict[str, Any]:
    """The configuration for FP8 E4M3, with one scale per weight, or one per output channel if `axis` is 0."""
    e4m3 = {"num_bits": (4, 3)}
    rules = [
        {"quantizer_name": "*weight_quantizer", "cfg": e4m3 | {"axis": axis}},
        {"quantizer_name": "*input_quantizer", "cfg": e4m3 | {"axis": None}},
    ]
    return {"quant_cfg": rules, "algorithm": "max"}


def _logits(model: Any, family: ClipFamily, batch: Pairs) -> torch.Tensor:
    """CLIP's logits (pictures, texts) for the loss of its training, in which equal captions count as one text."""
    import torch

    normalize = torch.nn.functional.normalize
    images = normalize(family.encode(model, "image", batch.pixels))
    texts = normalize(family.encode(model, "text", *batch.texts))
    scaled: torch.Tensor = model.logit_scale.exp() * images @ texts.T
    return scaled


def bisect(choice: Callable[[float], Choice], evaluate: Callable[[Choice], Trial], budget: int) -> list[Trial]:
    """Bisect for the fewest bits per weight with which the gates hold; return the trials, at most `budget`."""
    trials: dict[Choice, Trial] = {}
    low, high, step = -1, _STEPS, 0  # low fails, and high is assumed to hold
    while high - low > 1:
        made = choice(8 + 8 * step / _STEPS)
        if made not in trials:
            if len(trials) == budget:
                break
            trials[made] = evaluate(made)
        low, high = (low, step) if trials[made].passed else (step, high)
        step = (low + high) // 2
    return list(trials.values())
