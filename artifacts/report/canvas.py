"""Drawing plots with matplotlib, all in one style; the result is SVG, as text or as a `data:` URI."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

from artifacts.inert import visible

FP_COLOURS = {"fp32": "#475569", "fp16": "#94a3b8", "fp8": "#1d4ed8"}
OTHER, INK, QUIET, LINE = "#64748b", "#1f2937", "#5b6675", "#d9dee5"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
_WIDTH = 9.6
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so layouts are the same on every machine
    "font.size": 9,
    "grid.color": "#eceff3",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "clipsmith",  # the same data gives the same bytes
    "text.color": INK,
    "text.parse_math": False,  # dollar signs in names are not math
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.left": False,
}

# matplotlib ships no types, so its axes are Any here.
Axes = Any
_P = ParamSpec("_P")
Canvas = tuple[list[list[Axes]], Callable[[], str]]


def shown(plot: Callable[_P, str | None]) -> Callable[_P, str | None]:
    """A decorator for plots: every text in the arguments goes through `artifacts.inert.visible`, as fonts fail on lone
    surrogates and XML does not allow control characters."""

    @wraps(plot)
    def draw(*values: _P.args, **named: _P.kwargs) -> str | None:
        return plot(*map(_shown, values), **named)

    return draw


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def canvas(height: float, rows: int = 1, columns: int = 1, **options: Any) -> Iterator[Canvas]:
    """A grid of axes, and the function that ends the drawing and returns it as a `data:` URI."""
    with drawing(height, rows, columns, **options) as (grid, finish):
        yield grid, lambda: as_uri(finish())


def as_uri(svg: str) -> str:
    """SVG as a `data:` URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


@contextmanager
def paired(panels: int, height: float, above: float = 0.0) -> Iterator[tuple[list[Axes], Callable[[], str]]]:
    """Axes for `panels` panels, two in a row, and the function that returns the SVG; a surplus place stays empty.

    `height` is the height of a row in inches, `above` the free height above all rows.
    """
    columns = min(2, max(1, panels))
    rows = max(1, -(-panels // columns))
    with drawing(above + rows * height, rows, columns) as (grid, finish):
        places = [axes for line in grid for axes in line]
        for axes in places[panels:]:
            axes.set_axis_off()
        yield places, finish


@contextmanager
def drawing(height: float, rows: int = 1, columns: int = 1, **options: Any) -> Iterator[Canvas]:
    """A grid of axes, and the function that ends the drawing and returns it as SVG; `height` is in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure.subplots(rows, columns, squeeze=False, **options).tolist(), lambda: _svg(figure)


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    # Without these the file would hold its date and a link to its maker.
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = visible(stream.getvalue(), lines=True)
    # The XML prologue is cut off, as it refers to a DTD on the web. The fonts become those of the surrounding page.
    return svg[svg.index("<svg") :].replace("'DejaVu Sans'", _FONTS)
