"""The Kubernetes job template, rendered by Prefect's own worker and held against Kubernetes' own schemas."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.schema_tools import is_valid_schema, validate
from prefect.utilities.schema_tools.validation import ValidationError
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from tests.docker.support import IMAGES, Dockerfile

FOLDER = Path(__file__).parents[2] / "deployments" / "kubernetes"
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "base-job-template.json").read_text())
VARIABLES: dict[str, Any] = TEMPLATE["variables"]
IMAGE = "registry.example/clipsmith@sha256:" + "0" * 64
VERSIONS = ("1.31", "1.37")


def job(**values: Any) -> dict[str, Any]:
    """The job that the worker would create for a flow run whose deployment sets `values`."""

    async def configured() -> KubernetesWorkerJobConfiguration:
        return await KubernetesWorkerJobConfiguration.from_template_and_values(TEMPLATE, {"image": IMAGE} | values)

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # never asked; without it a server starts
        configuration = asyncio.run(configured())
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="demo-run"))
    return configuration.job_manifest


def pod(**values: Any) -> dict[str, Any]:
    return job(**values)["spec"]["template"]["spec"]


def container(**values: Any) -> dict[str, Any]:
    (only,) = pod(**values)["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_is_valid(version: str) -> None:
    assert kubernetes_validate.validate(job(), version, strict=True) == version
    full = job(gpus=0, cpu_limit="8", memory_limit="32Gi", service_account_name="runner", labels={"team": "vision"})
    kubernetes_validate.validate(full, version, strict=True)


def test_the_schema_would_object() -> None:
    broken = job()
    broken["spec"]["template"]["spec"]["completions"] = 1  # where Prefect's own template has it
    with pytest.raises(jsonschema.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", ["volume-claim.yaml", "secret.example.yaml"])
def test_what_the_job_refers_to_is_valid_and_has_its_name(name: str) -> None:
    resource = yaml.safe_load((FOLDER / name).read_text())
    kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)
    variable = {"PersistentVolumeClaim": "volume_claim", "Secret": "secret"}[resource["kind"]]
    assert resource["metadata"]["name"] == VARIABLES["properties"][variable]["default"]
    assert not any(resource.get("stringData", {}).values()), "an example holds no secret"


def test_prefect_takes_the_template() -> None:
    pool = WorkPool(name="clipsmith-kubernetes", type="kubernetes", base_job_template=TEMPLATE)
    assert pool.base_job_template == TEMPLATE
    is_valid_schema(VARIABLES)
    validate({"image": IMAGE}, VARIABLES, raise_on_error=True, preprocess=False)


def test_it_offers_all_that_prefects_own_template_does() -> None:
    default = KubernetesWorker.get_default_base_job_template()["variables"]["properties"]
    assert set(VARIABLES["properties"]) == {*default, "gpus", "volume_claim", "secret", "tmp_size"}


def test_every_variable_is_used() -> None:
    text = json.dumps(TEMPLATE["job_configuration"])
    assert not [name for name in VARIABLES["properties"] if f"{{{{ {name} }}}}" not in text]


@pytest.mark.parametrize("image", ["clipsmith:gpu", "clipsmith", "clipsmith@sha256:abc", None])
def test_an_image_without_digest_is_refused(image: str | None) -> None:
    values = {} if image is None else {"image": image}
    with pytest.raises(ValidationError):
        validate(values, VARIABLES, raise_on_error=True, preprocess=False)


def test_one_gpu_unless_told_otherwise() -> None:
    assert container()["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert container(gpus=0)["resources"]["limits"]["nvidia.com/gpu"] == 0
    with pytest.raises(ValidationError):
        validate({"image": IMAGE, "gpus": -1}, VARIABLES, raise_on_error=True, preprocess=False)


def test_the_image_and_what_runs_in_it() -> None:
    assert container()["image"] == IMAGE
    assert "command" not in container(), "the image's own entrypoint stays"
    shell, option, script = container()["args"]
    assert (shell, option) == ("sh", "-c")
    assert script.endswith("; exec prefect flow-run execute"), "Prefect's own command"


@pytest.mark.parametrize(
    ("given", "starts"),
    [({}, False), ({"PREFECT_API_AUTH_STRING": ""}, False), ({"PREFECT_API_AUTH_STRING": "me:secret"}, True)],
)
def test_without_a_password_nothing_starts(given: dict[str, str], starts: bool, tmp_path: Path) -> None:
    (tmp_path / "prefect").write_text("#!/bin/sh\necho started $*\n")
    (tmp_path / "prefect").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | given
    done = subprocess.run(container()["args"], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout == "started flow-run execute\n", done.returncode == 0) == (starts, starts)
    assert ("PREFECT_API_AUTH_STRING is empty" in done.stderr) is not starts


@pytest.mark.parametrize("image", sorted(IMAGES))
def test_it_runs_as_the_images_user_and_writes_where_the_image_does(image: str) -> None:
    dockerfile = Dockerfile(IMAGES[image])
    user, group = map(int, dockerfile.final("USER").value.split(":"))
    context = pod()["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, group, group)
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    assert mounts == {dockerfile.final("VOLUME").words[0]: "store", "/tmp": "tmp"}


def test_nothing_is_left_open() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())


def test_volumes_and_credentials() -> None:
    volumes = {volume.pop("name"): volume for volume in pod(volume_claim="fast", tmp_size="5Gi")["volumes"]}
    assert volumes == {
        "store": {"persistentVolumeClaim": {"claimName": "fast"}},
        "tmp": {"emptyDir": {"sizeLimit": "5Gi"}},
    }
    assert container(secret="mine")["envFrom"] == [{"secretRef": {"name": "mine"}}]
    secret = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())["stringData"]
    assert {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "CLIPSMITH_BUCKET", "AWS_SECRET_ACCESS_KEY"} <= set(secret)
