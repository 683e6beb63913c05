"""The search for a recipe: the steps up to the first FP8 graph, then measuring, planning and evaluating.

It does not use Prefect: slow results are kept in the search's own journal, one entry per unit and evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from pydantic import Field

from artifacts.copies.opening import open_store
from artifacts.errors import ConfigError, ObjectDamaged, ObjectMissing
from artifacts.manifest import Encoder, Row
from artifacts.models import Strict
from artifacts.refs import ArtifactRef, digest_json
from artifacts.release.gates import Gates
from artifacts.store.store import activate, active_store
from flows.inputs import pin_arguments, plan
from flows.parameters import OptimizeParameters
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import AMAX_FILE, Snapshot, read_amax_file
from tasks.clip.base import ENCODERS
from tasks.clip.hugging_face import ClipFamily
from tasks.data.batches import stream_batches, stream_pictures
from tasks.data.picture_spool import PictureSpool, discard_pictures
from tasks.data.pictures import Selected, picture_places
from tasks.data.pinned import PinnedData, pin_both
from tasks.data.subset import subset
from tasks.data.texts import evaluation_texts
from tasks.evaluation.kept_embeddings import REFERENCE, Embedded, load_embedded
from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import CheckedCheckpoint, check, resolve
from tasks.pipeline.embedding import embed
from tasks.pipeline.parity import check_parity
from tasks.quantizing.modelopt import load_exposed
from tasks.quantizing.recipe import Recipe, load_recipe
from tasks.search.auto_quantize import AutoQuantize, Pairs
from tasks.search.choice import Choice
from tasks.search.evaluation import EncoderGraph, Evaluator
from tasks.search.feeds import Feed, Feeds
from tasks.search.journal import Journal
from tasks.search.plan import Trial
from tasks.search.plot import front_plot
from tasks.search.recipe_file import chosen, write_recipe
from tasks.search.run import Batches, Measured, compare, evaluator, find, measure_all
from tasks.search.units import Unit

WIDEST = "fp8-compact"
"""The recipe that quantizes everything that can be FP8: where a search starts by default."""
_VERSION = 1
"""The version of the journal's measurements: raise it when a measurement changes."""
_BATCH = 32
"""Samples per forward pass of a variant: enough rows for efficient GEMMs, few enough for the memory of large models."""


class SearchSettings(Strict):
    """The settings of a search in addition to the parameters of `optimize`.

    Sensitivity is measured on `samples` of the calibration data, drawn with `seed`. At most `budget` recipes are
    evaluated. The recipe is written to `out`, the journal and the plot beside it. `compare` also runs ModelOpt's
    `auto_quantize` on the same task.
    """

    budget: int = Field(default=40, ge=1, le=10_000)
    samples: int = Field(default=64, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)
    out: Path = Path("recipe.yaml")
    compare: bool = False

    @property
    def journal(self) -> Path:
        return self.out.with_suffix(".journal.jsonl")

    @property
    def plot(self) -> Path:
        return self.out.with_suffix(".svg")


@dataclass(frozen=True)
class Found:
    """A search's result; `trials` are all evaluated recipes in order, and the first has everything in FP8.

    `rival` are the trials of `auto_quantize`, empty if it was not run.
    """

    best: Trial
    trials: tuple[Trial, ...]
    rival: tuple[Trial, ...]
    measured: Measured
    settings: SearchSettings


def search(parameters: OptimizeParameters, settings: SearchSettings) -> Found:
    """Find the recipe, and write it with the journal and the plot.

    The search starts from `parameters.recipe`, and the result must meet `parameters.gates`.

    Raises:
        NoRecipe: no recipe within the budget meets the gates; the plot is written all the same.
        ConfigError: there is nothing to search for, or the journal belongs to another search.
    """
    recipe = load_recipe(parameters.recipe)
    if recipe.attention is not None:
        raise ConfigError(
            f"recipe {recipe.name!r} lets builders decide on attention, and a search asks none",
            where="--recipe",
            expected="a recipe that says of every quantizer whether it is on",
            fix="start from fp8 or fp8-compact",
        )
    if settings.out.suffix not in (".yaml", ".yml") or not settings.out.parent.is_dir():
        raise ConfigError(
            f"{settings.out} cannot become a recipe file",
            where="--out",
            expected="a .yaml file in a folder that exists",
            fix="for example --out recipe.yaml",
        )
    with activate(open_store(parameters.store)):
        inputs = _Inputs.of(parameters, recipe)
        journal = Journal(settings.journal, inputs.digest(settings))
        source = _Source(parameters, settings, recipe, inputs, journal)
        measured = measure_all(source.graphs, recipe, source.batches, journal)
        evaluate = evaluator(measured, source.rows, parameters.gates, journal)
        planner = find(measured, evaluate, settings.budget)
        rival = compare(source.auto_quantize(measured), evaluate, settings.budget) if settings.compare else []
        discard_pictures(inputs.checked.preprocess, inputs.data.evaluation)
    passed = any(trial.passed for trial in planner.trials)
    plot = front_plot(planner.trials, planner.best() if passed else None, measured.sensitivities, rival)
    settings.plot.write_text(plot, encoding="utf-8")
    best = planner.best()
    write_recipe(chosen(recipe, best.choice), settings.out, _description(best, recipe, parameters.gates))
    return Found(best, tuple(planner.trials), tuple(rival), measured, settings)


