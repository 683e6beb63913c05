"""What the code that starts servers and workers shares: waiting for the server, and ending a child process."""

from __future__ import annotations

import http.client
import subprocess


def server_problem(host: str, port: int, limit_s: float) -> str | None:
    """Wait until a starting server answers, and return None; else return the problem.

    Requests wait in its socket's queue until the server takes them, and fail at once if it dies. `limit_s` is the
    longest wait in seconds.
    """
    connection = http.client.HTTPConnection(host, port, timeout=limit_s)
    try:
        connection.request("GET", "/api/health")
        status = connection.getresponse().status
    except TimeoutError:
        return f"did not answer within {limit_s:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"died: {error}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"answered with status {status}"


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Close the pipe to a child, so that it ends; kill it if it takes longer than `grace_s` seconds."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
