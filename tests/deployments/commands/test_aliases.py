"""Moving aliases from the command line, and their history."""

from __future__ import annotations

import json

import pytest

from artifacts.store import aliases, layout
from artifacts.store.store import Store
from tests.artifacts.support import rewrite
from tests.deployments.conftest import MODEL, Call, release

pytestmark = pytest.mark.usefixtures("releases")


def points_to(store: Store, alias: str = "production") -> str:
    return aliases.current(store.root, MODEL, alias).ref


def test_promote_and_roll_back(call: Call, store: Store) -> None:
    at = ("--alias", "production", "--store", store.root)
    code, out, err = call("promote", f"{MODEL}@1", *at, "--why", "first", "--json")
    document = json.loads(out)
    assert (code, err, document["moved"], document["before"]) == (0, "", True, None)
    assert (document["after"]["ref"], document["after"]["why"]) == (f"{MODEL}@1", "first")
    code, out, _ = call("promote", MODEL, *at)
    assert (code, out) == (0, f"{MODEL}:production now points to {MODEL}@3 (before: {MODEL}@1)\n")
    assert points_to(store) == f"{MODEL}@3"
    code, out, _ = call("promote", f"{MODEL}@3", *at)
    assert (code, out) == (0, f"{MODEL}:production points to {MODEL}@3 already\n")
    code, out, _ = call("rollback", *at, "--why", "slow", "--json")  # the store has one model
    assert (code, json.loads(out)["after"]["ref"]) == (0, f"{MODEL}@1")
    assert points_to(store) == f"{MODEL}@1"
    code, out, err = call("rollback", MODEL, *at)
    assert (code, out) == (2, "")
    assert err.startswith("NothingToRollBack: ")


def test_a_rejected_release_needs_force_and_a_reason(call: Call, store: Store) -> None:
    arguments = ("promote", f"{MODEL}@2", "--alias", "production", "--store", store.root)
    code, out, err = call(*arguments)
    assert (code, out) == (3, "")
    assert err.startswith("ReleaseRejected: ") and "min_cosine_mean" in err
    code, out, err = call(*arguments, "--force")
    assert (code, out) == (2, "")
    assert err.startswith("ConfigError: ") and "--why" in err
    assert aliases.names(store.root) == []
    code, out, _ = call(*arguments, "--force", "--why", "the gate is wrong", "--json")
    after = json.loads(out)["after"]
    assert (code, after["forced"], after["why"]) == (0, True, "the gate is wrong")


@pytest.mark.parametrize(
    ("arguments", "error", "exit_code"),
    [
        (["promote", MODEL, "--alias", "Production"], "BadName", 2),
        (["promote", f"{MODEL}@9", "--alias", "production"], "ReleaseNotFound", 2),
        (["rollback", MODEL, "--alias", "production"], "AliasNotFound", 2),
        (["rollback", "../x", "--alias", "production"], "BadName", 2),
        (["rollback", MODEL, "--model", "other", "--alias", "production"], "ConfigError", 2),
    ],
)
def test_what_cannot_be_moved(call: Call, store: Store, arguments: list[str], error: str, exit_code: int) -> None:
    code, out, err = call(*arguments, "--store", store.root, "--json")
    assert (code, out) == (exit_code, "")
    assert err.startswith(f"{error}: ")
    assert aliases.names(store.root) == []


def test_an_alias_is_required(call: Call, store: Store) -> None:
    assert call("promote", MODEL, "--store", store.root)[:2] == (2, "")


def test_rollback_with_several_models_asks_which(call: Call, store: Store) -> None:
    release(store, 1, model="other")
    code, out, err = call("rollback", "--alias", "production", "--store", store.root)
    assert (code, out) == (2, "")
    assert err.startswith("ConfigError: ") and f"{MODEL}, other" in err and "rollback MODEL" in err
    for version in (1, 3):
        call("promote", f"{MODEL}@{version}", "--alias", "production", "--store", store.root)
    assert call("rollback", "--alias", "production", "--model", MODEL, "--store", store.root)[0] == 0
    assert points_to(store) == f"{MODEL}@1"


