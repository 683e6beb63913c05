"""Numbers, intervals, counts and times as text for people. All such formatting is here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artifacts.manifest import Cell


NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
RATES = r"top\d|recall@|mean_class_recall"
"""Names of accuracy metrics that are fractions of 1, and of figures derived from them."""
_MB = 1_000_000


def megabytes(size: float, digits: int | None = None) -> str:
    """Bytes as MB (10^6 bytes); with `digits` None, small sizes get more digits."""
    value = size / _MB
    if digits is None:
        digits = 1 if value >= 1 or not value else 3
    return f"{value:,.{digits}f} MB"


def millions(count: float) -> str:
    """`151.3 M`."""
    return f"{count / 1e6:,.1f} M"


def counted(number: int, name: str) -> str:
    """`1 release`, `2 releases`."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def about(seconds: float) -> str:
    """A duration as people say it: 40 s, 3 min, 2 h 10 min."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(created: str) -> str:
    """An ISO 8601 time, to the minute."""
    return created[:16].replace("T", " ")


def given(value: object, pattern: str, absent: str = "-") -> str:
    """A value formatted by `pattern`, such as `{:.2f} ms`; `absent` for None."""
    return absent if value is None else pattern.format(value)


def interval(low: object, high: object, pattern: str, name: str = "") -> str:
    """` (0.1 to 0.2)`, to follow a number; empty without an interval."""
    return "" if low is None or high is None else f" ({name}{pattern.format(low)} to {pattern.format(high)})"


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction of 1 as a percentage."""
    return f"{fraction * 100:.{digits}f} %".replace("-", MINUS)


def percent_change(fraction: float) -> str:
    """A relative change as a percentage, with its sign."""
    return f"{fraction * 100:+.1f} %".replace("-", MINUS)


def points(fraction: float, digits: int = 1) -> str:
    """A difference of two fractions in percentage points, always with its sign."""
    return f"{_signed(fraction * 100, digits)} points"


def points_range(low: float, high: float, digits: int = 1) -> str:
    """An interval of differences, in percentage points."""
    return f"{_signed(low * 100, digits)} to {_signed(high * 100, digits)}"


def loss(fraction: float, digits: int = 2) -> str:
    """A loss in percentage points; a gain is negative."""
    text = f"{fraction * 100:.{digits}f}"
    return (text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)) + " points"


def quantity(value: Cell, unit: str = "") -> str:
    """A table's cell as text: with the unit for bytes, fractions and ratios, without it for others; `-` if absent."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return _in_unit(value, unit)


def _in_unit(value: float, unit: str) -> str:
    match unit:
        case "bytes":
            return megabytes(value)
        case "ms":
            return f"{value:,.{0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 4}f}"
        case "fraction":
            return percent(value)
        case "ratio":
            return f"{value:.2f}x"
        case "s" | "1/s":
            return f"{value:,.1f}"
        case "MB" | "MHz":
            return f"{value:,.0f}"
        case _:
            return f"{value:,}" if isinstance(value, int) else f"{value:.6g}".replace("-", MINUS)


def metric(name: str, value: float | None) -> str:
    """The value of an accuracy metric: rates in percent, differences in points, the rest as they are."""
    if value is None:
        return NONE
    if name.endswith(("_difference", "_over_chance")):
        return points(value, 2)
    if name.endswith("_mcnemar_p"):
        return f"{value:.2g}"
    if re.match(RATES, name):
        return percent(value, 2)
    if name.startswith(("cosine", "rank_agreement")):
        return f"{value:.6f}"
    return f"{value:,.0f}" if name == "nonfinite" else f"{value:.4g}".replace("-", MINUS)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    # A value that rounds to zero gets no sign.
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)
