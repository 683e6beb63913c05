"""The output of `check` and `models` for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from artifacts.number_words import millions
from deployments.printing.console import print_list, stdout

if TYPE_CHECKING:
    from tasks.clip.hugging_face import ClipFamily
    from tasks.pipeline.outline import Outline, Tower

_WHEN = "in every run: embeddings of cosine 0.9999 or more"
_ELSEWHERE = "made by the model's own library, in clipsmith's tests: transformers does not read this layout"


def print_outline(found: Outline) -> None:
    """Print the description of a checkpoint in a dozen lines."""
    console = stdout()
    parameters = millions(sum(tower.parameters for tower in found.towers))
    console.say((found.model, "bold"), f"  family {found.family}, {parameters} parameters")
    heads = ("encoder", ">layers", ">width", ">heads", ">embedding", ">parameters", "input", f"FP8 by {found.recipe}")
    print_list(console, heads, [_row(tower) for tower in found.towers])
    lines = {
        "tokenizer": f"{found.tokenizer}, {found.vocabulary:,} tokens, texts of up to {found.context} tokens",
        "pictures": f"{found.image_processor}",
        "weights": _weights(found),
        "held to": f"{found.oracle}, {_WHEN if found.oracle == 'transformers' else _ELSEWHERE}",
    }
    for name, value in lines.items():
        console.say(f"{name:<10} {value}")
    for note in found.notes:
        console.say(f"{'note':<10} {note}")


def _weights(found: Outline) -> str:
    if found.tensors is not None:
        return f"{found.tensors} tensors, all there; values are read by a run"
    if not found.weights:
        return "not looked at"
    more = f" and {len(found.weights) - 1} more" if len(found.weights) > 1 else ""
    return f"{found.weights[0]}{more} at the hub; a run downloads them"


def _row(tower: Tower) -> tuple[str, ...]:
    inputs = " ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in tower.inputs.items())
    quantized = (
        f"{tower.linear_fp8} of {tower.linear} linear layers, {tower.attention_fp8} of {tower.attention} products"
    )
    return (
        tower.encoder,
        str(tower.layers),
        str(tower.hidden_size),
        str(tower.heads),
        str(tower.embedding_dim),
        millions(tower.parameters),
        inputs,
        quantized,
    )


def print_families(families: Iterable[ClipFamily]) -> None:
    """Print one line for each family, and its published models below it."""
    console = stdout()
    rows = [(family.name, family.covers, family.oracle) for family in families]
    print_list(console, ("family", "whose checkpoints", "held to"), rows)
    console.print()
    for family in families:
        console.say(f"{family.name:<20} {', '.join(family.known)}")
    console.print()
    console.say("What is not here is refused by its reason; `clipsmith check MODEL` tells it in seconds.")
