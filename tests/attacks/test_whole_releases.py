"""Releases whose every digest is right and that are not what they say: none comes in, and what is derived is ours."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import places
from artifacts.copies import exporting
from artifacts.copies.archive import unpack
from artifacts.copies.opening import open_store
from artifacts.copies.replica import pull, push
from artifacts.errors import ClipsmithError, ReleaseDiffers, TableError
from artifacts.keeping import render
from artifacts.keeping.promotion import promote
from artifacts.manifest import Manifest
from artifacts.release.identity import identity_of, pickle_content
from artifacts.store import layout
from artifacts.store.release_check import came, check_release
from artifacts.store.store import BUCKET_VARIABLE, Store
from artifacts.store.verification import verify
from tasks.serving.release_scripts import derive
from tests.artifacts.support import add, digest, key_pair, make_release, sealed
from tests.attacks.forging import planted
from tests.attacks.whole import changed, edited, embeddings, npy, pack, parquet, state, whole

FP8, STATE = "image/fp8.onnx", "checkpoint/modelopt_state.pth"
PICKLE = b"cos\nsystem\n(S'touch /tmp/pickle-ran'\ntR."


@dataclass(frozen=True)
class Forgery:
    """Files with other bytes, fields with other values; `sealed` ones also get the identity that follows."""

    name: str
    why: str
    message: str
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    edit: Callable[[dict[str, Any]], object] = lambda _: None
    sealed: bool = True

    def make(self, store: Store, manifest: Manifest) -> Manifest:
        """The forged release; its objects are in the store."""
        forged = edited(changed(store, manifest, self.files), self.edit)
        return sealed(forged) if self.sealed else forged


def _row(table: str, index: int, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["tables"][table][index].update(values)


def _gate(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["gates"][0].update(values)


def _file(path: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    def edit(content: dict[str, Any]) -> None:
        next(file for file in content["files"] if file["path"] == path).update(values)

    return edit


def _page_of(size: bytes) -> bytes:
    """A table whose first page says another size unpacked, as a zigzag varint."""
    data = bytearray(parquet(id=["a"], label=[1]))
    # Of the first header: type 0 or 2, then field 2, the size unpacked, a varint of one byte.
    assert data[6] == 0x15 and data[7] < 0x7E
    return bytes(data[:7]) + size + bytes(data[8:])


def _rewritten(text: str = "a", count: int = 1, **options: Any) -> bytes:
    """A table that says the same text `count` times; in memory here it is there once."""
    import io

    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet as arrow

    out = io.BytesIO()
    column = pa.array([text])
    if count > 1:
        column = pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), column)
    arrow.write_table(pa.table({"id": column}), out, store_schema=False, **options)
    return out.getvalue()


def _npy_of(shape: str, descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(128)


NPY = "evidence/embeddings-image-fp8-onnxruntime/embeddings.npy"
KEYS = "evidence/embeddings-image-fp8-onnxruntime/keys.json"
SAMPLES = "evidence/evaluation/samples.parquet"
DETAILS = "evidence/task_details.json"
NO_FILE: dict[str, bytes | None] = {"tables/accuracy.parquet": None}
"""The table as a file would tell."""
FORGERIES = (
    # --- the identity of another ------------------------------------------------------------------------------------
    Forgery(
        "other-graph",
        "Other bytes of a graph under a known identity.",
        "identity|a size",
        {FP8: b"EVIL!!"},
        sealed=False,
    ),
    Forgery(
        "other-weights", "The same with weights.", "identity", {"checkpoint/model.safetensors": b"evil"}, sealed=False
    ),
    Forgery(
        "pickle",
        "A pickle that runs a command, under the content of the one that was there.",
        "pickle of another content",
        {STATE: PICKLE},
        sealed=False,
    ),
    Forgery(
        "pickle-in-a-zip",
        "The same in torch's format.",
        "pickle of another content",
        {STATE: state(1, 2, "b")},
        sealed=False,
    ),
    Forgery(
        "pickle-of-no-content",
        "The same as if it never had a content.",
        "identity",
        {STATE: PICKLE},
        _file(STATE, content=None),
        sealed=False,
    ),
    Forgery(
        "identity-of-nothing",
        "An identity that no contents have.",
        "identity",
        edit=lambda c: c.update(identity="b" * 64),
        sealed=False,
    ),
    Forgery(
        "first-version",
        "The rule of before, which has no say over a release of the new one.",
        "identity|content",
        edit=lambda c: c.update(identity_version=1),
        sealed=False,
    ),
    Forgery(
        "other-source",
        "Another checkpoint.",
        "identity",
        edit=lambda c: c["provenance"]["source"].update(digest="e" * 64),
        sealed=False,
    ),
    Forgery(
        "other-data",
        "Another evaluation set.",
        "identity",
        edit=lambda c: c["provenance"]["evaluation"].update(digest="e" * 64),
        sealed=False,
    ),
    Forgery("swapped-labels", "FP16 called FP8.", "identity|a size", edit=_file(FP8, precision="fp16"), sealed=False),
    Forgery(
        "content-of-a-graph",
        "A content of one's own would let any bytes have the identity of others.",
        "content of its own",
        edit=_file(FP8, content="a" * 64),
    ),
    Forgery(
        "graph-called-a-log",
        "What builders log is not part of the identity, so a graph must not be called a log.",
        "not in the place of a file of kind build-log",
        edit=_file(FP8, kind="build-log"),
    ),
    Forgery("graph-called-a-report", "The same with what is derived.", "kind report", edit=_file(FP8, kind="report")),
    Forgery(
        "graph-called-latencies", "The same with what is timed.", "kind latencies", edit=_file(FP8, kind="latencies")
    ),
    # --- results ----------------------------------------------------------------------------------------------------
    Forgery(
        "recipe",
        "A recipe whose digest is another's.",
        "recipe",
        edit=lambda c: c["provenance"]["recipe_content"].update(quantize={}),
    ),
    Forgery("size", "A file that is smaller in the table than it is.", "a size", edit=_row("sizes", 1, bytes=3)),
    Forgery("size-of-nothing", "A file that is not there.", "a size", edit=_row("sizes", 1, target="tensorrt")),
    Forgery("ratio", "Half the size it has.", "the ratio", edit=_row("sizes", 1, vs_fp16=0.1)),
    Forgery("cosine", "A mean that its samples do not have.", "gate|cosine_mean", edit=_row("accuracy", 0, value=1.0)),
    Forgery(
        "cosine-and-gate",
        "The same, and the gate judged by it.",
        "cosine_mean",
        NO_FILE,
        lambda c: (_row("accuracy", 0, value=1.0)(c), _gate(value=1.0)(c)),
    ),
    Forgery(
        "cosines",
        "The samples too; the embeddings say otherwise.",
        "cosines of image fp8",
        NO_FILE | {"evidence/cosines.json": b'{"image fp8 onnxruntime": [1.0, 1.0, 1.0, 1.0]}'},
        lambda c: [_row("accuracy", n, value=1.0)(c) for n in (0, 1)] + [_gate(value=1.0)(c)],
    ),
    Forgery("embeddings", "Other embeddings than were judged.", "cosines of image fp8", {NPY: npy(embeddings(0.5))}),
    Forgery(
        "fewer-samples",
        "Of a hundred samples four were kept.",
        "cosine_mean",
        NO_FILE,
        _row("accuracy", 0, samples=100),
    ),
    Forgery("gate-passed", "A bound that it does not meet.", "gate", edit=_gate(min=0.999999)),
    Forgery("gate-missing", "The gate that it failed is left out.", "gate", edit=lambda c: c["gates"].pop()),
    Forgery(
        "gate-added",
        "One more, met by nothing.",
        "gate",
        edit=lambda c: c["gates"].append(c["gates"][0] | {"name": "max_top1_drop"}),
    ),
    Forgery(
        "gate-without-bounds",
        "Without the bounds among the parameters a result is still held to the tables.",
        "said to have passed",
        edit=lambda c: (c["provenance"].update(parameters={}), _gate(value=0.9999)(c)),
    ),
    # --- what is derived --------------------------------------------------------------------------------------------
    Forgery("second-page", "A page beside the report.", "no run writes", {"report.md": b"# 100 %"}),
    Forgery("plot", "A drawing with a script.", "no run writes", {"plots/sizes.svg": b"<svg onload='x'/>"}),
    Forgery("readme", "What people open first.", "no run writes", {"READ.ME.md": b"run me"}),
    Forgery("script", "A script among the graphs.", "no run writes", {"image/build.SH": b"rm"}),
    Forgery("script-among-scripts", "A script that is no run's.", "no run writes|kind", {"scripts/x/evil.sh": b"rm"}),
    Forgery("module", "Python imports what lies beside it.", "no run writes", {"checkpoint/torch.py": b"x"}),
    Forgery(
        "table-of-other-rows",
        "A table as a file says more than the manifest.",
        "another than in the manifest",
        {"tables/stages.parquet": None},
    ),
    Forgery("table-as-text", "A table in another form.", "of no table", {"tables/accuracy.csv": b"top1\n1.0\n"}),
    # --- files that lie about their size ----------------------------------------------------------------------------
    Forgery(
        "page",
        "A page of a Parquet file that says it takes a gigabyte.",
        "holds more|cannot be read",
        {SAMPLES: _page_of(b"\x80\x80\x80\x80\x08")},
    ),
    Forgery(
        "page-of-more",
        "A page that says it takes 63 bytes, more than its column.",
        "holds more",
        {SAMPLES: _page_of(b"\x7e")},
    ),
    Forgery(
        "dictionary",
        "A text of ten thousand characters once, named by a million rows: ten gigabytes where they are written out.",
        "its texts take more",
        {SAMPLES: _rewritten(text="x" * 10_000, count=1_000_000)},
    ),
    Forgery(
        "prefixes",
        "Texts that are told by how much of the one before they repeat.",
        "the encoding DELTA_BYTE_ARRAY",
        {SAMPLES: _rewritten(use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY"})},
    ),
    Forgery(
        "rows-of-an-array", "A header that says 10^12 rows.", "not what it holds", {NPY: _npy_of("(1000000000000, 8)")}
    ),
    Forgery("objects-in-an-array", "Objects are pickles.", "it holds object", {NPY: _npy_of("(4, 8)", "|O")}),
    Forgery("array-below-zero", "A shape below zero.", "dimensions", {NPY: _npy_of("(-1, -32)")}),
    Forgery("deep-header", "A header that is nested deep.", "cannot be read", {NPY: _npy_of("(" * 300 + ")" * 300)}),
    Forgery("not-an-array", "No array.", "cannot be read", {NPY: b"x" * 200}),
    Forgery("keys", "Keys that are neither indices nor texts.", "evidence", {KEYS: b"[[0], 1, 2, 3]"}),
    Forgery(
        "deep-keys", "A hundred thousand lists in each other.", "evidence", {KEYS: b"[" * 100_000 + b"]" * 100_000}
    ),
    Forgery(
        "infinite-cosine",
        "1e999 is infinite.",
        "evidence",
        {"evidence/cosines.json": b'{"image fp8 onnxruntime": [1e999]}'},
    ),
    Forgery(
        "many-classes",
        "A recall beyond 1.",
        "evidence",
        {DETAILS: json.dumps({"classes": [{"target": "x", "class": "a", "samples": 1, "fp8": 9.0}]}).encode()},
    ),
    Forgery("unknown-details", "What no page shows.", "evidence", {DETAILS: b'{"script": []}'}),
    Forgery(
        "odd-changed",
        "A sample that lacks what the page shows.",
        "evidence",
        {DETAILS: b'{"changed": [{"sample": "a"}]}'},
    ),
    Forgery(
        "details-twice",
        "Of two lists one reader takes the first.",
        "evidence",
        {DETAILS: b'{"alike": [], "alike": []}'},
    ),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    """Where the genuine release comes from, and where forgeries are made."""
    return whole(tmp_path_factory.mktemp("source") / "store")


@pytest.fixture(scope="module")
def trying(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store into which nothing gets."""
    return Store.open(tmp_path_factory.mktemp("trying") / "store")


