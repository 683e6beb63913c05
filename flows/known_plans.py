"""Remembers which release a plan led to, and which releases were judged, in the store's cache."""

from __future__ import annotations

import json

from pydantic import ValidationError

from artifacts.errors import ClipsmithError
from artifacts.refs import digest_json
from artifacts.store import results
from artifacts.store.store import Store
from flows.plan_changes import Content, read_content
from tasks.pipeline.publish import Published


class KnownPlans:
    """What is remembered about one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def remember(self, plan: str, run: object, published: Published) -> None:
        """Remember that `plan` led to this release, and that the flow run with this id made it."""
        for name in (f"plan-{plan}", f"release-of-{run}"):
            results.write(self._store, name, published.model_dump_json(), release=published.identity)

    def known(self, plan: str) -> Published | None:
        """The release that `plan` led to before, in this store."""
        return self._read(f"plan-{plan}")

    def check_ahead(self, plan: str) -> bool:
        """Whether `plan` led to a release that is still there. Its objects are checked side by side: the steps would
        check them one after the other."""
        published = self.known(plan)
        if published is None:
            return False
        try:
            self._store.check_ahead(self._store.find(published.ref).objects())
        except ClipsmithError:  # a release that is gone is made again
            return False
        return True

    def made_by(self, run: object) -> Published | None:
        """The release that a flow run led to."""
        return self._read(f"release-of-{run}")

    def remember_variant(self, variant: str, content: Content) -> None:
        """Remember the `flows.inputs.plan_content` of a variant's last release."""
        if self.variant(variant) != content:
            results.write(self._store, _of_variant(variant), json.dumps(content))

    def variant(self, variant: str) -> Content | None:
        """The plan content of a variant's last release; None if there is none, or none that can be read."""
        text = results.read(self._store, _of_variant(variant))
        return None if text is None else read_content(json.loads(text))

    def judged(self, identity: str) -> bool:
        """Whether a release has been compared with its history."""
        return results.read(self._store, f"judged-{identity}") is not None

    def remember_judged(self, identity: str) -> None:
        """Remember that a release has been compared with its history."""
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
