"""Configuration files of people and of other programs, JSON and YAML: read strictly, refused with one kind of message.

Refused are a key that occurs twice (most readers keep one of the two silently), NaN and infinity (no setting of ours
has such a value), and a file that is too large to be a configuration.
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
"""Files that people write are smaller; a caller that reads a program's files may pass another limit."""
_MALFORMED = (OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What reading and parsing raise: for a missing file, for a text that looks like a date or number and is not one, for a
missing key, and for deep nesting."""
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
    """Read a file, as JSON if its name ends in .json and else as YAML, and return what `parse` makes of its content.

    `what` is how messages call the file.

    Raises:
        error: the file cannot be read, or `parse` raises one of Python's errors for its content.
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
    """Return `content` if it is a mapping, else raise ValueError."""
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
                raise ValueError(f"{value} is not a number that can be set, line {node.start_mark.line + 1}")
            return value

    Strict.add_constructor("tag:yaml.org,2002:float", Strict.construct_yaml_float)
    return Strict
