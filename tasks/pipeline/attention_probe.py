"""Step 2, for recipes that ask: what a builder makes of attention in FP8, seen in an engine of one attention block."""

from __future__ import annotations

from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.engines import BatchProfile, backend_for
from tasks.engines.available import require_target
from tasks.engines.builder_turn import builder_turn
from tasks.engines.child import Job, build_in_child
from tasks.engines.plan import Made
from tasks.file_names import SKELETON_FILE, engine_name, onnx_name
from tasks.graph.attention_block import attention_block, products, quantized_attention, tokens, write_block
from tasks.graph.skeleton import Skeleton
from tasks.quantizing.recipe import Recipe
from tasks.runs.step_cost import StepStats
from tasks.runs.steps import StepOutput, cached_step, measured


class Probed(StepOutput):
    """What a target's builder makes of an encoder's attention.

    `fused` says whether it is one kernel in FP8; None if the engine does not tell, or if the recipe quantizes none of
    it, so that no builder was asked (`builder` is None). `modules` are patterns of the names of all the encoder's
    attention modules.
    """

    encoder: Encoder
    target: str
    tokens: int
    fused: bool | None
    builder: str | None
    modules: tuple[str, ...]


def probe(skeleton: ArtifactRef, encoder: Encoder, recipe: Recipe, target: str, profile: BatchProfile) -> Probed:
    """Build the first attention block of the encoder that the recipe quantizes, with random weights, and look.

    Raises:
        ExportError: the encoder has no attention that can be built alone.
        UnknownTarget, EngineUnavailable, Fp8Unavailable: there is no such target, or it cannot be built here.
        BuildError, BuilderCrash: the builder refused the graph, or died.
    """
    require_target(target, "fp8")
    with measured() as meter:
        whole = Skeleton.load(active_store().path(skeleton, SKELETON_FILE))
        quantized = quantized_attention(whole, recipe)
        block = attention_block(whole, quantized or None)
    made, stats = _built(block, recipe, target, profile) if quantized else (None, meter.stats)
    platform = backend_for(target).platform(target)
    return Probed(
        encoder=encoder,
        target=target,
        tokens=tokens(block),
        fused=None if made is None else made.fuses(products(block)),
        builder=f"{platform.runtime.replace('_', '-')} {platform.version}" if quantized else None,
        modules=whole.inventory.attention_patterns(),
        stats=stats,
    )


def _built(block: Skeleton, recipe: Recipe, target: str, profile: BatchProfile) -> tuple[Made | None, StepStats]:
    """What the builder made of a block, None if the engine does not tell, and the cost; nothing of it is kept."""
    with active_store().staging() as folder:
        job = Job(
            onnx=folder / onnx_name("fp8"), engine=folder / engine_name("fp8", target), target=target, profile=profile
        )
        write_block(block, recipe, job.onnx)
        with builder_turn(target):
            stats, _ = build_in_child(job)
            return backend_for(target).made(job.engine), stats


@cached_step("probe", version=2, packages=("tensorrt", "tensorrt-rtx", "polygraphy", "onnx"))
def probe_task(
    skeleton: ArtifactRef, encoder: Encoder, recipe: Recipe, target: str, profile: BatchProfile, device: str
) -> Probed:
    """`device` is the hardware that the engine is for; it is part of the cache key."""
    del device
    return probe(skeleton, encoder, recipe, target, profile)
