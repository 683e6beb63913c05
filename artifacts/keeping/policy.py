"""What a store asks of a release before an alias may point to it: `policy.yaml` in the store, written by people."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from artifacts.config_files import read_file
from artifacts.errors import ConfigError
from artifacts.store import layout


class Promotion(BaseModel):
    """`require_signature`: public keys (PEM files, relative to the store), one of which must have signed a release."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    require_signature: tuple[str, ...] = ()


class Policy(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    promotion: Promotion = Promotion()


def read_policy(root: Path) -> Policy:
    """The store's policy; without a file it asks for nothing.

    Raises:
        ConfigError: the file cannot be understood. Nothing is promoted then.
    """
    path = root / layout.POLICY
    if not path.exists():
        return Policy()
    return read_file(
        path,
        lambda content: Policy.model_validate_json(json.dumps(content)),  # in JSON a strict model takes a list as tuple
        what="the store's policy",
        error=ConfigError,
        expected="promotion: {require_signature: [KEY.pem]}",
        fix="correct it: nothing is promoted until then",
    )
