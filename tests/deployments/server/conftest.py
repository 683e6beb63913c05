"""What tests of servers share: Prefect's settings as the environment says them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from deployments.server import own_server
from tests.processes import SERVER_VARIABLES

Told = Callable[..., Any]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """`told(PREFECT_API_URL="...")`: Prefect's settings with these variables in the environment."""
    from prefect.settings import get_current_settings

    # Of a server that this process has brought for another test, or of the user's own; what the test leaves goes, too.
    for name in SERVER_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(own_server, "FOUND", {})
    monkeypatch.setattr("prefect.context.refresh_global_settings_context", lambda: None)
    with ExitStack() as stack:

        def set_(**variables: str) -> Any:
            from prefect.context import SettingsContext
            from prefect.settings import Settings

            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            profile = SettingsContext.get().profile  # type: ignore[union-attr]
            stack.enter_context(SettingsContext(profile=profile, settings=Settings()))
            return get_current_settings()

        yield set_
