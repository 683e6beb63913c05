"""What a night makes of its variants, with runs of `optimize` and releases that are made up: no model, no server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.context import TagsContext

from artifacts.errors import ConfigError, VariantsFailed
from artifacts.keeping.promotion import promote
from artifacts.manifest import GateResult, Row
from artifacts.refs import digest_json
from artifacts.release.regression import Finding
from artifacts.store import aliases
from artifacts.store.store import Store
from flows import nightly as module
from flows.nightly import Made, NightlyParameters, make_variant_task, nightly
from flows.parameters import OptimizeParameters
from flows.variants import BadVariant, Variant
from tasks.pipeline.publish import Published
from tasks.prefect_ui.nightly_summary import Outcome
from tests.artifacts.conftest import make_row
from tests.artifacts.support import add, digest, graph, make_release, place
from tests.wording import refusal

PASSED = GateResult(name="max_size_ratio", status="passed", max=0.98, value=0.5)
ACCURATE = GateResult(name="max_top1_drop", status="passed", max=0.01, value=0.0)
ABOVE_CHANCE = GateResult(name="above_chance", status="passed", min=0.0, value=0.5)
MAY = (PASSED, ACCURATE, ABOVE_CHANCE)
UNDECIDED = GateResult(name="max_top1_drop", status="undecided", max=0.01, value=0.009, low=0.001, high=0.02)
FAILED = GateResult(name="max_size_ratio", status="failed", max=0.98, value=1.2)
MISSING = GateResult(name="min_speedup", status="not measured", min=1.2)


def content(model: str, **changes: Any) -> Any:
    """What decides the release of a variant of this model."""
    names = {"calibration": None, "evaluation": "1", "recipe": None, "settings": {}, "steps": {}, "clipsmith": "0.1.0"}
    return {"source": {"model": "a", "digest": model}} | names | changes


def accuracy(top1: float) -> tuple[Row, ...]:
    """FP8's accuracy, with what the gates say."""
    values = {("top1", "fp8"): top1, ("top1_difference", "fp8"): 0.0, ("top1_over_chance", "fp32"): 0.5}
    about = {"encoder": "both", "target": "onnxruntime", "reference": "fp32", "samples": 64}
    return tuple(
        make_row("accuracy", **about, precision=precision, metric=metric, value=value)
        for (metric, precision), value in values.items()
    )


