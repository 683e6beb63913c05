"""Process-wide settings, made before the libraries they concern are imported."""

from __future__ import annotations

import logging
import os
import warnings

from artifacts.errors import ClipsmithError

_DEFAULTS = {
    # Prefect: nothing leaves the machine, and a slow start under load is not an error.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
    # The embedded server shares our stderr, and logs tracebacks of its own shutdown.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # transformers and tokenizers: progress bars of their own would break ours.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir", "modelopt", "httpx", "torch.onnx._internal.exporter._registration")


def prepare_prefect() -> None:
    """Set defaults in the environment; what the user has set stays."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def quiet_libraries() -> None:
    """Keep libraries' chatter, and errors that the command line prints itself, out of the progress."""
    warnings.filterwarnings("ignore")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    from prefect.logging.configuration import setup_logging

    setup_logging()
    for handler in logging.getLogger().handlers:  # the console; what the API records for the UI stays whole
        handler.addFilter(_not_an_expected_error)
    for name in ("prefect.task_runs", "prefect"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("prefect.flow_runs").setLevel(logging.INFO)


def _not_an_expected_error(record: logging.LogRecord) -> bool:
    """Expected errors are printed once, by the command line, without a traceback."""
    expected = record.exc_info is not None and isinstance(record.exc_info[1], ClipsmithError)
    return not expected and not record.getMessage().startswith("Finished in state Failed")
