"""Names people type: models, versions and release references, validated with `re.fullmatch`."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, Field

from artifacts.errors import BadName
from artifacts.limits import LARGEST_NUMBER
from artifacts.models import Frozen

_MODEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")
_ALIAS = re.compile(r"[a-z](?:[a-z0-9-]{0,48}[a-z0-9])?")
_DIGEST_PREFIX = re.compile(r"[0-9a-f]{8,64}")


def check_model_name(name: str) -> str:
    """Return `name` when it is a model name (a-z 0-9 . _ -, at most 100 characters), else raise BadName."""
    if not _MODEL.fullmatch(name) or ".." in name:
        raise BadName(
            f"{name[:120]!r} is not a model name",
            expected="1 to 100 of a-z 0-9 . _ - that start and end with a letter or digit",
        )
    return name


def model_name_from(source: str) -> str:
    """The store's name for a hub id or folder name: lower case, `/` as `--`, any other unsafe character as `-`.

    If a name in another script loses its letters, a digest of it is appended, so that two such names stay different.
    """
    slug = re.sub(r"[^a-z0-9._-]+", "-", source.lower().replace("/", "--"))
    slug = re.sub(r"\.{2,}", ".", slug).strip("._-")[:100].rstrip("._-")
    if not re.search("[a-z]", slug) and any(character.isalpha() for character in source):
        letters = unicodedata.normalize("NFC", source).encode("utf-8", "surrogateescape")
        return check_model_name(f"{slug[:80].rstrip('._-') or 'model'}-{sha256(letters).hexdigest()[:8]}")
    return check_model_name(slug or "model")


ModelName = Annotated[str, AfterValidator(check_model_name)]
Number = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
"""The number of a version, an alias's entry or a signature; files are named by it."""


def check_alias(name: str) -> str:
    """Return `name` when it is an alias (a-z 0-9 -, at most 50 characters, a letter first), else raise BadName."""
    if not _ALIAS.fullmatch(name):
        raise BadName(
            f"{name[:60]!r} is not an alias", expected="1 to 50 of a-z 0-9 - that start with a letter, as `production`"
        )
    return name


AliasName = Annotated[str, AfterValidator(check_alias)]


class Reference(Frozen):
    """A parsed release reference: `model` (its newest), `model@version`, `model:alias`, or a digest prefix.

    A text that could be a model or a digest prefix is kept as both: the store decides, as it knows its models.
    """

    model: str | None = None
    version: int | None = None
    alias: str | None = None
    digest_prefix: str | None = None


def parse_reference(text: str) -> Reference:
    """Parse a release reference.

    Raises:
        BadName: the text is none of `model`, `model@version`, `model:alias` and a digest prefix of 8 or more digits.
    """
    if _DIGEST_PREFIX.fullmatch(text):
        return Reference(model=text, digest_prefix=text)
    if ":" in text:
        model, _, alias = text.partition(":")
        return Reference(model=check_model_name(model), alias=check_alias(alias))
    model, at, version = text.partition("@")
    check_model_name(model)
    if not at:
        return Reference(model=model)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise BadName(
            f"{text[:120]!r} is not a release reference",
            expected="model, model@version, model:alias or a digest prefix",
        )
    return Reference(model=model, version=int(version))