class Night:
    """A store, what is known about plans, and what the runs of `optimize` will do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.variants: list[Variant | BadVariant] = []
        self.known: dict[str, Published] = {}
        self.made: dict[str, Published] = {}
        self.makes: dict[str, Callable[[], Published | None]] = {}
        self.started: list[str] = []
        self.limits: set[int] = set()
        self.summary: list[Outcome] = []
        self.judged: set[str] = set()
        self.reported: list[tuple[str, list[str]]] = []
        self.findings: list[Finding] = []
        self.contents: dict[str, Any] = {}
        self.plans: Any = None

    def release(self, text: str, *gates: GateResult, model: str = "a", top1: float = 0.75) -> Published:
        """A new release of its own content."""
        changes = graph(self.store, text.encode())
        changes["tables"] |= {"accuracy": accuracy(top1)}
        manifest, new = make_release(self.store, model, digest(text), gates=gates or MAY, **changes)
        return Published(ref=manifest.ref, identity=manifest.identity, store=str(self.store.root), new=new)

    def variant(self, name: str, make: Callable[[], Published | None], promote: str | None = None) -> None:
        """A variant; a run for it makes this, or ends without a release when that is None."""
        self.variants.append(Variant(name=name, promote=promote, parameters=OptimizeParameters(model=name)))
        self.makes[name] = make

    def variant_that_is_known(self, name: str, release: Published, promote: str | None = None) -> None:
        """A variant whose plan has led to this release."""
        self.variant(name, lambda: None, promote)
        self.known[name] = release

    def run(self, **parameters: Any) -> dict[str, Outcome]:
        """Run the night; what became of each variant by the summary."""
        arguments = NightlyParameters.model_validate({"store": str(self.store.root)} | parameters)
        try:
            nightly.fn(arguments)
        finally:
            self.started.sort()
        return {outcome.variant: outcome for outcome in self.summary}

    # --- what stands for the rest of clipsmith -----------------------------------------------------------------------

    def run_optimize(self, variant: str, parameters: OptimizeParameters, limit_s: int, store_named: bool) -> Any:
        assert parameters.store == str(self.store.root), "the night's store, not the variant's own"
        assert store_named
        self.started.append(variant)
        self.limits.add(limit_s)
        made, run = self.makes[variant](), str(uuid4())
        if made is not None:
            self.made[run] = made
        ended = Made(run, "Failed: no luck" if made is None else "Completed")
        return SimpleNamespace(is_completed=lambda: True, result=lambda: ended)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    night = Night(Store.open(tmp_path / "store"))
    plans = SimpleNamespace(
        known=lambda plan: {digest_json(content(name)): made for name, made in night.known.items()}.get(plan),
        variant=night.contents.get,
        remember_variant=night.contents.__setitem__,
        made_by=lambda run: night.made.get(run),
        judged=lambda identity: identity in night.judged,
        remember_judged=night.judged.add,
    )
    night.plans = plans
    start = SimpleNamespace(with_options=lambda **_: lambda *arguments, **_: night.run_optimize(*arguments))
    reported = night.reported
    for name, value in {
        "read_variants": lambda _folder: night.variants,
        "KnownPlans": lambda _store: plans,
        "make_variant_task": start,
        "show_summary_task": night.summary.extend,
        "report_regressions": lambda release, alarms: reported.append((release.ref, alarms)),
        "findings": lambda _others, _release: night.findings,
        "get_run_logger": logging.getLogger,
        "deployment": SimpleNamespace(id="of a worker"),
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module._Night, "_content", lambda _self, parameters: content(parameters.model))
    return night


def points_to(night: Night, alias: str = "production") -> list[str]:
    """Everything that the alias has pointed to."""
    try:
        return [entry.ref for entry in aliases.history(night.store.root, "a", alias)]
    except aliases.AliasNotFound:
        return []


# --- gates and aliases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gates", "result"),
    [
        (MAY, "promoted"),
        ((PASSED,), "released"),
        ((*MAY, UNDECIDED), "released"),
        ((*MAY, MISSING), "rejected"),
        ((*MAY, FAILED), "rejected"),
    ],
    ids=lambda value: "+".join(gate.status for gate in value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("known", [False, True])
def test_an_alias_moves_only_when_every_gate_passed(
    night: Night, gates: tuple[GateResult, ...], result: str, known: bool
) -> None:
    release = night.release("new", *gates)
    if known:  # what the last night could not promote, this one may
        night.variant_that_is_known("v", release, promote="production")
    else:
        night.variant("v", lambda: release, promote="production")
    if result == "rejected":
        with pytest.raises(VariantsFailed, match="v: a@1 rejected"):
            night.run()
    else:
        night.run()
    expected = "unchanged" if known and result == "released" else result
    assert [outcome.result for outcome in night.summary] == [expected]
    assert points_to(night) == (["a@1"] if result == "promoted" else [])


def test_a_release_that_was_held_to_no_gate_is_not_promoted(night: Night) -> None:
    manifest, _ = make_release(night.store, "a", digest("free"), add(night.store, b"free"), gates=())
    night.known["v"] = Published(ref=manifest.ref, identity=manifest.identity, store="", new=True)
    night.variant("v", lambda: None, promote="production")
    assert night.run()["v"].result == "unchanged"
    assert points_to(night) == []


def test_what_is_worse_than_production_is_told_and_left_to_a_person(night: Night) -> None:
    promote(night.store, night.release("old").ref, "production")
    worse = night.release("new", top1=0.70)
    night.variant("v", lambda: worse, promote="production")
    why = "top1 on onnxruntime is \N{MINUS SIGN}5.00 points against a@1"
    outcome = night.run()["v"]
    assert (outcome.result, outcome.held) == ("released", why)
    assert f"; not promoted: {why}" in outcome.sentence()
    assert points_to(night) == ["a@1"]
    (variant,) = night.variants
    assert isinstance(variant, Variant)
    night.variants = [variant.model_copy(update={"max_drop_against_production": 0.06})]
    night.summary.clear()
    outcome = night.run()["v"]
    assert (outcome.result, outcome.held) == ("promoted", "")
    assert points_to(night) == ["a@1", "a@2"]


def test_without_promote_in_its_file_a_variant_moves_nothing(night: Night) -> None:
    night.variant("v", lambda: night.release("new"))
    assert night.run()["v"].result == "released"
    assert points_to(night) == []


def test_what_was_rolled_back_is_not_promoted_again(night: Night) -> None:
    old, new = night.release("old"), night.release("new")
    for ref in (old.ref, new.ref, old.ref):
        promote(night.store, ref, "production")
    night.variant_that_is_known("v", new, promote="production")
    outcome = night.run()["v"]
    assert (outcome.result, outcome.held) == ("unchanged", "production has pointed to it before")
    assert points_to(night) == ["a@1", "a@2", "a@1"]


def test_an_alias_that_a_person_moves_at_that_moment_is_theirs(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    old, mine, new = (night.release(text) for text in ("old", "mine", "new"))
    promote(night.store, old.ref, "production")
    read = aliases.history

    def then_somebody_moves_it(*arguments: Any) -> Any:
        entries = read(*arguments)
        promote(night.store, mine.ref, "production")
        return entries

    night.variant("v", lambda: new, promote="production")
    monkeypatch.setattr(aliases, "history", then_somebody_moves_it)
    with refusal(VariantsFailed, "variants"):
        night.run()
    monkeypatch.undo()
    assert points_to(night) == ["a@1", "a@2"]


def test_a_release_is_held_against_what_its_alias_pointed_to_before(night: Night) -> None:
    old, new = night.release("old"), night.release("new")
    promote(night.store, old.ref, "staging")
    night.variant("staged", lambda: new, promote="staging")
    night.variant("kept", lambda: new)
    outcomes = night.run(at_once=1)
    assert (outcomes["staged"].result, outcomes["staged"].production) == ("promoted", "a@1")
    assert outcomes["kept"].production is None, "nothing is in production"
    promote(night.store, old.ref, "production")
    night.summary.clear()
    assert night.run(variants=["kept"])["kept"].production == "a@1"


# --- what is made, and what is not -----------------------------------------------------------------------------------


def test_what_is_known_and_whole_starts_nothing(night: Night) -> None:
    night.variant_that_is_known("v", night.release("new"))
    assert night.run()["v"].result == "unchanged"
    assert night.started == []


def damaged(night: Night, release: Published) -> Published:
    """Its object is gone."""
    (ref,) = night.store.find(release.ref).objects()
    folder = place(night.store, ref)
    folder.rename(folder.with_name("gone"))
    return release


@pytest.mark.parametrize(
    "lost",
    [
        damaged,
        lambda _night, release: release.model_copy(update={"identity": digest("other")}),
        lambda _night, release: release.model_copy(update={"ref": "a@7"}),
    ],
    ids=["an object is gone", "the number is another release's", "the release is gone"],
)
def test_what_is_known_and_lost_is_made_again(night: Night, lost: Callable[[Night, Published], Published]) -> None:
    release = night.release("new")
    night.variant("v", lambda: release)
    night.known["v"] = lost(night, release)
    night.run()
    assert night.started == ["v"]


def test_it_is_said_why_a_variant_is_made(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    night.variant("v", lambda: night.release("new"))
    assert night.run()["v"].why == "nothing is remembered of an earlier night"
    assert "v is made: nothing is remembered of an earlier night" in caplog.messages
    assert night.contents["v"] == content("v")

    night.contents["v"] = content("other", steps={"audit": {"version": 1, "result": "", "packages": {}}})
    sentence = "a@1 unchanged; why it was made: the checkpoint changed, step audit is gone"
    assert night.run()["v"].sentence() == sentence
    assert night.run()["v"].why == "nothing is remembered of its release"

    night.known["v"] = damaged(night, night.release("new"))
    assert night.run()["v"].why == "its release is gone or damaged"


def test_a_release_counts_though_its_record_cannot_be_written(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night.variant("v", lambda: night.release("new"))
    night.plans.remember_variant = explode
    assert night.run()["v"].result == "released"
    assert "the next night cannot say what has changed" in caplog.text


def test_why_is_told_of_what_failed_too(night: Night) -> None:
    night.variant("v", explode)
    with pytest.raises(VariantsFailed):
        night.run()
    assert night.summary[0].why == "nothing is remembered of an earlier night"


def test_of_what_is_not_made_nothing_is_said(night: Night) -> None:
    night.variant_that_is_known("v", night.release("new"))
    outcome = night.run()["v"]
    assert (outcome.why, outcome.sentence()) == ("", "a@1 unchanged")
    assert night.contents["v"] == content("v"), "for the night after the next change"


def test_what_failed_is_not_remembered(night: Night) -> None:
    night.variant("v", lambda: None)
    with pytest.raises(VariantsFailed):
        night.run()
    assert night.contents == {}


def test_a_run_that_found_its_release_there_already_has_changed_nothing(night: Night) -> None:
    release = night.release("new")
    night.variant("v", lambda: release.model_copy(update={"new": False}))
    assert night.run()["v"].result == "unchanged"


def test_a_variant_has_the_hours_that_were_given(night: Night) -> None:
    night.variant("v", lambda: night.release("new"))
    night.run(hours=3)
    assert night.limits == {3 * 60 * 60}


def test_only_the_named_ones(night: Night) -> None:
    for name in ("a", "b"):
        night.variant(name, lambda: night.release("new"))
    assert night.run(variants=["b"]).keys() == {"b"}
    assert night.started == ["b"]


def test_as_many_at_once_as_were_asked_for(night: Night) -> None:
    together = threading.Barrier(3)
    lock, running, most = threading.Lock(), [0], [0]

    def make() -> Published | None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(20)
        with lock:
            running[0] -= 1
        return night.release("same")

    for name in "abcdef":
        night.variant(name, make)
    assert [outcome.result for outcome in night.run(at_once=3).values()].count("failed") == 0
    assert most == [3]


@pytest.mark.parametrize(("apart", "expected"), [(False, 1), (True, 3)], ids=["in this process", "in others"])
def test_without_a_worker_variants_are_made_side_by_side_in_other_processes_alone(
    apart: bool, expected: int, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModelOpt replaces functions of PyTorch's modules: variants in threads of one process failed, each in its way."""
    given: list[int] = []
    monkeypatch.setattr(module, "deployment", SimpleNamespace(id=None))
    monkeypatch.setattr(module, "processes", SimpleNamespace(get=lambda: night if apart else None))
    monkeypatch.setattr(
        module, "side_by_side", lambda call, items, at_once, *_: given.append(at_once) or map(call, items)
    )
    night.variant("b", lambda: night.release("new"))
    night.run(at_once=3)
    assert given[1:] == [expected]


