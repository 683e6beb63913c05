"""The flow that moves an alias: refused, asked, answered, and overtaken."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import FlowPauseTimeout

from artifacts.errors import AliasMoved, AliasNotFound, NotApproved, ReleaseNotFound, ReleaseRejected
from artifacts.keeping import promotion as by_hand
from artifacts.manifest import GateResult
from artifacts.release.measurements import Measurement
from artifacts.store import aliases
from artifacts.store.store import Store
from flows import promote as module
from flows.promote import Approval, PromoteParameters, promote
from tasks.prefect_ui.approval import _shown, propose
from tests.artifacts.support import add, digest, graph, make_release
from tests.wording import refusal

PASSED = GateResult(name="max_size_ratio", status="passed", max=0.98, value=0.5)
UNDECIDED = GateResult(name="max_top1_drop", status="undecided", max=0.01, value=0.009, low=0.001, high=0.02)
FAILED = GateResult(name="max_size_ratio", status="failed", max=0.98, value=1.2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with `a@1`, to which production points, `a@2`, and `a@3`, which is rejected."""
    store = Store.open(tmp_path / "releases")
    for n, gates in ((1, (PASSED,)), (2, (PASSED, UNDECIDED)), (3, (FAILED,))):
        make_release(store, "a", digest(str(n)), gates=gates, **graph(store, bytes(1_000_000 + n)))
    by_hand.promote(store, "a@1", "production")
    store.close()
    return store.root


def parameters(root: Path, release: str = "a@2", **changes: Any) -> PromoteParameters:
    return PromoteParameters(release=release, store=str(root), **changes)


def points_to(root: Path, alias: str = "production") -> aliases.AliasEntry:
    return aliases.current(root, "a", alias)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """`answer(approve, reason, meanwhile=...)` answers instead of a person; returns what they were shown."""

    def prepare(approve: bool, reason: str = "", meanwhile: Callable[[], object] = list) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def pause(wait_for_input: Any, **options: Any) -> Approval:
            asked.append(options | {"text": wait_for_input._description})
            meanwhile()
            return Approval(approve=approve, reason=reason)

        monkeypatch.setattr(module, "pause_flow_run", pause)
        return asked

    return prepare


def test_without_approval_it_moves_at_once(root: Path) -> None:
    done = promote(parameters(root, approval=False, why="it is better"))
    assert (done.release, done.before, done.moved) == ("a@2", "a@1", True)
    entry = points_to(root)
    assert (entry.ref, entry.number, entry.why, entry.forced) == ("a@2", 2, "it is better", False)


def test_the_newest_is_promoted_as_what_it_was_when_it_was_looked_at(root: Path, answer: Any) -> None:
    def publish() -> None:
        store = Store.open(root)
        make_release(store, "b", digest("b2"), add(store, b"b2"))

    store = Store.open(root)
    make_release(store, "b", digest("b1"), add(store, b"b1"))
    answer(True, meanwhile=publish)
    assert promote(parameters(root, "b")).release == "b@1"
    assert Store.open(root).find("b").ref == "b@2"


@pytest.mark.parametrize("approval", [True, False])
def test_a_rejected_release_is_refused_before_anybody_is_asked(root: Path, answer: Any, approval: bool) -> None:
    asked = answer(True)
    with pytest.raises(ReleaseRejected, match="a@3 was rejected"):
        promote(parameters(root, "a@3", approval=approval))
    assert (asked, points_to(root).ref) == ([], "a@1")


def test_no_such_release(root: Path) -> None:
    with pytest.raises(ReleaseNotFound, match="a@9"):
        promote(parameters(root, "a@9"))


def test_who_approves_sees_gates_and_what_changes(root: Path, answer: Any) -> None:
    asked = answer(True, "looked at it")
    done = promote(parameters(root, why="nightly", approval_timeout_hours=3))
    assert done.moved
    assert (points_to(root).ref, points_to(root).why) == ("a@2", "nightly; approved: looked at it")
    ((text, timeout),) = [(one["text"], one["timeout"]) for one in asked]
    assert timeout == 3 * 3600
    assert "Promote a@2 to production" in text
    assert "1 passed, 1 undecided" in text or "1 undecided, 1 passed" in text
    assert "zero-shot top-1 drop" in text  # the gate that is not passed is told in full
    assert "|  | a@1 | a@2 |" in text
    assert "| onnx fp8 | 1000001 | 1000002 |" in text


