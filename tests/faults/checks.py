"""Small checks that tests run on the store and, to see that they can fail, on mutants of it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from artifacts import fs
from artifacts.errors import AliasMoved, ClipsmithError, StoreBusy
from artifacts.keeping.promotion import promote
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release
from tests.faults.support import publish, read_whole


def at_once(work: Callable[..., Any], *arguments: tuple[Any, ...]) -> list[Any]:
    """What each forked process returned; they start together."""
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(len(arguments)), context.Queue()

    def run(number: int) -> None:
        together.wait(60)
        answers.put((number, work(*arguments[number])))

    processes = [context.Process(target=run, args=(number,)) for number in range(len(arguments))]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(arguments))]


def check_one_promoter_wins(root: Path) -> None:
    """Two have looked and then both write."""
    store = Store.open(root)
    for what in ("1", "2"):
        publish(store, "a", what)
    meet, link = threading.Barrier(2, timeout=60), fs.link
    won: list[str] = []

    def wait(source: Path, target: Path) -> None:
        if "aliases" in target.parts:
            meet.wait()
        link(source, target)

    def run(reference: str) -> None:
        with suppress(AliasMoved):
            won.append(promote(store, reference, "production").after.ref)

    with mock.patch.object(fs, "link", wait):
        threads = [threading.Thread(target=run, args=(f"a@{version}",)) for version in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert won == [store.find("a:production").ref], f"{won} both think that they moved the alias"


def check_publishers_do_not_overwrite(root: Path) -> None:
    """Another publisher took the version between our look and our write: the release of neither is lost."""
    store = Store.open(root)
    ref, other = add(store, b"ours"), add(store, b"theirs")
    link, theirs = fs.link, []

    def faster(source: Path, target: Path) -> None:
        if target.match("releases/a/*.json") and not theirs:
            theirs.append(target)
            with mock.patch("artifacts.locks.fcntl.flock", lambda *_: None):  # as if it held no lock
                theirs[0] = make_release(Store.open(root), "a", digest("theirs"), other)[0]
        link(source, target)

    with mock.patch.object(fs, "link", faster):
        ours, _ = make_release(store, "a", digest("ours"), ref)
    assert {m.ref for m in store.releases()} == {ours.ref, theirs[0].ref} == {"a@1", "a@2"}


def check_the_collector_leaves_what_is_held(root: Path) -> None:
    """A publisher has made an object and not yet the release; a reader is in the middle of a release."""
    publisher, reader = Store.open(root), Store.open(root, writable=False)
    publish(publisher, "a", "1")
    ref = add(publisher, b"not yet released")
    manifest = publish(publisher, "a", "2")
    with reader.reading():
        try:
            collect(Store.open(root), keep=1, wait_s=0.05)
        except StoreBusy:
            pass
        else:
            raise AssertionError("the collector did not wait for a reader")
        read_whole(reader, manifest)
    collect(Store.open(root), keep=1, wait_s=5)
    try:
        make_release(publisher, "b", digest("b"), ref)
    except ClipsmithError as error:
        raise AssertionError("the collector took what a publisher holds") from error
    publisher.close()
    assert verify(root).problems == ()