def _description(best: Trial, recipe: Recipe, gates: Gates) -> str:
    bounds = ", ".join(f"{gate.name} {gate.min if gate.max is None else gate.max:g}" for gate in gates.gates())
    finer = "" if not best.by_channel else f", and the weights of {_listed(best.by_channel)} scaled by channel"
    return (
        f"The recipe {recipe.name} with {_listed(best.excluded)} in FP16 besides{finer}; "
        f"{best.share:.2%} of the operations are in FP8. Found by a search for the most that meets {bounds}."
    )


def _listed(units: frozenset[Unit]) -> str:
    return ", ".join(sorted(unit.module for unit in units)) or "nothing"


@dataclass(frozen=True)
class _Inputs:
    """What a search starts from, pinned."""

    snapshot: Snapshot
    checked: CheckedCheckpoint
    data: PinnedData
    plan: str

    @classmethod
    def of(cls, parameters: OptimizeParameters, recipe: Recipe) -> _Inputs:
        """Pin the checkpoint and the data.

        Raises:
            ConfigError: the checkpoint has its own scales, or the parameters ask for something a search cannot judge.
        """
        snapshot = resolve(parameters.model, parameters.revision, active_store(), image_size=parameters.chosen_size)
        if snapshot.calibrated:
            raise ConfigError(
                "this checkpoint brings the scales of the recipe that made it",
                where=parameters.model,
                expected="the original weights",
                fix="give the model that it was made of",
            )
        unjudged = {gate.name for gate in parameters.gates.gates() if gate.table != "accuracy" and gate.required}
        if set(parameters.encoders) != set(ENCODERS) or unjudged:
            raise ConfigError(
                "a search judges both encoders, and their accuracy",
                expected="`encoders: [image, text]`, and no `max_size_ratio` nor gates on engines",
                fix="leave them out",
            )
        data = pin_both(*pin_arguments(parameters, recipe, snapshot, active_store()))
        checked = check(snapshot)
        check_parity(snapshot, checked.preprocess)
        # Gates, targets and the model's name do not change what is measured.
        sections = {"model", "revision", "image_size", "recipe", "calibration", "evaluation"}
        decisive = OptimizeParameters.model_validate(parameters.model_dump(include=sections) | {"targets": []})
        return cls(snapshot, checked, data, plan(decisive, recipe, snapshot, data))

    def digest(self, settings: SearchSettings) -> str:
        """The digest of everything that the journal depends on; gates and budget are not part of it."""
        return digest_json([_VERSION, self.plan, settings.samples, settings.seed])