@pytest.fixture
def victim(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "victim")
    make_release(store, "good", digest("good"), add(store))
    return store


def forge(forgery: Forgery, source: tuple[Store, Manifest]) -> Manifest:
    if forgery.name == "table-of-other-rows":
        rows = parquet(step=["evil"], encoder=["x"], precision=["x"], target=["x"], wall_s=[0.0], peak_rss_mb=[0.0])
        return sealed(changed(*source, {"tables/stages.parquet": rows}))
    return forgery.make(*source)


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_no_archive_brings_it_in(
    forgery: Forgery, source: tuple[Store, Manifest], trying: Store, tmp_path: Path
) -> None:
    with pytest.raises((ReleaseDiffers, TableError)) as caught:
        unpack(trying, pack(source[0], forge(forgery, source), tmp_path / "forged.tar"))
    told = f"{caught.value.what} {caught.value.where}"
    assert any(word in told for word in forgery.message.split("|")), told
    assert len(caught.value.what) < 500 and "\n" not in caught.value.what
    assert trying.summaries() == ([], [])


def test_the_genuine_one_comes_in_by_every_door_and_is_itself(
    source: tuple[Store, Manifest], victim: Store, tmp_path: Path
) -> None:
    store, manifest = source
    assert unpack(victim, pack(store, manifest, tmp_path / "a.tar")) == (manifest, True)
    assert came(victim, manifest) and not came(store, manifest)
    push(store, manifest, str(tmp_path / "copy"))
    other = Store.open(tmp_path / "other")
    assert pull(other, manifest.identity[:12], str(tmp_path / "copy"))[0] == manifest
    assert promote(other, "evil@1", "production").moved
    assert verify(other.root).problems == verify(victim.root).problems == ()
    check_release(other, manifest)
    # One that has left its store and comes back was published there.
    assert pull(store, "evil@1", str(tmp_path / "copy"))[1].nothing
    assert not came(store, manifest)