def test_rollback_goes_a_step_further_each_time_or_to_a_release_at_once(call: Call, store: Store) -> None:
    for version in (4, 5):
        release(store, version)
    at = ("--alias", "production", "--store", store.root)
    for _ in range(2):
        for version in (1, 3, 4, 5):
            call("promote", f"{MODEL}@{version}", *at)
        assert call("rollback", *at, "--to", f"{MODEL}@3")[0] == 0
        assert points_to(store) == f"{MODEL}@3"
    code, out, err = call("rollback", *at, "--to", f"{MODEL}@5")
    assert (code, out) == (2, "") and err.startswith("NothingToRollBack: ") and f"one of: {MODEL}@1, {MODEL}@3" in err
    code, out, _ = call("rollback", MODEL, *at, "--to", f"{MODEL}@3")
    assert (code, out) == (0, f"{MODEL}:production points to {MODEL}@3 already\n")
    for expected in (1, 3, 1):
        assert call("rollback", *at)[0] == 0
        assert points_to(store) == f"{MODEL}@{expected}"
    code, out, err = call("rollback", "other", *at, "--to", f"{MODEL}@1")
    assert (code, out) == (2, "") and f"two models: 'other' and '{MODEL}'" in err


def test_a_wrong_path_makes_no_store(call: Call, store: Store) -> None:
    wrong = store.root.parent / "wrong"
    for command in (["promote", MODEL, "--alias", "a"], ["rollback", MODEL, "--alias", "a"], ["gc"], ["aliases"]):
        code, out, err = call(*command, "--store", wrong)
        assert (code, out) == (2, "")
        assert err.startswith("NotAStore: ")
    assert not wrong.exists()


def test_aliases_and_their_history(call: Call, store: Store) -> None:
    release(store, 1, model="other")
    for ref, why in ((f"{MODEL}@1", "first"), (f"{MODEL}@3", "[bold]faster")):
        call("promote", ref, "--alias", "production", "--why", why, "--store", store.root)
    call("promote", "other", "--alias", "canary", "--store", store.root)
    code, out, _ = call("aliases", "--store", store.root, "--json")
    found = [(entry["model"], entry["alias"], entry["ref"], entry["number"]) for entry in json.loads(out)["aliases"]]
    assert (code, found) == (
        0,
        [(MODEL, "production", f"{MODEL}@3", 2), ("other", "canary", "other@1", 1)],
    )
    code, out, _ = call("aliases", "--history", "--model", MODEL, "--store", store.root, "--json")
    entries = json.loads(out)["aliases"]
    assert [(entry["version"], entry["why"], entry["action"]) for entry in entries] == [
        (1, "first", "promote"),
        (3, "[bold]faster", "promote"),
    ]
    assert all(entry["who"] and entry["created"] for entry in entries)
    code, out, _ = call("aliases", "--history", "--store", store.root)
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 4)
    assert "[bold]faster" in lines[2] and entries[1]["who"] in lines[2] and "@3" in lines[2]
    assert "no aliases yet" in call("aliases", "--model", "third", "--store", store.root)[1]


def test_a_damaged_alias_is_named_and_the_others_listed(call: Call, store: Store) -> None:
    for alias in ("canary", "production"):
        call("promote", f"{MODEL}@1", "--alias", alias, "--store", store.root)
    path = layout.alias_folder(store.root, MODEL, "canary") / "1.json"
    rewrite(path, path.read_bytes()[:-1])
    code, out, err = call("aliases", "--store", store.root, "--json")
    assert (code, [entry["alias"] for entry in json.loads(out)["aliases"]]) == (1, ["production"])
    assert err.startswith("DamagedAlias: ") and str(path) in err
