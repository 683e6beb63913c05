"""Making HTML pages: nothing is loaded from elsewhere, no script runs, and every text is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.inert import visible


def html_page(template: Path, **values: Any) -> str:
    """Fill a Jinja template; `css` in it is the content of the `.css` file beside it with the same name.

    Every value is escaped, and control and invisible characters are written as escapes; line ends stay.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=shown, trim_blocks=True, lstrip_blocks=True
    )
    css = Markup(template.with_suffix(".css").read_text(encoding="utf-8"))
    return environment.from_string(template.read_text(encoding="utf-8")).render(css=css, **values)
