"""The compose file: valid by the specification's own schema, and as closed as we promise. Nothing is started."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from dotenv import dotenv_values
from jsonschema.validators import validator_for
from prefect.settings.legacy import _get_settings_fields  # the one list of all settings and their variables
from prefect.settings.models.root import Settings

from deployments.server.own_pages import own_origins
from tests.docker.support import COMPOSE, EXAMPLE, IMAGES, REFERENCE, Dockerfile, compose

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
ONE_SHOT = {"volume", "bucket", "deploy"}
OURS = {"volume", "bucket", "server", "deploy", "worker-cpu", "worker-gpu"}
SECRETS = {"PREFECT_SERVER_API_AUTH_STRING", "POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def variables() -> list[re.Match[str]]:
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    return list(REFERENCE.finditer(text))


def test_the_file_is_valid_by_the_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator = validator_for(schema)(schema)
    assert not list(validator.iter_errors(compose()))
    broken = compose()
    broken["services"]["server"]["read_onyl"] = True
    assert list(validator.iter_errors(broken)), "the schema knows what it does not know"


def test_the_example_explains_exactly_the_variables_of_the_file() -> None:
    assert set(dotenv_values(EXAMPLE)) == {v["name"] for v in variables()}
    text = EXAMPLE.read_text()
    undocumented = re.findall(r"(?<=\n\n)(\w+)=", text)
    assert not undocumented, "a comment stands above every group"


def test_secrets_are_required_and_nowhere_written() -> None:
    required = {v["name"] for v in variables() if v["kind"] == "?"}
    assert required == SECRETS
    assert {v["kind"] for v in variables() if v["name"] in SECRETS} == {"?"}
    assert {name: dotenv_values(EXAMPLE)[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    assert (Path(COMPOSE).parent / ".gitignore").read_text().splitlines()[-1] == ".env"


def test_the_example_shows_the_defaults() -> None:
    example = dotenv_values(EXAMPLE)
    for variable in variables():
        if variable["kind"] == "-":
            assert variable["text"] == example[variable["name"]], variable["name"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_closed(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & set(service)
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert source in compose()["volumes"], "named volumes only: nothing of the host is mounted"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_watched(name: str) -> None:
    service = SERVICES[name]
    _, _, tag = service["image"].rpartition(":")
    assert tag and tag != "latest"
    if name in ONE_SHOT:
        assert service["restart"] == "no" and service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    test = service["healthcheck"]["test"] if "healthcheck" in service else health_of(service)
    assert test[0] == "CMD" and len(test) > 1


def health_of(service: dict[str, Any]) -> list[str]:
    """The image's own health check."""
    image = Dockerfile(COMPOSE.parents[1] / service["build"]["dockerfile"])
    return ["CMD", *image.final("HEALTHCHECK").words]


def test_only_the_server_is_published_and_only_on_the_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:4200:4200"]}
    assert compose()["networks"]["data"] == {"internal": True}
    for name in ("postgres", "objects"):
        assert SERVICES[name]["networks"] == ["data"], "no way out, no way in"


def test_the_server_asks_for_the_string_that_its_clients_send() -> None:
    filled = compose({"PREFECT_SERVER_API_AUTH_STRING": "me:secret"})["services"]
    assert filled["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == "me:secret"
    for name in ("deploy", "worker-cpu", "worker-gpu"):
        assert filled[name]["environment"]["PREFECT_API_AUTH_STRING"] == "me:secret"
        assert filled[name]["environment"]["PREFECT_API_URL"] == "http://server:4200/api"


def test_the_server_frees_what_the_dead_held_as_that_of_up_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.server import environment

    given = {name: value for name, value in SERVICES["server"]["environment"].items() if _is_about_leases(name)}
    assert len(given) == 2
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr("prefect.context.refresh_global_settings_context", lambda: None)
    environment.prepare_up("http://127.0.0.1:1")
    assert {name: value for name, value in os.environ.items() if _is_about_leases(name)} == given


def _is_about_leases(name: str) -> bool:
    return name.startswith(("PREFECT_SERVER_CONCURRENCY_", "PREFECT_SERVER_SERVICES_REPOSSESSOR_"))


@pytest.mark.parametrize("name", ["bucket", "deploy", "worker-cpu", "worker-gpu"])
def test_all_who_need_the_bucket_know_it_and_reach_it(name: str) -> None:
    needed = {"CLIPSMITH_BUCKET", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert needed <= set(SERVICES[name]["environment"])
    assert SERVICES[name]["environment"]["AWS_ENDPOINT_URL"] == "http://objects:9000"
    assert "data" in SERVICES[name]["networks"]
    assert {"bucket", "objects"} & set(SERVICES[name]["depends_on"])


def test_the_port_that_is_published_is_the_one_the_page_calls() -> None:
    server = compose({"PREFECT_PORT": "5900"})["services"]["server"]
    assert server["ports"] == ["127.0.0.1:5900:4200"]
    assert server["environment"]["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:5900/api"
    assert server["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == own_origins(5900)


def test_one_waits_for_another_only_for_what_can_happen() -> None:
    for name, service in SERVICES.items():
        for other, needed in service.get("depends_on", {}).items():
            assert "profiles" not in SERVICES[other], f"{name} needs {other}, which may not be asked for"
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert needed == {"condition": expected}, f"{name} needs {other}"
            shared = set(service.get("networks", [])) & set(SERVICES[other].get("networks", []))
            assert shared or expected != "service_healthy", f"{name} cannot reach {other}"


def test_the_workers() -> None:
    cpu, gpu = SERVICES["worker-cpu"], SERVICES["worker-gpu"]
    assert (cpu["profiles"], gpu["profiles"]) == (["cpu"], ["gpu"])
    assert set(gpu) - set(cpu) == {"deploy"} and "command" not in cpu, "they run the image's own command"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    for service in (cpu, gpu):
        assert service["volumes"] == ["worker:/var/lib/clipsmith"]


def test_ours_are_built_here_and_run_as_the_image_does() -> None:
    assert {name for name, service in SERVICES.items() if "build" in service} == OURS
    for name in OURS:
        service = SERVICES[name]
        path = (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
        assert path in IMAGES.values()
        assert service["user"] == Dockerfile(path).final("USER").value


def test_prefect_knows_every_setting() -> None:
    known = set(_get_settings_fields(Settings))
    named = {name for service in SERVICES.values() for name in service.get("environment", {})}
    named |= {name for path in IMAGES.values() for name in Dockerfile(path).environment}
    ours = {name for name in named if name.startswith("PREFECT_")}
    assert len(ours) >= 10
    assert ours <= known
