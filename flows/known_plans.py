"""Which release a plan led to, and which were judged, remembered in the store's cache."""

from __future__ import annotations

import json

from pydantic import ValidationError

from artifacts.refs import digest_json
from artifacts.store import results
from artifacts.store.store import Store
from flows.plan_changes import Content, read_content
from tasks.pipeline.publish import Published


class KnownPlans:
    """What is remembered of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def remember(self, plan: str, run: object, published: Published) -> None:
        """Keep that `plan` led to this release, and that the flow run of this id made it."""
        for name in (f"plan-{plan}", f"release-of-{run}"):
            results.write(self._store, name, published.model_dump_json(), release=published.identity)

    def known(self, plan: str) -> Published | None:
        """The release that `plan` led to before, in this store."""
        return self._read(f"plan-{plan}")

    def made_by(self, run: object) -> Published | None:
        """The release that a flow run led to."""
        return self._read(f"release-of-{run}")

    def remember_variant(self, variant: str, content: Content) -> None:
        """Keep what decided the last release of a variant: `flows.inputs.plan_content`."""
        if self.variant(variant) != content:
            results.write(self._store, _of_variant(variant), json.dumps(content))

    def variant(self, variant: str) -> Content | None:
        """What decided a variant's last release; None where no version that is known kept it."""
        text = results.read(self._store, _of_variant(variant))
        return None if text is None else read_content(json.loads(text))

    def judged(self, identity: str) -> bool:
        """Whether a release has been compared with its history."""
        return results.read(self._store, f"judged-{identity}") is not None

    def remember_judged(self, identity: str) -> None:
        """Keep that a release has been compared with its history."""
        results.write(self._store, f"judged-{identity}", "", release=identity)

    def _read(self, name: str) -> Published | None:
        text = results.read(self._store, name)
        try:
            return None if text is None else Published.model_validate_json(text)
        except ValidationError:  # another version of clipsmith wrote it
            return None


def _of_variant(variant: str) -> str:
    """A variant's name may have any letters."""
    return f"variant-{digest_json(variant)}"