def test_a_copy_and_a_bucket_do_not_bring_it_in(
    source: tuple[Store, Manifest], victim: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = source
    forged = FORGERIES[1].make(store, manifest)
    push(store, manifest, str(tmp_path / "copy"))
    planted(tmp_path / "copy", forged.to_bytes())
    with pytest.raises(ReleaseDiffers, match="identity"):
        pull(victim, "evil@1", str(tmp_path / "copy"))
    monkeypatch.setenv(BUCKET_VARIABLE, str(tmp_path / "bucket"))
    one = open_store(tmp_path / "one")
    planted(tmp_path / "bucket", forged.to_bytes())
    one.refresh()
    assert one.summaries()[0] == []


def test_one_that_lies_in_the_store_is_told_and_not_vouched_for(tmp_path: Path, clipsmith: Callable[..., Any]) -> None:
    """Put there by another program, with all its objects."""
    store, manifest = whole(tmp_path / "store")
    planted(store.root, FORGERIES[1].make(store, manifest).to_bytes())
    forged = store.find("evil@1")
    for act in (
        lambda: promote(store, "evil@1", "production"),
        lambda: exporting.export(store, forged, tmp_path / "out"),
    ):
        with pytest.raises(ReleaseDiffers, match="identity"):
            act()
    assert not (tmp_path / "out").exists()
    told = clipsmith("sign", "evil@1", "--key", key_pair(tmp_path)[0], "--store", store.root)
    assert told.code == 1 and "identity" in told.err
    assert any("identity" in problem.what for problem in verify(store.root).problems)


def test_what_is_derived_is_made_here(source: tuple[Store, Manifest], victim: Store, tmp_path: Path) -> None:
    """Pages and scripts of a sender are never shown nor exported, whatever their digests."""
    store, manifest = source
    theirs = {"report.html": b"<script>alert(1)</script>", "scripts/optimize.sh": b"rm -rf /"}
    forged = changed(store, manifest, theirs)
    assert identity_of(forged) == manifest.identity  # so it is the same release to whoever looks
    unpack(victim, pack(store, forged, tmp_path / "a.tar"))
    genuine = store.read(manifest, places.REPORT).read_bytes()
    assert render.report_path(victim, forged).read_bytes() == genuine
    assert render.report_path(victim, forged).is_relative_to(victim.root / layout.REPORTS)
    exporting.export(victim, forged, tmp_path / "out", derive)
    assert (tmp_path / "out" / "report.html").read_bytes() == genuine
    assert b"rm -rf" not in (tmp_path / "out" / "scripts" / "optimize.sh").read_bytes()
    assert (tmp_path / "out" / "tables" / "sizes.parquet").is_file()
    exporting.export(victim, forged, tmp_path / "bare")
    assert not (tmp_path / "bare" / "report.html").exists() and not (tmp_path / "bare" / "scripts").exists()


def test_what_was_timed_and_a_pickles_order_are_not_part_of_it(source: tuple[Store, Manifest]) -> None:
    store, manifest = source
    log, times = "evidence/build-image-fp8-onnxruntime/build.log", "evidence/latency-image-onnxruntime/latencies.json"
    other = changed(store, manifest, {log: b"built in 9 s", times: b"{}"})
    assert identity_of(other) == manifest.identity
    assert identity_of(edited(manifest, _row("stages", 0, wall_s=9.0))) == manifest.identity
    assert identity_of(edited(manifest, _row("accuracy", 0, value=0.5))) != manifest.identity


def test_the_content_of_a_pickle(tmp_path: Path) -> None:
    def content(data: bytes) -> str | None:
        (tmp_path / "state.pth").write_bytes(data)
        return pickle_content(tmp_path / "state.pth")

    assert content(state(1, 2, "a")) == content(state("a", 1, 2)) != content(state(1, 2, "b"))
    for odd in (b"", PICKLE, pickle.dumps([1]), state(1)[:-30], bytes(9 << 20)):
        assert content(odd) is None


def test_arrays_of_ours_are_let_through(tmp_path: Path) -> None:
    from artifacts import array_files

    for dtype in (np.float16, np.float32):
        np.save(tmp_path / "a.npy", np.zeros((3, 2), dtype))
        array_files.check(tmp_path / "a.npy", "a")


def test_errors_are_told_in_a_line(source: tuple[Store, Manifest]) -> None:
    forged = FORGERIES[0].make(*source)
    with pytest.raises(ClipsmithError) as caught:
        check_release(source[0], forged)
    assert caught.value.expected and caught.value.fix
