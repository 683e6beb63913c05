"""Where Prefect keeps what a step returned: in the active store's cache, as JSON of the class that the step returns.

Prefect's own records say how they are to be read: a forged one could name pickle, or any class of any module. Of them
only the result's JSON is kept, and how it is read is said here.
"""

from __future__ import annotations

import json
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from prefect.filesystems import WritableFileSystem
from prefect.serializers import Serializer
from pydantic import Field, ValidationError

from artifacts.errors import ClipsmithError
from artifacts.records import in_a_line
from artifacts.store import results
from artifacts.store.store import active_store
from tasks.runs.run_log import say

if TYPE_CHECKING:
    from tasks.runs.steps import StepOutput


class StepSerializer(Serializer):  # without parameters: Prefect would take those for another type
    """JSON of what a step returned, beside the dotted path of its class.

    It has no fields, as Prefect's server would drop them; what it reads comes from `StepResults`, which says the class.
    """

    type: str = Field(default="clipsmith-step", frozen=True)

    def dumps(self, obj: StepOutput) -> bytes:
        """What a step returned, and its class."""
        return _blob(f"{type(obj).__module__}.{type(obj).__qualname__}", obj.model_dump_json())

    def loads(self, blob: bytes) -> StepOutput:
        """What a step returned. Raises: as `_output`."""
        return _output(*json.loads(blob))


class StepResults(WritableFileSystem):
    """The results of one step in the active store, by cache key; `result` is the dotted path of their class."""

    _block_type_name = "clipsmith's store"

    step: str
    version: int
    result: str

    def find(self, key: str) -> StepOutput | None:
        """The result under a cache key, or None; why one that is there cannot be used is said in the run's log."""
        text = results.read(active_store(), self._name(key))
        try:
            return None if text is None else _output(self.result, text)
        except (ValidationError, ClipsmithError, OSError) as error:
            say(f"{self.step} is done again, what is kept of it cannot be used: {in_a_line(error)}")
            return None

    # Prefect calls both with `_sync=True` where it does not wait for them.

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        """The record of a result, as Prefect reads it.

        Raises:
            FileNotFoundError: there is none that can be used.
        """
        output = self.find(path)
        if output is None:
            raise FileNotFoundError(path)
        about = {"storage_key": path, "serializer": StepSerializer().model_dump()}
        return json.dumps({"metadata": about, "result": StepSerializer().dumps(output).decode()}).encode()

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        """Keep the result that a record of Prefect's holds.

        Raises:
            DiskFull, ReplicaError: it cannot be kept.
        """
        _, text = json.loads(json.loads(content)["result"])
        digests = [ref.digest for ref in _output(self.result, text).references()]
        results.write(active_store(), self._name(path), text, step=(self.step, self.version), objects=digests)

    def _name(self, key: str) -> str:
        return results.name_of(self.step, self.version, key)

    def _resolve_path(self, _path: str) -> None:
        """Keys are names, not paths: Prefect leaves them as they are."""


def _blob(result: str, text: str) -> bytes:
    return json.dumps([result, text]).encode()


def _output(result: str, text: str) -> StepOutput:
    """What a step returned, of the class with this dotted path; its objects are in the active store.

    Raises:
        ValidationError: the text is no JSON of that class.
        ObjectMissing, ObjectDamaged, ReplicaError: one of its objects cannot be used.
    """
    output: StepOutput = resolve_name(result).model_validate_json(text)
    return output


def say_if_new() -> None:
    """Say why every step of a run is done on a store that has releases and no cache."""
    if results.begin(active_store()):
        say(
            "nothing is kept of the steps that made this store's releases, so that every step is done once: "
            "versions before kept it in Prefect's home, and copies of releases leave it behind"
        )
