"""Whether more calibration samples would help: one sentence per encoder."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.manifest import Row
from artifacts.number_words import percent
from artifacts.schema import number


def sentences(rows: Sequence[Row]) -> list[str]:
    """One per encoder, from the rows of the table `sufficiency`."""
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    return [f"{encoder}: {_sentence([row for row in rows if row['encoder'] == encoder])}" for encoder in encoders]


def _sentence(rows: Sequence[Row]) -> str:
    """The sentence for `rows` of one encoder, the fewest samples first; the others are compared with the last."""
    *earlier, last = rows
    if not earlier:
        return f"too few samples ({last['samples']}) to say whether more would help."
    enough = last
    for row in reversed(earlier):
        if row["more_helped"] == "yes":
            break
        enough = row
    if enough is last:
        return f"not yet enough: {_gain(earlier[-1], last)}."
    return f"more data stopped helping at {enough['samples']} of {last['samples']} samples."


def _gain(before: Row, last: Row) -> str:
    gain = (number(last, "cosine_mean") or 0.0) - (number(before, "cosine_mean") or 0.0)
    change = percent(number(before, "amax_change") or 0.0)
    return (
        f"from {before['samples']} to {last['samples']} samples the held-out cosine changed by {gain:+.2g} "
        f"and the amax of {before['quantizer']} by {change}"
    )
