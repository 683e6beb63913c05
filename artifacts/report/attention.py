"""What builders said of attention in FP8 when the recipe asked, and what was decided: one sentence per encoder."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.manifest import Row


def sentences(rows: Sequence[Row]) -> list[str]:
    """One per encoder, from the rows of the table `attention`."""
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    return [f"{encoder}: {_sentence([row for row in rows if row['encoder'] == encoder])}" for encoder in encoders]


def _sentence(rows: Sequence[Row]) -> str:
    """The sentence for the rows of one encoder, which differ in their targets."""
    told = [row for row in rows if row["fused"] is not None]
    silent = ", ".join(str(row["target"]) for row in rows if row["fused"] is None)
    decided = f"attention in {str(rows[0]['precision']).upper()}"
    if not told:
        return f"{decided}, as no target tells what its builder would make of it" + (f" ({silent})" if silent else "")
    words = {"yes": "one kernel", "no": "several kernels"}
    made = ", ".join(f"{words[str(row['fused'])]} for {row['target']} ({row['builder']})" for row in told)
    return f"{decided}, as {told[0]['tokens']} tokens in FP8 make {made}" + (
        f"; {silent} cannot tell" if silent else ""
    )
