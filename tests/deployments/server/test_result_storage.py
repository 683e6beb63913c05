"""What the server is told of a bucket; a real server and two hosts are in tests/system/test_two_hosts.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from artifacts.errors import ConfigError
from deployments.server import result_storage


def client_of(name: str | None) -> Any:
    """A server whose results are kept in the block of this name."""
    client = create_autospec(SyncPrefectClient, instance=True)
    block = uuid4() if name else None
    client.read_server_default_result_storage.return_value = SimpleNamespace(default_result_storage_block_id=block)
    client.read_block_document.return_value = SimpleNamespace(name=name)
    return client


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize(("name", "cleared"), [(None, False), ("clipsmith-results", True), ("somebody-elses", False)])
def test_only_what_versions_before_have_told_is_undone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | None, cleared: bool, bucket: bool
) -> None:
    monkeypatch.delenv("CLIPSMITH_BUCKET", raising=False)
    expected = {"CLIPSMITH_BUCKET": str(tmp_path)} if bucket else {}
    for variable, url in expected.items():
        monkeypatch.setenv(variable, url)
    client = client_of(name)
    assert result_storage.apply(client) == expected
    assert client.clear_server_default_result_storage.called == cleared
    assert not client.update_server_default_result_storage.called


@pytest.mark.parametrize(
    ("env", "here", "told"),
    [
        (None, "s3://team", []),
        ({}, None, []),
        ({"CLIPSMITH_BUCKET": "s3://team"}, "s3://team", []),
        ({"CLIPSMITH_BUCKET": "s3://team"}, None, ["bucket of the store: s3://team -> none"]),
        ({}, "s3://team", ["bucket of the store: none -> s3://team"]),
    ],
    ids=["new", "none", "same", "lost", "gained"],
)
def test_runs_that_would_use_another_bucket_are_told(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str] | None, here: str | None, told: list[str]
) -> None:
    monkeypatch.setenv("CLIPSMITH_BUCKET", here or "")
    client = client_of(None)
    client.read_deployment_by_name.side_effect = [SimpleNamespace(job_variables={"env": env})]
    if env is None:
        client.read_deployment_by_name.side_effect = ObjectNotFound(Exception())
    assert result_storage.replaced(client) == told


def test_a_url_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_BUCKET", "s3://key:secret@bucket/team")
    with pytest.raises(ConfigError):
        result_storage.apply(client_of(None))
