"""The samples behind a release's numbers: what its plots are drawn from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from artifacts import limits, places
from artifacts.errors import NumericError, TableError
from artifacts.manifest import Row
from artifacts.records import came_refused, in_a_line, load_strictly, read_bytes, refuse_large
from artifacts.schema import number

_PICTURE = r"(data:image/jpeg;base64,[A-Za-z0-9+/]+=*)?"
"""The only form of picture that the page accepts: it loads nothing from elsewhere."""


_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_Text = Annotated[str, Field(max_length=limits.CELL)]
_Share = Annotated[float, Field(ge=0, le=1)] | None


class _Class(BaseModel):
    model_config = _STRICT
    target: _Text
    name: _Text = Field(alias="class")
    samples: int = Field(ge=0, le=limits.LARGEST_SIZE)
    fp32: _Share = None
    fp16: _Share = None
    fp8: _Share = None


class _Changed(BaseModel):
    model_config = _STRICT
    target: _Text
    sample: _Text
    thumbnail: Annotated[str, Field(max_length=limits.THUMBNAIL)] | None = None
    truth: _Text
    fp32: _Text
    fp8: _Text
    fp32_margin: float
    fp8_margin: float


class _Details(BaseModel):
    model_config = _STRICT
    classes: Annotated[list[_Class], FailFast()] = []
    changed: Annotated[list[_Changed], FailFast()] = []
    alike: Annotated[list[list[_Text]], FailFast()] = []


class _Classes(BaseModel):
    model_config = _STRICT
    names: Annotated[list[_Text], FailFast()]
    templates: Annotated[list[_Text], FailFast()]


_SERIES = TypeAdapter[Any](dict[_Text, Annotated[list[float], FailFast()]], config=ConfigDict(allow_inf_nan=False))
_FORMS: Mapping[str, TypeAdapter[Any]] = {
    places.COSINES: _SERIES,
    places.LATENCIES: _SERIES,
    places.DETAILS: TypeAdapter(_Details),
    places.CLASSES: TypeAdapter(_Classes | None),
    places.KEYS: TypeAdapter(Annotated[list[int | _Text], FailFast()]),
}
"""The content of each JSON file of evidence, by its name in its object."""


class Series(NamedTuple):
    """What a series of samples is about, from its key: `image fp8 onnxruntime` or `image fp8 onnxruntime batch 8`."""

    encoder: str
    precision: str
    target: str
    batch: int | None


@dataclass(frozen=True)
class Evidence:
    """Samples behind the tables; any of these may be empty.

    `cosines`: per sample, against FP32, by `<encoder> <precision> <target>`.
    `latencies_ms`: per timed call, by `<encoder> <precision> <target> batch <n>`.
    `convergence`: rows of quantizer, samples, amax: the running amax while calibrating.
    `classes`: rows of target, class, samples (there may be none), and the recall in fp32, fp16 and fp8 (or None).
    `alike`: groups of class names whose embeddings are equal.
    `changed`: rows of target, sample, thumbnail (the data URI of a picture; absent in older releases), truth, the
    best answers in fp32 and fp8, and fp32_margin and fp8_margin: by how much the best right answer beats the best wrong
    one, in cosine.

    Raises:
        NumericError: a sample is NaN or Inf.
        TableError: a key is not of the form above, or a thumbnail is not a data URI of a picture.
    """

    cosines: Mapping[str, Sequence[float]] = field(default_factory=dict)
    latencies_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    convergence: Sequence[Row] = ()
    classes: Sequence[Row] = ()
    changed: Sequence[Row] = ()
    alike: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        for name, series in (("cosines", self.cosines), ("latencies_ms", self.latencies_ms)):
            for key, values in series.items():
                if (parse_key(key).batch is None) != (name == "cosines"):
                    raise _bad_key(key)
                _check_finite(f"{name}, {key}", values)
        for row in self.changed:
            if not re.fullmatch(_PICTURE, str(row.get("thumbnail") or "")):
                raise TableError(
                    "a thumbnail is not a picture in the page itself", where=row["sample"], expected="a data URI"
                )
        _check_finite("convergence", [number(row, "amax") or 0.0 for row in self.convergence])


def is_evidence(member: str) -> bool:
    """Whether a file of this name is a JSON file of evidence."""
    return Path(member).name in _FORMS


def load_json(path: Path, member: str, name: str) -> Any:
    """Parse a file of evidence, within limits; `member` is its name in its object, `name` how messages call it.

    Raises:
        TableError: it is too large, not JSON, or has other content than such a file.
    """
    try:
        data = read_bytes(path, limits.EVIDENCE)
        refuse_large(data, limits.EVIDENCE)
        content = load_strictly(data)
        _FORMS[Path(member).name].validate_python(content, strict=True)
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        raise came_refused("evidence", name, in_a_line(error), expected="what clipsmith writes there") from error
    return content


def parse_key(key: str) -> Series:
    """The parts of a series' key. Raises: TableError."""
    match key.split(" "):
        case [encoder, precision, target]:
            return Series(encoder, precision, target, None)
        case [encoder, precision, target, "batch", batch] if batch.isdecimal():
            return Series(encoder, precision, target, int(batch))
        case _:
            raise _bad_key(key)


def _bad_key(key: str) -> TableError:
    expected = "'image fp8 onnxruntime' for cosines, 'image fp8 onnxruntime batch 8' for latencies"
    return TableError("a series of samples has a key that cannot be read", where=repr(key), expected=expected)


def _check_finite(where: str, values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise NumericError("a sample is NaN or infinite", where=where, expected="finite numbers")
