"""Files that people or other programs configure things with, JSON and YAML: read strictly, refused in one form.

A key that stands twice is refused, of which readers take one without a word; NaN and infinity are, which no setting of
ours means; and a file that is too large to be a configuration.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from artifacts.errors import ClipsmithError
from artifacts.limits import Limits
from artifacts.records import refuse_large
from artifacts.strict_json import strict_json

SOUND_JSON = "JSON in UTF-8 without NaN, each key once"
_SOUND_YAML = "a readable YAML file, each key once"
_JSON_LIMIT = Limits(bytes=8 << 20, values=400_000)
_YAML_LIMIT = Limits(bytes=1 << 20, values=100_000)
"""What people write is smaller; who reads a program's files may say otherwise."""
_MALFORMED = (OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What is raised for values that are taken for dates, numbers and the like and are none, for what is not there, and on
deep nesting."""
T = TypeVar("T")


def read_file(
    path: Path,
    parse: Callable[[Any], T],
    *,
    what: str,
    error: type[ClipsmithError],
    fix: str = "correct the file",
    expected: str | None = None,
    limit: Limits | None = None,
) -> T:
    """What `parse` makes of the content of a file: JSON by its name, else YAML.

    Raises:
        error: it cannot be read, or `parse` raises one of Python's errors for its content; `what` is how the message
            calls the file.
    """
    is_json = path.suffix == ".json"
    try:
        most = limit or (_JSON_LIMIT if is_json else _YAML_LIMIT)
        with path.open("rb") as stream:
            data = stream.read(most.bytes + 1)
        refuse_large(data, most)
        return parse(strict_json(data) if is_json else _strict_yaml(data))
    except _MALFORMED as problem:
        raise error(
            f"{what} cannot be read: {' '.join(str(problem).split())}",
            where=path,
            expected=expected or (SOUND_JSON if is_json else _SOUND_YAML),
            fix=fix,
        ) from problem


def mapping(content: Any) -> dict[str, Any]:
    """The content of a file that has names and values. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")
    return content


def _strict_yaml(data: bytes) -> Any:
    import yaml

    try:
        return yaml.load(data.decode("utf-8"), Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


@cache
def _loader() -> Any:
    import yaml

    class Strict(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node: yaml.MappingNode = super().compose_mapping_node(anchor)
            keys = (
                key.value if key.tag == "tag:yaml.org,2002:merge" else self.construct_object(key, deep=True)
                for key, _ in node.value
            )
            twice = [key for key, count in Counter(keys).items() if count > 1]
            if twice:
                raise ValueError(f"{twice[0]!r} is given twice, line {node.start_mark.line + 1} on")
            return node

        def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
            value: float = super().construct_yaml_float(node)
            if not math.isfinite(value):
                raise ValueError(f"{value} is no number that can be set, line {node.start_mark.line + 1}")
            return value

    Strict.add_constructor("tag:yaml.org,2002:float", Strict.construct_yaml_float)
    return Strict