@dataclass
class _Source:
    """What measuring and evaluating need, made on first use, as a journal may already have all results."""

    parameters: OptimizeParameters
    settings: SearchSettings
    recipe: Recipe
    inputs: _Inputs
    journal: Journal

    @cached_property
    def family(self) -> ClipFamily:
        return family_named(self.inputs.snapshot.family)

    @cached_property
    def processor(self) -> Preprocess:
        folder = active_store().path(self.inputs.checked.preprocess)
        return Preprocess(folder, self.family, self.inputs.snapshot.config)

    @cached_property
    def graphs(self) -> dict[Encoder, EncoderGraph]:
        """The graph of each encoder, traced once; every variant is made from it."""
        snapshot = self.inputs.snapshot
        return {
            encoder: EncoderGraph(
                trace_by_block(self.family, snapshot.config, encoder), snapshot.weights(), self._amax(encoder)
            )
            for encoder in ENCODERS
        }

    def _amax(self, encoder: Encoder) -> dict[str, float]:
        """The amax by quantizer, as `optimize` calibrates it: a maximum does not depend on other quantizers."""
        amax: dict[str, float] | None = self.journal.get("amax", encoder)
        if amax is None:
            data = self.inputs.data.calibration
            assert data is not None  # `of` refuses checkpoints with scales, and the recipe quantizes
            size = self.parameters.calibration.batch_size
            made = calibrate(self.inputs.snapshot, self.inputs.checked.preprocess, data, self.recipe, encoder, size)
            amax = read_amax_file(active_store().path(made.table, AMAX_FILE))
            self.journal.put("amax", encoder, amax)
        return amax

    @cached_property
    def drawn(self) -> Selected:
        """The calibration samples on which sensitivity is measured."""
        data = self.inputs.data.calibration
        assert data is not None
        dataset = data.open()
        return Selected(dataset, subset(len(dataset.samples), self.settings.samples, self.settings.seed))

    def batches(self, encoder: Encoder) -> Batches:
        """The drawn samples of the calibration set, as the encoder's inputs; equal captions count once."""
        import torch

        if encoder == "image":
            found = [batch.pixel_values for batch in stream_pictures(self.drawn, self.processor, _BATCH)]
            return [[torch.from_numpy(pixels)] for pixels in found]
        texts = list(dict.fromkeys(sample.caption for sample in self.drawn.samples))
        feeds = self._text_feeds(texts, _BATCH)
        return [[torch.from_numpy(values) for values in feed.values()] for _, feed in feeds]

    def auto_quantize(self, measured: Measured) -> AutoQuantize:
        """ModelOpt's search on the same samples."""
        load = partial(load_exposed, self.inputs.snapshot)
        return AutoQuantize(load, self._pairs, measured.units, self.journal)

    def _pairs(self) -> list[Pairs]:
        import torch

        found = []
        for batch in stream_batches(self.drawn, self.processor, _BATCH):
            captions = [self.drawn.samples[index].caption for index in batch.indices]
            texts = list(dict.fromkeys(captions))
            inputs = [torch.from_numpy(values) for values in self.processor.text_inputs(texts).values()]
            targets = torch.tensor([texts.index(caption) for caption in captions])
            found.append(Pairs(torch.from_numpy(batch.pixel_values), inputs, targets))
        return found

    def rows(self, choice: Choice) -> list[Row]:
        """The rows of the accuracy table with this choice."""
        return self._evaluator.rows(choice)

    @cached_property
    def _evaluator(self) -> Evaluator:
        dataset = self.inputs.data.evaluation.open()
        pictures = Selected(dataset, picture_places(dataset))
        texts = evaluation_texts(dataset)
        size = self.parameters.evaluation.batch
        inputs = self.inputs
        spool = PictureSpool(inputs.checked.preprocess, inputs.data.evaluation, pictures, self.processor)
        feeds: dict[Encoder, Feeds] = {
            "image": Feeds(lambda: self._image_feeds(pictures, size, spool)),
            "text": Feeds(lambda: self._text_feeds(texts, size)),
        }
        fp32 = {encoder: self._fp32(encoder, size) for encoder in ENCODERS}
        return Evaluator(self.graphs, self.recipe, feeds, dataset, fp32)

    def _fp32(self, encoder: Encoder, size: int) -> Embedded:
        """The FP32 embeddings of the evaluation set, computed in PyTorch by the model's own library as in `optimize`.

        The journal names the object that holds them; if the store no longer has it, they are computed again.
        """
        known = self.journal.get("fp32", encoder)
        if known is not None:
            with suppress(ObjectMissing, ObjectDamaged):
                return load_embedded(ArtifactRef.model_validate(known))
        inputs = self.inputs
        made = embed(
            inputs.snapshot, inputs.checked.preprocess, inputs.data.evaluation, encoder, "fp32", REFERENCE, None, size
        )
        self.journal.put("fp32", encoder, made.outputs.model_dump(mode="json"))
        return load_embedded(made.outputs)

    def _image_feeds(self, pictures: Selected, size: int, spool: PictureSpool) -> Iterator[Feed]:
        for batch in stream_pictures(pictures, self.processor, size, keeper=spool):
            yield [pictures.places[index] for index in batch.indices], {"pixel_values": batch.pixel_values}

    def _text_feeds(self, texts: Sequence[str], size: int) -> Iterator[Feed]:
        for start in range(0, len(texts), size):
            chunk = list(texts[start : start + size])
            yield chunk, self.processor.text_inputs(chunk)
