"""How the server orders artifacts; that its pages show them so is in tests/system/stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.server.schemas.sorting import ArtifactSort

from deployments.server.artifact_order import newest_artifacts_first


@pytest.fixture
def ours() -> Iterator[None]:
    """The order, as long as the test lasts."""
    before = ArtifactSort.as_sql_sort
    newest_artifacts_first()
    yield
    ArtifactSort.as_sql_sort = before  # type: ignore[method-assign]


def clauses(order: ArtifactSort) -> list[str]:
    return [str(clause) for clause in order.as_sql_sort()]


@pytest.mark.usefixtures("ours")
def test_the_newest_are_first_unless_another_order_is_asked_for() -> None:
    assert clauses(ArtifactSort.ID_DESC) == ["artifact.created DESC", "artifact.id DESC"]
    assert clauses(ArtifactSort.KEY_ASC) == ["artifact.key ASC"]
    assert clauses(ArtifactSort.CREATED_DESC) == ["artifact.created DESC"]
