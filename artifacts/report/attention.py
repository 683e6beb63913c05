"""What builders said of attention in FP8 when the recipe asked, and what was decided: one sentence per encoder."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.manifest import Row

_WORDS = {"yes": "one kernel", "no": "several kernels"}


def sentences(rows: Sequence[Row]) -> list[str]:
    """One per encoder, from the rows of the table `attention`."""
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    return [f"{encoder}: {_sentence([row for row in rows if row['encoder'] == encoder])}" for encoder in encoders]


def _sentence(rows: Sequence[Row]) -> str:
    """The sentence for the rows of one encoder, which differ in their targets."""
    told = [row for row in rows if row["fused"] in _WORDS]
    silent = ", ".join(str(row["target"]) for row in rows if row not in told)
    decided = f"attention in {str(rows[0]['precision']).upper()}"
    if told:
        alike: dict[tuple[str, str], list[str]] = {}
        for row in told:
            alike.setdefault((_WORDS[str(row["fused"])], str(row["builder"])), []).append(str(row["target"]))
        made = ", ".join(f"{word} for {' and '.join(names)} ({builder})" for (word, builder), names in alike.items())
        others = f"; {silent} cannot tell" if silent else ""
        return f"{decided}, as FP8 attention over {told[0]['tokens']} tokens becomes {made}{others}"
    if rows[0]["precision"] == "fp16":
        return f"{decided}, as the recipe quantizes none of it"
    return f"{decided}, as no target tells what its builder would make of it" + (f" ({silent})" if silent else "")
