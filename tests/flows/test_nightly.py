"""The nightly run: the unchanged costs nothing, the bad fails alone, and aliases move only on passing gates."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
import yaml

from artifacts.errors import ClipsmithError, ConfigError, VariantsFailed
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import aliases
from artifacts.store.store import Store
from flows import nightly as module
from flows.nightly import NightlyParameters, nightly
from flows.variants import BadVariant, Schedule, Variant, by_schedule, read_variants
from tasks.quantizing.recipe import load_recipe
from tasks.search.choice import Choice
from tasks.search.recipe_file import chosen, write_recipe
from tasks.search.units import Unit
from tests.flows.conftest import small_parameters, spied

Write = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of variants, which the flow reads."""
    path = tmp_path / "variants"
    path.mkdir()
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(path))
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Where the store and the model of a test are."""
    return tmp_path


@pytest.fixture
def model(shared: Path, small_clip: Path) -> Path:
    """A copy of the small model that a test may change."""
    return Path(shutil.copytree(small_clip, shared / "small"))


@pytest.fixture
def write(folder: Path, model: Path, tmp_path: Path) -> Write:
    """`write("a", promote="production", latency__rounds=6)` writes the variant `a`."""

    def call(name: str, *, promote: str | None = None, **changes: Any) -> None:
        parameters = small_parameters(model, tmp_path, **changes)
        del parameters["store"]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"promote": promote, "parameters": parameters}))

    return call


@pytest.fixture
def night(shared: Path) -> Iterator[Callable[..., tuple[dict[str, Any], list[str]]]]:
    """`night()`: what became of each variant, and the steps whose work was done."""

    def call(*names: str) -> tuple[dict[str, Any], list[str]]:
        parameters = NightlyParameters(variants=list(names), at_once=1, store=str(shared / "store"))
        with spied() as calls:
            outcomes = nightly(parameters)
        return {outcome.variant: outcome for outcome in outcomes}, calls

    yield call


def names_of_runs(tag: str) -> set[str]:
    """The names of the runs with this tag."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    with get_client(sync_client=True) as client:
        return {
            run.name for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
        }


@pytest.mark.heavy
def test_what_has_not_changed_is_not_made_again_and_what_is_bad_fails_alone(
    write: Write, night: Any, folder: Path, shared: Path, model: Path
) -> None:
    good = f"good-{uuid4().hex[:8]}"  # Prefect still knows the runs of other tests, and of sessions before
    write(good)
    first, work = night()
    assert (first[good].result, first[good].release) == ("released", "small@1")
    assert names_of_runs(f"variant:{good}") == {f"{good}: small@1 fp8"}
    assert work != []

    (folder / "typo.yaml").write_text("parameter: {}\n")
    (folder / "missing.yaml").write_text(
        f"parameters: {{model: {shared / 'nothing'}, calibration: {{source: digits}}}}\n"
    )
    with pytest.raises(VariantsFailed) as failure, spied() as work:
        nightly(NightlyParameters(at_once=1, store=str(shared / "store")))
    assert work == []
    message = str(failure.value)
    assert "2 of 3 variants failed: missing, typo" in message
    assert "parameter: Extra inputs are not permitted" in message
    assert "missing: no model" in message
    assert [release.ref for release in Store.open(shared / "store").releases()] == ["small@1"]

    # The same bytes elsewhere are no change; one other byte of the checkpoint is.
    (model / "preprocessor_config.json").touch()
    assert night(good)[0][good].result == "unchanged"
    config = model / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    changed, work = night(good)
    assert changed[good].result == "released"
    assert "check" in work
    assert "trace image" not in work, "only what depends on the tokenizer is done again"


