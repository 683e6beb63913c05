"""The commands of the CPU image and of the compose file, run as a container would run them: see `sandbox.py`.

The image's Python environment is installed anew, by the Dockerfile's own commands. The GPU image has the same commands
(`test_dockerfiles.py`); its base is not at hand.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.docker.sandbox import Image, build, possible, signal_first
from tests.docker.support import IMAGES, ROOT, Dockerfile, compose
from tests.s3 import moto
from tests.system.servers import free_port, postgres

pytestmark = [
    pytest.mark.timeout(1800),  # the installation alone took 3 minutes on a quiet machine, 10 on a busy one
    pytest.mark.heavy,
    pytest.mark.skipif(not possible(), reason="needs root and the right to make namespaces"),
]
VERSION = "/api/admin/version"
AUTH = "someone:a-secret-of-this-test"
SERVICES = compose({"PREFECT_SERVER_API_AUTH_STRING": AUTH})["services"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the CPU image's build stage makes; torch comes from this machine's index."""
    return build(Dockerfile(IMAGES["cpu"]), tmp_path_factory.mktemp("image"), {"TORCH_INDEX": ""})


@pytest.fixture
def objects(image: Image, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An S3-compatible store (moto) with the bucket that the compose service makes: its clients' environment."""
    with moto(tmp_path / "moto") as address:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        environment = environment_of("bucket", AWS_ENDPOINT_URL=address, **keys)
        for _ in range(2):  # again is harmless
            done = image.run(entrypoint(image, SERVICES["bucket"]["command"]), "bucket", **environment)
            assert done.returncode == 0, done.stderr
        yield environment


@pytest.fixture
def database() -> Iterator[str]:
    """PostgreSQL, as the compose file has it."""
    with postgres() as url:
        yield url


def in_bucket(environment: dict[str, str]) -> set[str]:
    """The names of all that the bucket holds, asked with boto3."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    keys = {name.lower(): environment[name] for name in names}
    client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], **keys)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="clipsmith")
    return {found["Key"] for page in pages for found in page.get("Contents", [])}


def environment_of(service: str, **changes: str) -> dict[str, str]:
    """The service's environment from the compose file, with what must differ here."""
    given = SERVICES[service].get("environment", {})
    return {name: "" if value is None else value for name, value in given.items()} | changes  # compose has texts alone


@contextmanager
def running(image: Image, words: list[str], volume: str, log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A container in the background, killed at the end if it still runs."""
    with log.open("wb") as out:
        child = subprocess.Popen(image.command(words, volume, **environment), stdout=out, stderr=out)
        try:
            yield child
        finally:
            signal_first(child, signal.SIGKILL)
            child.wait()


def entrypoint(image: Image, command: list[str] | None = None) -> list[str]:
    """What a container of the image runs: its entrypoint, and the given command or its own."""
    return image.dockerfile.final("ENTRYPOINT").words + (command or image.dockerfile.final("CMD").words)


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    """Whether the check holds within that time."""
    deadline = time.monotonic() + seconds
    while not (held := check()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


def stopped(child: subprocess.Popen[bytes]) -> float:
    """Seconds from SIGTERM to the end of the container."""
    begun = time.monotonic()
    signal_first(child, signal.SIGTERM)
    child.wait(timeout=30)
    return time.monotonic() - begun


def ask(port: int, path: str, auth: str | None, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """The server's answer to a request: the status code, and the JSON document if it is one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    if auth:
        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if path.startswith("/api/") else text
    except urllib.error.HTTPError as error:
        return error.code, None


def demo_is_completed(port: int) -> str:
    """Start the deployment `optimize` without parameters, as the UI's Run does, and wait: the state it ends in."""
    _, deployment = ask(port, "/api/deployments/name/optimize/optimize", AUTH)
    body = {"parameters": {"parameters": {}}, "state": {"type": "SCHEDULED"}}
    _, run = ask(port, f"/api/deployments/{deployment['id']}/create_flow_run", AUTH, body)

    def state() -> str:
        return ask(port, f"/api/flow_runs/{run['id']}", AUTH)[1]["state"]["type"]

    eventually(lambda: state() in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), 300)
    return state()


def test_every_package_is_locked(image: Image) -> None:
    done = image.run(["python", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"], "list")
    installed = {row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(done.stdout)}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    free = {"pip", "clipsmith"}
    assert {"prefect", "torch", "s3fs", "tensorrt-rtx", "dumb-init", "prefect-kubernetes"} <= set(installed)
    assert not {"pytest", "mypy", "moto"} & set(installed), "nothing of the tests"
    different = {n: v for n, v in installed.items() if n not in free and locked.get(n) != v.partition("+")[0]}
    assert not different


def test_the_user_can_write_its_volume_and_tmp_and_nothing_else(image: Image) -> None:
    script = "id -u; grep CapEff /proc/self/status\n"
    script += "for d in / /etc /opt/clipsmith $HOME /tmp; do touch $d/x && echo $d; done"
    done = image.run(["sh", "-c", script], "writing")
    assert done.stdout.split() == ["10001", "CapEff:", "0" * 16, "/var/lib/clipsmith", "/tmp"]
    assert done.stderr.count("Read-only file system") == 3


def test_server_deploy_and_worker(image: Image, objects: dict[str, str], database: str, tmp_path: Path) -> None:
    port, health_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}
    own |= {"PREFECT_API_DATABASE_CONNECTION_URL": database, "PREFECT_SERVER_UI_API_URL": url}
    server = environment_of("server", **own)
    client = environment_of("worker-cpu", PREFECT_API_URL=url, PREFECT_WORKER_WEBSERVER_PORT=str(health_port)) | objects

    def server_is_healthy() -> bool:
        return image.run(SERVICES["server"]["healthcheck"]["test"][1:], "server", **server).returncode == 0

    def worker_is_healthy() -> bool:
        return image.run(image.dockerfile.final("HEALTHCHECK").words, "worker", **client).returncode == 0

    assert not server_is_healthy() and not worker_is_healthy()
    command = entrypoint(image, SERVICES["server"]["command"])
    with running(image, command, "server", tmp_path / "server", **server) as serving:
        assert eventually(server_is_healthy, 120), (tmp_path / "server").read_text()
        answers = [ask(port, path, auth)[0] for path, auth in (("/", None), (VERSION, None), (VERSION, AUTH))]
        assert answers == [200, 401, 200], "the page is open, the API is not"
        deploy = environment_of("deploy", PREFECT_API_URL=url) | objects
        for _ in range(2):
            done = image.run(entrypoint(image, SERVICES["deploy"]["command"]), "deploy", **deploy)
            assert done.returncode == 0, done.stdout + done.stderr
        with running(image, entrypoint(image), "worker", tmp_path / "worker", **client) as working:
            assert eventually(worker_is_healthy, 120), (tmp_path / "worker").read_text()
            assert server_is_healthy()
            assert demo_is_completed(port) == "COMPLETED", (tmp_path / "worker").read_text()
            assert stopped(working) < 20
            assert not worker_is_healthy()
        assert stopped(serving) < 20
        assert not server_is_healthy()
    assert list((image.folder / "worker" / "store" / "releases" / "demo").glob("*.json")), "in the worker's volume"
    folders = {name.split("/")[0] for name in in_bucket(objects)}
    assert {"releases", "objects", "cache"} <= folders, "and for other hosts in the bucket"
    assert "Read-only file system" not in (tmp_path / "server").read_text() + (tmp_path / "worker").read_text()
