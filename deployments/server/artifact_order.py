"""The order in which Prefect's UI lists the artifacts of a run: the newest first, so that its makers decide.

Prefect orders them by their ids, which are random.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def newest_artifacts_first() -> None:
    """From now on, the server of this process lists artifacts by their age where Prefect has the order of their ids, as
    where nobody asks for one."""
    from prefect.server.database.dependencies import provide_database_interface
    from prefect.server.schemas.sorting import ArtifactSort

    before = ArtifactSort.as_sql_sort

    def by_age(self: ArtifactSort) -> Iterable[Any]:
        if self is not ArtifactSort.ID_DESC:
            return before(self)
        artifact = provide_database_interface().Artifact
        return [artifact.created.desc(), artifact.id.desc()]

    ArtifactSort.as_sql_sort = by_age  # type: ignore[method-assign]
