"""What a store requires before a release is imported or an alias points to it: `policy.yaml`, written by people.

If the policy cannot be understood, everything that it may concern is refused.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from artifacts.config_files import mapping, read_file
from artifacts.errors import ConfigError
from artifacts.models import Strict, problems
from artifacts.store import layout

_ALIKE = re.compile(r"\.?policies\.ya?ml|\.?policy(\.(ya?ml|json|toml|txt))*", re.IGNORECASE)
_FIX = "correct it: until then nothing is promoted, rolled back, signed, unpacked or pulled"
Keys = Annotated[tuple[str, ...], Field(strict=False)]  # a list becomes a tuple; its items stay strict
"""Public keys, as PEM files: paths relative to the store."""


class Promotion(Strict):
    """`require_signature`: one of these must have signed a release before an alias may point to it."""

    require_signature: Keys = ()


class Import(Strict):
    """`require_signature`: one of these must have signed a release that is unpacked or pulled."""

    require_signature: Keys = ()


class Policy(Strict):
    """The whole file."""

    promotion: Promotion = Promotion()
    on_import: Import = Field(default=Import(), alias="import")


def read_policy(root: Path) -> Policy:
    """The policy of the store in `root`; without a file it asks for nothing.

    Raises:
        ConfigError: `policy.yaml` is not a file, cannot be read or is not understood; or there is a file that was
            probably meant to be it, such as `policy.yml`.
    """
    path = root / layout.POLICY
    alike = sorted(place for place in root.iterdir() if _ALIKE.fullmatch(place.name) and place.name != layout.POLICY)
    if alike:
        raise ConfigError(
            "a file looks like the store's policy and is not read, because of its name",
            where=alike[0],
            expected=layout.POLICY,
            fix=f"rename or remove it: until then {_FIX.partition(': until then ')[2]}",
        )
    try:
        path.lstat()
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    try:
        mode = path.stat().st_mode  # follows links
    except (OSError, RuntimeError) as error:
        what = "a link that leads nowhere" if path.is_symlink() else str(error)
        raise _unreadable(path, what) from error
    if not stat.S_ISREG(mode):
        raise _unreadable(path, "it is not a file")
    return read_file(
        path,
        _parse,
        what="the store's policy",
        error=ConfigError,
        expected="promotion: {require_signature: [KEY.pem]}, import: {require_signature: [KEY.pem]}, or one of them",
        fix=_FIX,
    )


def _parse(content: Any) -> Policy:
    try:
        return Policy.model_validate(mapping(content))
    except ValidationError as error:
        raise ValueError(problems(Policy, error)) from error


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the store's policy cannot be read: {why}", where=path, expected="a file that can be read", fix=_FIX
    )