@pytest.mark.heavy
def test_a_variant_takes_the_recipe_of_a_search_and_is_made_again_when_that_changes(
    write: Write, night: Any, shared: Path
) -> None:
    """The recipe leaves one layer in FP16 and scales another's weight by channel, as a search may."""
    left, finer = (Unit("image", f"vision_model.encoder.layers.{n}.mlp.fc1", "linear", 1, {}) for n in (0, 1))
    file, start = shared / "found.yaml", load_recipe("fp8-compact")
    write_recipe(chosen(start, Choice(frozenset({left}))), file, "found")
    write("searched", recipe=str(file))
    assert night()[0]["searched"].release == "small@1"
    assert night()[0]["searched"].result == "unchanged"
    write_recipe(chosen(start, Choice(frozenset({left}), frozenset({finer}))), file, "found")
    assert night()[0]["searched"].release == "small@2"
    store = Store.open(shared / "store", writable=False)
    rows = pq.read_table(store.read(store.find("small@2"), "tables/coverage.parquet")).to_pylist()
    precisions = {row["module"]: row["actual"] for row in rows if row["precision"] == "fp8" and row["kind"] == "linear"}
    assert [module for module, actual in precisions.items() if actual == "fp16"] == [left.module]
    assert precisions[finer.module] == "fp8"


@pytest.mark.heavy
def test_an_alias_moves_only_when_all_gates_pass_and_never_back_to_what_was_rolled_back(
    write: Write, night: Any, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = {"gates": {"min_cosine_mean": 0.01, "max_size_ratio": None}}
    write("kept", promote="production", gates={"min_cosine_mean": 0.99999, "max_size_ratio": None})
    with pytest.raises(VariantsFailed, match=r"kept: small@\d+ rejected"):
        night("kept")
    store = Store.open(shared / "store")
    with pytest.raises(ClipsmithError, match="no alias"):
        aliases.history(store.root, "small", "production")

    write("kept", promote="production", **loose)
    outcome = night("kept")[0]["kept"]
    assert outcome.result == "released"
    assert outcome.held.startswith("no gate on accuracy is set")
    monkeypatch.setattr(module, "why_not", lambda *_: None)  # a model of random weights is at chance
    outcome = night("kept")[0]["kept"]
    assert outcome.result == "promoted"
    assert store.find("small:production").ref == outcome.release

    newer = outcome.release
    promote(store, "small@1", "production", force=True, why="a test")
    assert night("kept")[0]["kept"].result == "unchanged", "a person's decision stands"
    assert store.find("small:production").ref == "small@1"
    rollback(store, "small", "production")
    assert store.find("small:production").ref == newer


@pytest.mark.heavy
def test_a_variant_has_its_image_size(write: Write, shared: Path) -> None:
    write("sized", image_size=[64, 64])
    with pytest.raises(VariantsFailed, match="has one of its own: 32 x 32"):
        nightly(NightlyParameters(at_once=1, store=str(shared / "store")))


@pytest.mark.parametrize(
    ("variants", "name"),
    [
        ([], "nightly all variants"),
        (["b", "a"], "nightly b, a"),
        (list("edcba"), "nightly e, d, c, b, a"),
        (list("fedcba"), "nightly f, e, d, c, b, ..."),
        (["a\x1b[31m"], "nightly a\\x1b[31m"),
    ],
)
def test_a_night_is_named_after_its_variants(variants: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"parameters": NightlyParameters(variants=variants)}
    monkeypatch.setattr(module, "flow_run", SimpleNamespace(parameters=given))
    assert module._run_name() == name
    assert nightly.flow_run_name is module._run_name


def test_a_name_that_no_variant_has_is_refused(write: Write, night: Any) -> None:
    write("good")
    with pytest.raises(ConfigError, match="no variant god"):
        night("god")


def test_variants_share_a_schedule_or_have_their_own(folder: Path) -> None:
    (folder / "a.yaml").write_text("parameters: {model: demo}\n")
    (folder / "b.yaml").write_text('schedule: {cron: "30 4 * * 1", timezone: Europe/Berlin}\n')
    (folder / "c.yaml").write_text("{}\n")
    (folder / "d.yaml").write_text("schedule: {cron: at noon}\n")
    found = read_variants(folder)
    assert [type(variant) for variant in found] == [Variant, Variant, Variant, BadVariant]
    assert by_schedule(found) == {
        Schedule(): ["a", "c", "d"],
        Schedule(cron="30 4 * * 1", timezone="Europe/Berlin"): ["b"],
    }


def test_the_packaged_variants_are_sound() -> None:
    from flows.variants import variants_folder

    found = read_variants(variants_folder())
    assert [variant.name for variant in found if isinstance(variant, Variant)] == ["demo"]
    assert len(found) == 1
