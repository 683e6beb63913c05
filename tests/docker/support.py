"""What the container tests read: the Dockerfiles as instructions per stage, the compose file with its defaults."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser
from dockerfile_parse.util import extract_key_values

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
EXAMPLE = DOCKER / ".env.example"
IMAGES = {"cpu": DOCKER / "cpu.Dockerfile", "gpu": DOCKER / "gpu.Dockerfile"}
REFERENCE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
"""A variable of the compose file: `${NAME}`, `${NAME:-default}` or `${NAME:?what is missing}`."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, its text with the lines joined, and its stage (-1 is before the first)."""

    name: str
    value: str
    stage: int

    @property
    def words(self) -> list[str]:
        """The instruction's exec form; fails for the shell form."""
        listed = json.loads(self.value[self.value.index("[") :])
        assert isinstance(listed, list) and all(isinstance(word, str) for word in listed)
        return listed

    @property
    def pairs(self) -> dict[str, str]:
        """The names and values of an ENV, ARG or LABEL, variables not replaced."""
        return dict(extract_key_values(env_replace=False, args={}, envs={}, instruction_value=self.value))


class Dockerfile:
    """A Dockerfile, read by dockerfile-parse."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.text = path.read_text() if text is None else text

    @cached_property
    def instructions(self) -> list[Instruction]:
        """All instructions but comments, in order."""
        found, stage = [], -1
        for part in DockerfileParser(fileobj=io.BytesIO(self.text.encode()), env_replace=False).structure:
            stage += part["instruction"] == "FROM"
            if part["instruction"] != "COMMENT":
                found.append(Instruction(part["instruction"], part["value"], stage))
        return found

    @property
    def last_stage(self) -> int:
        return self.instructions[-1].stage

    def every(self, name: str, stage: int | None = None) -> list[Instruction]:
        """The instructions of this name, of one stage or of all."""
        return [i for i in self.instructions if i.name == name and stage in (None, i.stage)]

    def final(self, name: str) -> Instruction:
        """The one instruction of this name that the finished image has."""
        (only,) = self.every(name, self.last_stage)
        return only

    @property
    def environment(self) -> dict[str, str]:
        """The finished image's ENV; `${PATH}` is left as it stands."""
        return {k: v for i in self.every("ENV", self.last_stage) for k, v in i.pairs.items()}


def compose(values: dict[str, str] | None = None) -> dict[str, Any]:
    """The compose file as Compose would read it: variables from `values`, else their defaults, else their names."""

    def value(match: re.Match[str]) -> str:
        default = match["text"] if match["kind"] == "-" else match["name"]
        return (values or {}).get(match["name"]) or default or ""

    return yaml.safe_load(REFERENCE.sub(value, COMPOSE.read_text()))
