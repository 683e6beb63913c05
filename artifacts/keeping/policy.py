"""What a store asks of a release before an alias may point to it: `policy.yaml` in the store, written by people."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

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
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content is None:
            raise ValueError("it is empty, as a file that lost its contents is")
        return Policy.model_validate_json(_as_json(content))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the store's policy cannot be read: {error}",
            where=path,
            expected="promotion: {require_signature: [KEY.pem]}",
            fix="correct it: nothing is promoted until then",
        ) from error


def _as_json(content: object) -> str:
    """JSON, in which a strict model takes a list for a tuple."""
    import json

    return json.dumps(content, allow_nan=False)
