"""Step 2, for recipes that ask: what a builder makes of attention in FP8, seen in an engine of one attention block."""

from __future__ import annotations

from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.engines import BatchProfile, backend_for
from tasks.engines.available import require_target
from tasks.engines.builder_turn import builder_turn
from tasks.engines.child import Job, build_in_child
from tasks.file_names import SKELETON_FILE, engine_name, onnx_name
from tasks.graph.attention_block import attention_block, products, tokens, write_block
from tasks.graph.skeleton import Skeleton
from tasks.quantizing.recipe import Recipe
from tasks.runs.steps import StepOutput, cached_step


class Probed(StepOutput):
    """What a target's builder makes of an encoder's attention.

    `fused` says whether it is one kernel in FP8; None if the engine does not tell. `modules` are patterns of the names
    of all the encoder's attention modules.
    """

    encoder: Encoder
    target: str
    tokens: int
    fused: bool | None
    builder: str
    modules: tuple[str, ...]


def probe(skeleton: ArtifactRef, encoder: Encoder, recipe: Recipe, target: str, profile: BatchProfile) -> Probed:
    """Build the encoder's first attention block in FP8, with random weights, and look.

    Raises:
        ExportError: the encoder has no attention that can be built alone.
        UnknownTarget, EngineUnavailable, Fp8Unavailable: there is no such target, or it cannot be built here.
        BuildError, BuilderCrash: the builder refused the graph, or died.
    """
    require_target(target, "fp8")
    store, backend = active_store(), backend_for(target)
    block = attention_block(Skeleton.load(store.path(skeleton, SKELETON_FILE)))
    with store.staging() as folder:
        job = Job(
            onnx=folder / onnx_name("fp8"), engine=folder / engine_name("fp8", target), target=target, profile=profile
        )
        write_block(block, recipe, job.onnx)
        with builder_turn(target):
            stats, _ = build_in_child(job)
            made = backend.made(job.engine)
    platform = backend.platform(target)
    return Probed(
        encoder=encoder,
        target=target,
        tokens=tokens(block),
        fused=None if made is None else made.fuses(products(block)),
        builder=f"{platform.runtime.replace('_', '-')} {platform.version}",
        modules=block.inventory.attention_patterns(),
        stats=stats,
    )


@cached_step("probe", version=2, packages=("tensorrt", "tensorrt-rtx", "polygraphy", "onnx"))
def probe_task(
    skeleton: ArtifactRef, encoder: Encoder, recipe: Recipe, target: str, profile: BatchProfile, device: str
) -> Probed:
    """`device` is the hardware that the engine is for; it is part of the cache key."""
    del device
    return probe(skeleton, encoder, recipe, target, profile)