# --- one fails alone -------------------------------------------------------------------------------------------------


def explode(*_: Any) -> Any:
    raise PermissionError(13, "Permission denied", "/models/secret")


def test_whatever_is_wrong_with_one_the_others_are_made(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.variants.append(BadVariant("file", ConfigError("wrong variant")))
    night.variant("inputs", lambda: None)
    night.variant("known", lambda: None)
    night.variant("ended", lambda: None)
    night.variant("making", explode)
    night.variant("gone", lambda: Published(ref="a@99", identity="", store="", new=True))
    night.variant("good", lambda: night.release("good"), promote="production")

    def read(_self: object, parameters: OptimizeParameters) -> Any:
        if parameters.model == "inputs":
            explode()
        if parameters.model == "known":
            raise ConfigError("no calibration data")
        return content(parameters.model)

    monkeypatch.setattr(module._Night, "_content", read)
    with pytest.raises(VariantsFailed) as failure:
        night.run(at_once=1)
    assert [(outcome.variant, outcome.result) for outcome in night.summary] == [
        *((name, "failed") for name in ("file", "inputs", "known", "ended", "making", "gone")),
        ("good", "promoted"),
    ]
    assert points_to(night) == ["a@1"]
    words = str(failure.value)
    assert "6 of 7 variants failed: file, inputs, known, ended, making, gone" in words
    for expected in (
        "file: wrong variant",
        "inputs: PermissionError: [Errno 13] Permission denied: '/models/secret'",
        "known: no calibration data",
        "ended: Failed: no luck",
        "a@99",
    ):
        assert expected in words


def test_what_nobody_expected_is_logged_with_where_it_came_from(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night.variant("making", explode)
    with pytest.raises(VariantsFailed):
        night.run()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "making" in record.getMessage()
    assert "explode" in (record.exc_text or logging.Formatter().formatException(record.exc_info or (None, None, None)))


# --- regressions -----------------------------------------------------------------------------------------------------


def finding(figure: str, verdict: Any) -> Finding:
    return Finding(figure=figure, value=2.0, typical=1.0, limit=1.5, unit="s", verdict=verdict, n=9)


def test_a_new_release_that_is_worse_is_reported_once(night: Night) -> None:
    night.findings = [finding(name, name) for name in ("regression", "drift", "steady", "improved")]
    release = night.release("new")
    night.variant("v", lambda: release)
    first = night.run()["v"]
    assert len(first.alarms) == 2
    assert night.reported == [("a@1", list(first.alarms))]
    for figure, alarm in zip(("regression", "drift"), first.alarms, strict=True):
        assert figure in alarm
    night.reported.clear()
    night.summary.clear()
    night.known["v"] = release
    assert night.run()["v"].alarms == ()
    assert [alarms for _, alarms in night.reported if alarms] == [], "the next night has nothing new to tell"


def test_a_release_that_another_run_made_is_reported_too(night: Night) -> None:
    """`optimize` by hand, or a night that was killed before it came to this."""
    night.findings = [finding("accuracy", "regression")]
    night.variant_that_is_known("v", night.release("new"))
    for told in (1, 0):
        assert len(night.run()["v"].alarms) == told
        night.summary.clear()
    assert [len(alarms) for _, alarms in night.reported] == [1, 0]


# --- a run on another worker -----------------------------------------------------------------------------------------


class Server:
    """A server whose runs end, or do not."""

    def __init__(self, state: Any) -> None:
        self.run = SimpleNamespace(id=uuid4(), state=state)
        self.asked: dict[str, Any] = {}
        self.told: list[tuple[Any, str]] = []

    def run_deployment(self, name: str, **options: Any) -> Any:
        self.asked = {"name": name} | options
        return self.run

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_flow_run_state(self, run: Any, state: Any) -> None:
        self.told.append((run, state.type.value))


def final(name: str, message: str | None = None) -> Any:
    return SimpleNamespace(name=name, message=message, is_final=lambda: name not in ("Running", "Pending"))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Server, Made]]:
    """`start(state)`: what the server is asked and told when a variant's run is in this state at the end."""

    def call(state: Any, store_named: bool = True) -> tuple[Server, Made]:
        server = Server(state)
        monkeypatch.setattr(module, "deployment", SimpleNamespace(id=str(uuid4())))
        monkeypatch.setattr(module, "run_deployment", server.run_deployment)
        monkeypatch.setattr(module, "get_client", lambda **_: server)
        return server, make_variant_task.fn("v", OptimizeParameters(model="m", store="/here"), 7200, store_named)

    return call


