"""Remembers which release a plan led to, and which releases were judged, in Prefect's result storage: hosts that share
the storage share this memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import cast

from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore, get_default_result_storage
from prefect.serializers import JSONSerializer
from pydantic import ValidationError

from artifacts.errors import ClipsmithError
from artifacts.store.store import Store
from flows.plan_changes import Content, read_content
from tasks.pipeline.publish import Published


class KnownPlans:
    """What is remembered about one store. The server is asked once for the default result storage."""

    def __init__(self, store: Store) -> None:
        self._store = store.id[:16]
        self._checked = store
        read_storage = cast("Callable[..., WritableFileSystem]", get_default_result_storage)
        # Not the flow's own result store, which persists nothing.
        self._results = ResultStore(
            result_storage=read_storage(_sync=True), serializer=JSONSerializer(), cache_result_in_memory=False
        )

    def remember(self, plan: str, run: object, published: Published) -> None:
        """Remember that `plan` led to this release, and that the flow run with this id made it."""
        entry = published.model_dump()
        for key in (self._key("plan", plan), f"release-of-{run}"):
            self._results.write(entry, key=key)

    def known(self, plan: str) -> Published | None:
        """The release that `plan` led to before, in this store."""
        return self._read(self._key("plan", plan))

    def check_ahead(self, plan: str) -> None:
        """Check the objects of the release that `plan` led to, side by side: its steps would, one after the other."""
        published = self.known(plan)
        if published is not None:
            with suppress(ClipsmithError):  # a release that is gone is made again
                self._checked.check_ahead(self._checked.find(published.ref).objects())

    def made_by(self, run: object) -> Published | None:
        """The release that a flow run led to."""
        return self._read(f"release-of-{run}")

    def remember_variant(self, variant: str, content: Content) -> None:
        """Remember the `flows.inputs.plan_content` of a variant's last release."""
        if self.variant(variant) != content:
            self._results.write(dict(content), key=self._key("variant", variant))

    def variant(self, variant: str) -> Content | None:
        """The plan content of a variant's last release; None if there is none, or none that can be read."""
        key = self._key("variant", variant)
        try:
            return read_content(self._results.read(key).result) if self._results.exists(key) else None
        except ValidationError:  # damaged
            return None

    def judged(self, identity: str) -> bool:
        """Whether a release has been compared with its history."""
        return bool(self._results.exists(self._key("judged", identity)))

    def remember_judged(self, identity: str) -> None:
        """Remember that a release has been compared with its history."""
        self._results.write({"judged": identity}, key=self._key("judged", identity))

    def _key(self, kind: str, name: str) -> str:
        return f"{kind}-{self._store}-{name}"

    def _read(self, key: str) -> Published | None:
        if not self._results.exists(key):
            return None
        try:
            return Published.model_validate(self._results.read(key).result)
        except ValidationError:  # another version of clipsmith wrote it
            return None
