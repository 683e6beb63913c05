"""Process-wide settings of libraries, which must be made before the libraries are imported."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.server.own_pages import own_origins
from deployments.server.own_server import agree_on_password, forgo_password
from deployments.server.prefect_settings import load_settings, require_home
from tasks.prefect_ui.known_errors import ENDS_RUN

_DEFAULTS = {
    # Prefect: no analytics leave the machine, and a slow start under load is not an error.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
    # The embedded server shares our stderr, and logs tracebacks of its own shutdown.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # ONNX Runtime 1.32 sends telemetry by default.
    "ORT_DISABLE_TELEMETRY": "1",
    # transformers and tokenizers: progress bars of their own would break ours.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
_OURS = ("artifacts", "flows", "tasks")
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir", "modelopt", "httpx", "torch.onnx._internal.exporter._registration")


def prepare_prefect() -> None:
    """Set our defaults in the environment; variables that the user has set are kept."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare_up(address: str, *, auth: bool = True) -> None:
    """Set the environment of `clipsmith up`, its server, its worker and their flow runs. The server is to listen at
    `address`, and to ask for a password if `auth`.

    Raises:
        PrefectMisconfigured: Prefect's settings contradict each other or cannot be used.
        ConfigError: the webhook's address is not allowed, or the store is a bucket's copy and none is named.
        NotAStore, StoreReadOnly, UnsupportedFileSystem: no run could use the store.
    """
    from deployments.server.automations import HEARTBEAT_S, webhook_url
    from flows.defaults import default_store

    port = address.rpartition(":")[2]
    # Flow runs have another working directory, so relative paths are resolved here.
    os.environ["CLIPSMITH_STORE"] = str(Path(default_store()).absolute())
    defaults = {"CLIPSMITH_WORKDIR": str(Path.cwd()), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}
    defaults |= {"PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}
    defaults |= {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": own_origins(int(port))}
    # Seconds between the server's checks for expired leases, such as that of a killed benchmark, which takes a minute.
    defaults |= {"PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "2"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    prepare_prefect()
    settings = load_settings()
    require_home(settings)
    webhook_url()
    require_store(Path(os.environ["CLIPSMITH_STORE"]))
    if auth:
        agree_on_password(settings, kept=True)
    else:
        forgo_password(settings)
    os.environ |= {
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_UI_URL": address,
        "PREFECT_SERVER_API_PORT": port,  # the pages call the API at this port
        # A concurrency slot that a killed process held becomes free when its lease expires, also after a restart.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def require_store(root: Path) -> None:
    """Refuse a store that every run would refuse, as the working copy of a bucket where none is named any more.

    With a bucket, the runs look: it may be away for a moment.

    Raises:
        ConfigError, NotAStore, StoreReadOnly, UnsupportedFileSystem: see `Store.open`.
    """
    from artifacts.copies.opening import open_store
    from artifacts.store.store import BUCKET_VARIABLE

    if root.exists() and not os.environ.get(BUCKET_VARIABLE):
        open_store(root)


@contextmanager
def garbage_left() -> Iterator[None]:
    """Pause Python's garbage collector while large libraries are imported or large sets are opened, and freeze the
    objects that this creates: it would take a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def quiet_libraries(who: str = "") -> None:
    """Silence libraries' messages, and log records of errors that the command line prints itself.

    Args:
        who: Named in each line, where several runs share a terminal.

    Raises:
        PrefectMisconfigured: Prefect's settings cannot be read.
    """
    load_settings()
    warnings.filterwarnings("ignore")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _OURS:  # what is said outside of a Prefect run, as by a search
        logging.getLogger(name).setLevel(logging.INFO)
    from prefect.logging.configuration import setup_logging
    from prefect.logging.handlers import PrefectConsoleHandler

    setup_logging()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):  # the logs that the API records for the UI stay complete
            handler.addFilter(_worth_a_line)
            handler.setFormatter(_Plain(who))
    for name in ("prefect.task_runs", "prefect"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("prefect.flow_runs").setLevel(logging.INFO)


class _Plain(logging.Formatter):
    """The time, who speaks, and the message; in front of it the level where that is no mere information."""

    def __init__(self, who: str) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._who = f"{who}: " if who else ""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        level = f"{record.levelname}: " if record.levelno > logging.INFO else ""
        return f"{self.formatTime(record, self.datefmt)} {self._who}{level}{record.getMessage()}"


def _worth_a_line(record: logging.LogRecord) -> bool:
    """What Prefect says of the beginning and the end of runs is left out: a step has a line of its own, and an error
    that ends a run is told once, by the command line, which keeps the traceback of one that is none of ours in a
    file."""
    tells_error = record.exc_info or getattr(record, ENDS_RUN, False)
    return not tells_error and not record.getMessage().startswith(
        ("Finished in state", "Crash detected", "Beginning flow run", "Beginning subflow run")
    )