def test_a_first_promotion_has_nothing_to_compare_with(root: Path, answer: Any) -> None:
    asked = answer(True)
    assert promote(parameters(root, alias="staging")).before is None
    assert "points to nothing yet" in asked[0]["text"]
    assert points_to(root, "staging").why == "approved"


def test_what_the_alias_points_to_already_needs_no_approval(root: Path, answer: Any) -> None:
    asked = answer(False)
    assert not promote(parameters(root, "a@1")).moved
    assert (asked, points_to(root).number) == ([], 1)


def test_a_refusal_ends_the_run_and_moves_nothing(root: Path, answer: Any) -> None:
    answer(False, "wait for Monday")
    with refusal(NotApproved):
        promote(parameters(root))
    assert points_to(root).number == 1


def test_nobody_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause(**_: Any) -> None:
        raise FlowPauseTimeout("never resumed")

    monkeypatch.setattr(module, "pause_flow_run", pause)
    with pytest.raises(NotApproved, match="within 2 h"):
        promote(parameters(root, approval_timeout_hours=2))
    assert points_to(root).number == 1


@pytest.mark.parametrize("alias", ["production", "staging"])
def test_an_alias_that_moves_while_somebody_thinks_is_not_moved_again(root: Path, answer: Any, alias: str) -> None:
    answer(True, meanwhile=lambda: by_hand.promote(Store.open(root), "a@3", alias, force=True, why="urgent"))
    with pytest.raises(AliasMoved):
        promote(parameters(root, alias=alias))
    assert points_to(root, alias).ref == "a@3"


def test_an_alias_that_cannot_be_read_can_be_pointed_elsewhere(root: Path, answer: Any) -> None:
    path = root / "aliases" / "a" / "production" / "1.json"
    path.chmod(0o644)
    path.write_text("{")
    asked = answer(True)
    assert promote(parameters(root)).release == "a@2"
    assert "cannot be read" in asked[0]["text"]


def test_a_real_pause_is_resumed_through_the_api(root: Path) -> None:
    """The run asks the API server for its answer, as it does on a worker."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateName as StateName

    seen: list[str] = []

    def approve() -> None:
        wanted = FlowRunFilter(
            name=FlowRunFilterName(any_=["a@2 to really"]), state=FlowRunFilterState(name=StateName(any_=["Paused"]))
        )
        deadline = time.monotonic() + 60
        with get_client(sync_client=True) as client:
            while not (runs := client.read_flow_runs(flow_run_filter=wanted)) and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(1)  # the run saves what it asks for just after it has paused
            for run in runs:
                client.resume_flow_run(run.id, run_input={"approve": True, "reason": "seen"})
                seen.append(run.name)

    with pytest.raises(AliasNotFound):
        points_to(root, "really")
    person = threading.Thread(target=approve)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_POLL_S", 1)
        person.start()
        done = promote(parameters(root, alias="really"))
    person.join()
    assert (done.moved, seen) == (True, ["a@2 to really"])
    assert points_to(root, "really").why == "approved: seen"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"release": "no such name!"}, "release"),
        ({"release": ""}, "release"),
        ({"alias": "Production!"}, "alias"),
        ({"approval_timeout_hours": 0}, "approval_timeout_hours"),
        ({"approval_timeout_hours": 169}, "approval_timeout_hours"),
        ({"approval": "yes"}, "approval"),
        ({"why": "see https://me:secret@host"}, "why"),
        ({"force": True}, "force"),
    ],
)
def test_wrong_parameters_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PromoteParameters.model_validate(values)


def test_the_form_refuses_what_is_no_name() -> None:
    """The schema is what the API checks before a run starts."""
    fields = PromoteParameters.model_json_schema()["properties"]
    for name, good, bad in (("release", "demo@3", "demo 3"), ("alias", "production", "Production")):
        pattern = fields[name]["pattern"] if "pattern" in fields[name] else fields[name]["allOf"][0]["pattern"]
        assert re.search(pattern, good)
        assert not re.search(pattern, bad)


def test_parameters_survive_json() -> None:
    for why in (None, "because"):
        given = PromoteParameters(release="abcdef0123", alias="staging", why=why)
        assert PromoteParameters.model_validate_json(given.model_dump_json()) == given


def test_intervals_are_shown(root: Path) -> None:
    about = ("accuracy", "both", "onnxruntime", "fp8", "fp16", "top1_difference")
    assert _shown(Measurement(*about, -0.002, -0.006, 0.001, "fraction")) == "-0.002 (-0.006 to 0.001)"
    assert propose(Store.open(root), "a@2", "production").seen == 1
