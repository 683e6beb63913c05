"""Signing releases and checking who signed them, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.store.store import Store
from tests.artifacts.support import key_pair
from tests.deployments.conftest import MODEL, Call

pytestmark = pytest.mark.usefixtures("releases")


def test_sign_and_check(call: Call, store: Store, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    code, out, _ = call("sign", f"{MODEL}@1", "--key", private, "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, document["ref"], document["number"]) == (0, f"{MODEL}@1", 1)
    code, out, _ = call("check-signature", f"{MODEL}@1", "--key", public, "--store", store.root, "--json")
    assert (code, json.loads(out)) == (0, document)
    code, out, _ = call("sign", f"{MODEL}@1", "--key", private, "--store", store.root)
    assert (code, out) == (0, f"signed: signature 2 of {MODEL}@1\n")
    code, out, _ = call("check-signature", f"{MODEL}@1", "--key", public, "--store", store.root)
    assert (code, "is signed by the owner of release.pub: signature 1" in out) == (0, True)


def test_a_signature_that_does_not_count(call: Call, store: Store, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path)
    _, stranger = key_pair(tmp_path, "stranger")
    call("sign", f"{MODEL}@1", "--key", private, "--store", store.root)
    for ref in (f"{MODEL}@1", f"{MODEL}@2"):  # by somebody else; by nobody
        code, out, err = call("check-signature", ref, "--key", stranger, "--store", store.root, "--json")
        assert (code, out) == (1, "")
        assert err.startswith("SignatureRequired: ") and ref in err


def test_the_password_comes_from_the_environment(
    call: Call, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = key_pair(tmp_path, password="correct horse")
    arguments = ("sign", MODEL, "--key", private, "--store", store.root)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("KeyUnusable: ")
    monkeypatch.setenv("CLIPSMITH_KEY_PASSWORD", "wrong")
    code, out, err = call(*arguments)
    assert code == 2 and "wrong horse" not in err
    monkeypatch.setenv("CLIPSMITH_KEY_PASSWORD", "correct horse")
    code, out, err = call(*arguments)
    assert code == 0 and "correct horse" not in out + err
    assert call("check-signature", MODEL, "--key", public, "--store", store.root)[0] == 0
    assert "--password" not in call("sign", "--help")[1]
