"""The Dockerfiles, judged by hadolint and by what we promise of the images. Nothing here builds them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
from docker.utils import exclude_paths
from packaging.requirements import Requirement

from tests.docker.support import IMAGES, ROOT, Dockerfile
from tests.processes import own_environment

WRITABLE = ("/var/lib/clipsmith", "/tmp")


@pytest.fixture(params=sorted(IMAGES))
def image(request: pytest.FixtureRequest) -> Dockerfile:
    return Dockerfile(IMAGES[request.param])


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("hadolint"), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, env=own_environment())


def test_hadolint_finds_nothing(image: Dockerfile) -> None:
    found = hadolint(image.text)
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_would_find_something(image: Dockerfile) -> None:
    found = hadolint(image.text.replace("USER 10001:10001", "USER root").replace('CMD ["prefect", ', "CMD prefect "))
    assert found.returncode != 0
    assert {"DL3002", "DL3025"} <= set(re.findall(r"DL\d+", found.stdout))


def test_the_base_is_an_argument_that_names_a_version(image: Dockerfile) -> None:
    (base,) = image.every("ARG", -1)
    name, _, tag = base.pairs["BASE"].rpartition(":")
    assert name and re.search(r"\d+\.\d+", tag) and "latest" not in tag
    assert [i.value for i in image.every("FROM")] == ["${BASE} AS build", "${BASE}"]
    assert re.search(r"--build-arg BASE=\S+@sha256:DIGEST", image.text), "the comment says how to pin the digest"


def test_the_gpu_image_and_the_extra_name_the_same_tensorrt() -> None:
    """The base's version, as the image's comment has it; the bounds that its build asserts; and pip's own."""
    gpu = Dockerfile(IMAGES["gpu"])
    (brought,) = re.findall(r"^# [\d.]+ brings TensorRT ([\d.]+),", gpu.text, re.MULTILINE)
    (least, below) = re.findall(r"assert \((\d+, \d+)\) <= .* < \((\d+),\)", gpu.text)[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["tensorrt"] == [f"tensorrt>={least.replace(', ', '.')},<{below}"]
    (extra,) = (Requirement(text).specifier for text in extras["tensorrt"])
    assert extra.contains(brought) and brought == least.replace(", ", "."), (
        "no newer one than the image has is asked for"
    )
    assert not extra.contains(f"{below}.0")
    locked = re.findall(r"^tensorrt==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert all(extra.contains(version) for version in locked)


def test_no_digest_is_made_up(image: Dockerfile) -> None:
    assert not re.search(r"sha256:[0-9a-f]{8}", image.text)


def test_the_finished_image_runs_as_a_fixed_unprivileged_user(image: Dockerfile) -> None:
    assert image.final("USER").value == "10001:10001"
    after = image.instructions[image.instructions.index(image.final("USER")) :]
    assert not {"RUN", "COPY", "ADD"} & {i.name for i in after}
    assert any("install -d -o 10001 -g 10001" in i.value for i in image.every("RUN", image.last_stage))


def test_nothing_comes_from_outside_but_locked_packages(image: Dockerfile) -> None:
    assert not image.every("ADD")
    runs = [i.value for i in image.every("RUN")]
    assert not [run for run in runs if re.search(r"\b(curl|wget|git|sudo|apt|apt-get|apk)\b", run)]
    installs = [run for run in runs if "pip install" in run]
    assert len(installs) == 2 and installs[0].endswith(" torch"), "torch first and alone, as in the Makefile"
    lock = image.every("ENV", 0)[0].pairs["PIP_CONSTRAINT"]
    assert lock == f"{image.every('WORKDIR', 0)[0].value}/constraints.txt"
    assert all(i.stage == 0 for i in image.every("RUN") if "pip" in i.value), "the finished image installs nothing"


def test_what_is_copied_exists_and_reaches_the_builder(image: Dockerfile) -> None:
    sources = [word for i in image.every("COPY", 0) for word in i.value.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = exclude_paths(str(ROOT), [line for line in ignored if line and not line.startswith("#")])
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in sent
    roots = {PurePosixPath(path).parts[0] for path in sent}
    assert roots == {*sources, ".dockerignore"}, "nothing else goes to the builder"
    assert not [path for path in sent if "__pycache__" in path or path.endswith(".env")]


def test_every_package_is_copied(image: Dockerfile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {word for i in image.every("COPY", 0) for word in i.value.split()[:-1]}
    assert packages <= copied
    extras = re.search(r"\.\[([\w,]+)\]", " ".join(i.value for i in image.every("RUN", 0)))
    assert extras and set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])


def test_everything_that_is_written_lies_in_a_volume(image: Dockerfile) -> None:
    paths = {k: v for k, v in image.environment.items() if v.startswith("/") and k != "PATH"}
    assert {"HOME", "PREFECT_HOME", "CLIPSMITH_STORE", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR", "TMPDIR"} <= set(
        paths
    )
    assert not {k: v for k, v in paths.items() if not v.startswith(WRITABLE)}
    assert image.final("VOLUME").words == ["/var/lib/clipsmith"]


def test_commands_are_in_exec_form(image: Dockerfile) -> None:
    assert image.final("ENTRYPOINT").words == ["/opt/clipsmith/bin/dumb-init", "--"]
    assert image.final("CMD").words[:3] == ["prefect", "worker", "start"]
    assert image.final("HEALTHCHECK").words[:2] == ["python", "-c"]
    assert re.search(r"--interval=\d+s --timeout=\d+s --start-period=\d+s", image.final("HEALTHCHECK").value)


def test_labels(image: Dockerfile) -> None:
    assert {f"org.opencontainers.image.{n}" for n in ("title", "description", "licenses")} <= set(
        image.final("LABEL").pairs
    )


def test_both_images_run_the_same_commands_in_the_same_places() -> None:
    cpu, gpu = (Dockerfile(IMAGES[name]) for name in ("cpu", "gpu"))
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK", "USER", "WORKDIR", "VOLUME"):
        assert cpu.final(name) == gpu.final(name)
    more = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    assert gpu.environment == cpu.environment | more
