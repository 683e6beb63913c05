"""What the starters of servers and workers share: is the server there, and how a child ends that a pipe holds."""

from __future__ import annotations

import http.client
import subprocess


def server_problem(host: str, port: int, limit_s: float) -> str | None:
    """Why a server that is starting cannot be used, or None once it answers.

    Requests wait in its socket's queue until it takes them; when it dies they fail at once.
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
    """Close the pipe that holds a child, wait, and kill it when it takes longer than `grace_s` seconds."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
