"""Which storage the server is told to use; a real server is told in tests/system/test_two_hosts.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.filesystems import LocalFileSystem, RemoteFileSystem

from artifacts.errors import ConfigError
from deployments.server import result_storage


def client_of(name: str | None) -> Any:
    """A server whose results are kept in the block of this name."""
    client = create_autospec(SyncPrefectClient, instance=True)
    block = uuid4() if name else None
    client.read_server_default_result_storage.return_value = SimpleNamespace(default_result_storage_block_id=block)
    client.read_block_document.return_value = SimpleNamespace(name=name)
    return client


@pytest.mark.parametrize(("name", "cleared"), [(None, False), ("clipsmith-results", True), ("somebody-elses", False)])
def test_without_a_bucket_only_what_is_ours_is_undone(
    monkeypatch: pytest.MonkeyPatch, name: str | None, cleared: bool
) -> None:
    monkeypatch.delenv("CLIPSMITH_BUCKET", raising=False)
    client = client_of(name)
    assert result_storage.apply(client) == {}
    assert client.clear_server_default_result_storage.called == cleared
    assert not client.update_server_default_result_storage.called


def test_a_url_with_a_password_is_refused_before_the_server_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_BUCKET", "s3://key:secret@bucket/team")
    client = client_of(None)
    with pytest.raises(ConfigError):
        result_storage.apply(client)
    assert not client.update_server_default_result_storage.called


@pytest.mark.parametrize("url", ["{}", "file://{}"])
def test_a_folder(tmp_path: Path, url: str) -> None:
    block = result_storage._block(url.format(tmp_path))
    assert isinstance(block, LocalFileSystem)
    assert block.basepath == str(tmp_path / "results")


def test_a_bucket() -> None:
    block = result_storage._block("s3://bucket/team/")
    assert isinstance(block, RemoteFileSystem)
    assert block.basepath == "s3://bucket/team/results"
    assert block.settings == {"use_listings_cache": False}
