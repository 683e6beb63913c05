"""Prefect's API for the length of one command, as a child process that ends with it.

Prefect can start such a server itself, but leaves it running for ever if the command is killed.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys

from artifacts.errors import ApiNotReady
from deployments.server.child_process import end, server_problem
from deployments.server.own_pages import own_origins
from deployments.server.own_server import HOST, agree_on_password, use_up
from deployments.server.prefect_settings import load_settings, require_api, require_home

GRACE_S = 5.0
"""How long the server may take to store what it has received before it is killed, in seconds."""
_STDERR = 2
# The settings of the server that Prefect starts itself.
_SERVER = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


class EmbeddedApi:
    """A starting server; call `wait` before using Prefect."""

    def __init__(self) -> None:
        from prefect.context import refresh_global_settings_context
        from prefect.settings import get_current_settings

        refresh_global_settings_context()  # with the password
        settings = get_current_settings()
        self._start_limit = settings.server.ephemeral.startup_timeout_seconds
        # The kernel chooses the port. Requests wait in the socket's queue until the server takes them.
        with socket.create_server((HOST, 0)) as listener:
            self.port: int = listener.getsockname()[1]
            closed = {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": own_origins(self.port)}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deployments.server.api_process", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=_STDERR,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C must not end the server: the command still reports to it
                env=os.environ | _SERVER | settings.to_environment_variables(exclude_unset=True) | closed,
            )
        atexit.register(self.stop)

    @classmethod
    def start(cls) -> EmbeddedApi | None:
        """Start a server, unless the user has configured one (`PREFECT_API_URL`, in the environment or a profile) or
        `clipsmith up` runs; then return None.

        Raises:
            PrefectMisconfigured, NoServer: Prefect's settings, or the configured server, cannot be used.
        """
        settings = load_settings()
        require_home(settings)
        settings = use_up(settings)
        if settings.api.url:
            require_api(settings)
            return None
        agree_on_password(settings, kept=False)
        return cls()

    def wait(self) -> None:
        """Wait until the server answers and make it the API of this process.

        Raises:
            ApiNotReady: it died, or did not answer within `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS`.
        """
        from prefect.context import refresh_global_settings_context

        from tasks.device.device_turn import EMBEDDED_API

        problem = server_problem(HOST, self.port, self._start_limit)
        if problem is not None:
            self._process.kill()
            self.stop()
            raise ApiNotReady(
                f"Prefect's embedded API server {problem}",
                where=f"{HOST}:{self.port}",
                fix="see its messages above; raise PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS on a slow machine, "
                "or set PREFECT_API_URL to a running server",
            )
        os.environ["PREFECT_API_URL"] = os.environ[EMBEDDED_API] = f"http://{HOST}:{self.port}/api"
        os.environ.setdefault("PREFECT_UI_URL", "")  # it has no pages to point to
        refresh_global_settings_context()

    def stop(self) -> None:
        """End the server, after giving it time to store what it has received."""
        end(self._process, GRACE_S)
