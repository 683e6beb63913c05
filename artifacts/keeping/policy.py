"""What a store asks of a release before an alias may point to it: `policy.yaml` in the store, written by people."""

from __future__ import annotations

import json
from pathlib import Path

from artifacts.config_files import read_file
from artifacts.errors import ConfigError
from artifacts.models import Strict
from artifacts.store import layout


class Promotion(Strict):
    """`require_signature`: public keys (PEM files, relative to the store), one of which must have signed a release."""

    require_signature: tuple[str, ...] = ()


class Policy(Strict):
    """The whole file."""

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