def test_on_a_server_a_variant_is_a_run_of_its_own(start: Any) -> None:
    server, made = start(final("Failed", "a gate"))
    assert made == Made(str(server.run.id), "Failed: a gate")
    assert server.told == []
    assert server.asked["name"] == "optimize/optimize"
    assert server.asked["timeout"] == 7200
    assert server.asked["tags"] == ["variant:v"]
    assert OptimizeParameters.model_validate(server.asked["parameters"]["parameters"]).model == "m"


def test_without_a_server_a_variant_is_tagged_as_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tagged: list[set[str]] = []

    def optimize(_: OptimizeParameters, *, return_state: bool) -> Any:
        assert return_state
        tagged.append(set(TagsContext.get().current_tags))
        return SimpleNamespace(name="Completed", message=None, state_details=SimpleNamespace(flow_run_id="id"))

    monkeypatch.setattr(module, "optimize", optimize)
    assert make_variant_task.fn("v", OptimizeParameters(model="m"), 7200, True) == Made("id", "Completed")
    assert tagged == [{"variant:v"}]


@pytest.mark.parametrize("named", [True, False])
def test_a_worker_uses_its_own_store_unless_the_night_was_told_which(start: Any, named: bool) -> None:
    server, _ = start(final("Completed"), named)
    assert server.asked["parameters"]["parameters"].get("store") == ("/here" if named else None)


def test_a_night_that_was_not_told_a_store_names_none(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_STORE", str(night.store.root))
    release, told = night.release("new"), []
    monkeypatch.setattr(night, "run_optimize", lambda *arguments: told.append(arguments[3]) or explode())
    night.variant("v", lambda: release)
    with pytest.raises(VariantsFailed):
        nightly.fn(NightlyParameters())
    assert told == [False]


@pytest.mark.parametrize("state", [None, final("Running"), final("Pending")], ids=["none", "running", "pending"])
def test_a_run_that_takes_too_long_is_cancelled_and_says_so(start: Any, state: Any) -> None:
    server, made = start(state)
    assert made == Made(str(server.run.id), "not done within 2 h, and cancelled")
    assert server.told == [(server.run.id, "CANCELLING")]


# --- a night that made nothing ---------------------------------------------------------------------------------------


def test_an_empty_folder_fails_the_night(night: Night) -> None:
    with refusal(ConfigError, "variants"):
        night.run()


def test_a_night_whose_variants_are_all_refused_or_fail_has_made_nothing(night: Night) -> None:
    night.variants.append(BadVariant("typo", ConfigError("wrong")))
    night.variant("shop", lambda: None)
    with refusal(VariantsFailed, "variants"):
        night.run()
    rejected = night.release("bad", FAILED)
    night.variant("worse", lambda: rejected)
    with refusal(VariantsFailed, "variants"):
        night.run()


def test_other_files_of_the_folder_are_named_in_the_log(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shop.yamll").touch()
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))
    night.variant_that_is_known("a", night.release("1"))
    night.run()
    assert "only .yaml and .yml files are variants: shop.yamll" in caplog.text
