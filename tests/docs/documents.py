"""What each command prints with `--json`, as data: its keys, their types, units and meaning.

`docs/json.md` is made from this, and a test holds real documents to it. Where a document is a model or a dataclass, the
types are read from its annotations, and only the words stand here. Nothing at run time reads this module.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from artifacts.copies.replica import Copied
from artifacts.manifest import Cell, DataSource, GateResult, Manifest, Provenance, ReleaseFile, Row, Source
from artifacts.models import Complaint
from artifacts.release import fastest
from artifacts.release.measurements import Measurement
from artifacts.store.aliases import AliasEntry
from artifacts.store.garbage import Collected
from artifacts.store.signatures import SignatureRecord
from artifacts.store.verification import Problem, Verification
from deployments.printing.show_doctor import Check
from tasks.bench.evidence import Evidence, FallBack, Layer
from tasks.bench.layers import LayerRow
from tasks.bench.report import BenchReport, BenchRow, EncoderEvidence, Machine
from tasks.bench.stability import Stability
from tasks.inspection.holdings import (
    ClassCount,
    ClassFacts,
    Copy,
    Holdings,
    LeftOut,
    Overlap,
    PictureFacts,
    Refusal,
    Repeated,
    Skipped,
    Spread,
    Unlisted,
)
from tasks.pipeline.outline import Outline, Tower
from tasks.prefect_ui.nightly_summary import Outcome

Scalar = Literal["string", "integer", "number", "boolean", "object", "any"]


@dataclass(frozen=True)
class Choice:
    """One of these words."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Many:
    """A list of `of`, or an object whose keys are names and whose values are `of`."""

    kind: Literal["list", "map"]
    of: Type


@dataclass(frozen=True)
class Fixed:
    """A list with so many entries, each of its own type."""

    of: tuple[Type, ...]


@dataclass(frozen=True)
class Key:
    """One key of an object. `nullable`: its value may be null; `optional`: the key may be left out."""

    name: str
    type: Type
    about: str
    unit: str = ""
    nullable: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Part:
    """An object with known keys, under the name that the page has it by."""

    name: str
    about: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Rows:
    """The rows of a release's tables; without a table, the tables by their names. `artifacts.schema` says the rest."""

    table: str | None = None


Type = Scalar | Choice | Many | Fixed | Part | Rows


@dataclass(frozen=True)
class Document:
    """What a command prints, and when its exit code is not 0 but a document is printed all the same."""

    part: Part
    also: str = ""


_SCALARS: dict[Any, Scalar] = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any"}
_PARTS: dict[type, Part] = {}
"""The parts that are made of a class, by the class."""
Words = Mapping[str, str | tuple[str, str]]
"""Per field what it means or, as a pair, what it means and its unit."""


def _type(annotation: Any) -> tuple[Type, bool]:
    """The type that an annotation stands for, and whether None is allowed."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if annotation == Cell:
        return "any", True
    if origin in (Union, types.UnionType):
        known = [each for each in inner if each is not type(None)]
        assert len(known) == 1, annotation
        return _type(known[0])[0], len(known) < len(inner)
    return _plain(annotation, origin, inner), False


def _plain(annotation: Any, origin: Any, inner: Sequence[Any]) -> Type:
    if origin is Literal:
        return Choice(tuple(inner)) if isinstance(inner[0], str) else "integer"
    if origin is dict:
        return "object" if inner[1] is Any else Many("map", _type(inner[1])[0])
    if origin is tuple and inner[-1] is not Ellipsis:
        return Fixed(tuple(_type(each)[0] for each in inner))
    if origin in (tuple, list):
        return Many("list", _type(inner[0])[0])
    return _PARTS[annotation] if annotation in _PARTS else _SCALARS[annotation]


def _annotations(cls: type) -> dict[str, Any]:
    if issubclass(cls, BaseModel):
        return {name: Annotated[field.annotation, field] for name, field in cls.model_fields.items()}
    assert is_dataclass(cls)
    return get_type_hints(cls, localns={"Row": Row, "Cell": Cell})


def _keys(
    cls: type, words: Words, *, optional: Iterable[str] = (), typed: Mapping[str, Type] | None = None
) -> tuple[Key, ...]:
    """The keys that `words` speaks of, in its order, as the class has them; `typed` where the annotation says less."""
    hints = _annotations(cls)
    found = []
    for name, word in words.items():
        about, unit = word if isinstance(word, tuple) else (word, "")
        known, nullable = (typed[name], False) if typed and name in typed else _type(hints[name])
        found.append(Key(name, known, about, unit, nullable, name in set(optional)))
    return tuple(found)


def _part(name: str, about: str, cls: type, words: Words, **more: Any) -> Part:
    """The whole of a class: a field that `words` does not have, or the other way round, is an error."""
    surplus = sorted(_annotations(cls).keys() ^ words.keys())
    assert not surplus, f"{cls.__name__}: {', '.join(surplus)}"
    _PARTS[cls] = Part(name, about, _keys(cls, words, **more))
    return _PARTS[cls]


ERROR = Part(
    "error",
    "What a command refuses, or what failed. Standard error says the same.",
    (
        Key("class", "string", "the error's in `artifacts/errors.py`, `UsageError`, or one that nobody expected"),
        Key("what", "string", "what is wrong"),
        Key("where", "string", "where that is", nullable=True),
        Key("expected", "string", "what was expected", nullable=True),
        Key("fix", "string", "what to do", nullable=True),
    ),
)
ERROR_DOCUMENT = Document(
    Part(
        "document of an error",
        "",
        (Key("error", ERROR, "what went wrong"),),
    ),
    "Of every command that ends with another [exit code](exit-codes.md) than 0 and prints no document of its own: it "
    "alone has the key `error`. `UsageError` is what was typed wrong. Ctrl-C, and an output that takes nothing, leave "
    "no document.",
)
FORECAST = Document(
    Part(
        "forecast",
        "",
        (
            Key(
                "steps",
                Many(
                    "list",
                    Part(
                        "planned step",
                        "A step that a run would take.",
                        (
                            Key("step", "string", "its name, and what tells it from others of the name"),
                            Key("cached", "boolean", "whether it is in the cache"),
                            Key("seconds", "number", "how long it took in the last run", "s", nullable=True),
                        ),
                    ),
                ),
                "in their order",
            ),
            Key("seconds", "number", "how long what is not in the cache took in it, together", "s", nullable=True),
            Key("times_of", "string", "that run's release; null where there is none", nullable=True),
            Key("needed_bytes", "integer", "room that is asked for; null where weights are not here", nullable=True),
            Key("free_bytes", "integer", "room that there is on the store's disk"),
        ),
    ),
    "Nothing is started or changed.",
)
_REF = Key("ref", "string", "the release, as `model@version`")
_NEW = Key("new", "boolean", "false where the same release was there already")

GATE = _part(
    "gate result",
    "What one gate found on one row of the tables.",
    GateResult,
    {
        "name": "the gate, as in the parameters' `gates`",
        "status": "`undecided`: the bound lies inside the interval",
        "min": "the bound, where it is a least one, in the metric's unit",
        "max": "the bound, where it is a largest one",
        "metric": "what was judged",
        "encoder": "of which encoder",
        "target": "on which target",
        "reference": "what the metric's fall is counted from, where it is the fall that is judged",
        "value": "what was measured; null where there was nothing to judge",
        "low": "lower end of its 95 % interval",
        "high": "upper end of its 95 % interval",
        "samples": "how many samples the interval rests on; left out where there is none",
        "needed": "how many samples would probably decide an undecided gate; left out where none would",
    },
    optional=("samples", "needed"),
)
FILE = _part(
    "file",
    "One file of a release. What it does not belong to is null in the manifest, and left out of what commands print.",
    ReleaseFile,
    {
        "path": "its place in an exported folder",
        "kind": "what it is, for people",
        "object": "sha256 that names the object of the store that holds it",
        "member": "its place in that object",
        "sha256": "of its bytes",
        "size": ("", "bytes"),
        "encoder": "which encoder it belongs to",
        "precision": "which precision",
        "target": "which engine target",
        "content": "sha256 that stands for it in the identity, where that is not `sha256`; left out where it is",
    },
    optional=("encoder", "precision", "target", "content"),
)
_part(
    "source",
    "The checkpoint that a release was made from.",
    Source,
    {
        "kind": "where it came from; `published`: exported by clipsmith",
        "name": "as it was given",
        "revision": "the hub's commit or, of a folder, the digest",
        "digest": "sha256 over names and contents of its files",
        "weights": "sha256 of each file of weights, by its name",
        "family": "the family of models",
    },
)
_part(
    "data of a run",
    "A set of samples that was used.",
    DataSource,
    {
        "source": "as it was given",
        "digest": "sha256 over names and contents of the samples",
        "samples": "how many were used",
        "skipped": "how many could not be decoded",
        "truncated": "how many texts were longer than the context",
        "notes": "what else is odd about the set, a sentence each; left out where there is nothing",
    },
    optional=("notes",),
)
PROVENANCE = _part(
    "provenance",
    "Everything that touched a release.",
    Provenance,
    {
        "source": "the checkpoint",
        "calibration": "what it was calibrated on; null without FP8",
        "evaluation": "what accuracy was measured on",
        "recipe": "name of the recipe",
        "recipe_digest": "sha256 of its content",
        "recipe_content": "the recipe itself; null without FP8",
        "parameters": "the parameters of the run, as on the page of parameters",
        "packages": "versions, by the package's name",
        "device": "the machine's processor (`cpu`) and how many `cores` it has",
        "code": "version of clipsmith, and its commit in a checkout; `-dirty` with changes",
        "parents": "identities of the releases that its checkpoint came from",
    },
)
MANIFEST = _part(
    "manifest",
    "`manifest.json` of an exported folder, and the file of a release in the store.",
    Manifest,
    {
        "format": "1; another number is another form of this file",
        "model": "name of the model in the store",
        "version": "counts up per model, from 1, and is never used again",
        "sequence": "counts up over all models of the store",
        "created": ("when, in UTC", "ISO 8601"),
        "identity": "sha256 of inputs, files and results: equal work has an equal identity",
        "identity_version": "2: what `identity` is made of; left out where it is 1, of releases before",
        "provenance": "everything that touched it",
        "files": "every file",
        "tables": "everything that was measured",
        "gates": "what the gates found; left out where there were none",
    },
    optional=("identity_version", "gates"),
    typed={"tables": Rows()},
)
MANIFEST = Part(
    MANIFEST.name,
    MANIFEST.about,
    (*MANIFEST.keys, Key("digest", "string", "sha256 of the canonical JSON of all other keys")),
)

SUMMARY = Part(
    "summary",
    "A release in a line.",
    (
        _REF,
        *_keys(
            Manifest,
            {
                "model": "name of the model",
                "version": "counts up per model",
                "sequence": "counts up over all models of the store",
                "identity": "sha256 of what the release is",
                "created": ("when, in UTC", "ISO 8601"),
            },
        ),
        Key("status", Choice(("accepted", "rejected")), "what the gates make of it"),
        Key("gates", Many("map", "integer"), "how many gate results there are, by their status"),
        Key("recipe", "string", "name of the recipe"),
        Key("source", "string", "the checkpoint, as it was given"),
        Key("revision", "string", "the hub's commit or, of a folder, its digest"),
        Key("bytes", "integer", "size of all files", "bytes"),
        Key("fp8_ratio", "number", "FP8's ONNX files over FP16's, of encoders with both", "fraction", nullable=True),
        Key("speedup", "number", "the best that was measured, FP8 over FP16", "ratio", nullable=True),
    ),
)
SIGNATURE = Part(
    "signature",
    "What is recorded of a signature: claims, until `check-signature` has checked it.",
    _keys(
        SignatureRecord,
        {
            "number": "counts up per release, from 1",
            "who": "who signed, as the machine knew them",
            "created": ("when, in UTC", "ISO 8601"),
        },
    ),
)
_RELEASE = (
    _REF,
    Key("release", SUMMARY, "the release in a line"),
    Key("status", Choice(("accepted", "rejected")), "what the gates make of it"),
    Key("gates", Many("list", GATE), "what the gates found"),
    Key("artifacts", Many("list", FILE), "every file"),
    Key("tables", Rows(), "everything that was measured"),
    Key("provenance", PROVENANCE, "everything that touched it"),
)
PRECISION = _part(
    "precision",
    "What to run a release in, for one target.",
    fastest.Choice,
    {
        "target": "the runtime",
        "precision": "what the release measured as fastest there; the default where it measured nothing",
        "reason": "why, in words",
    },
)
MOVE = Part(
    "move",
    "One move of an alias.",
    (
        _REF,
        *_keys(
            AliasEntry,
            {
                "model": "name of the model",
                "alias": "name of the alias",
                "number": "counts up per alias, from 1",
                "action": "which command moved it",
                "version": "the release's version",
                "manifest": "sha256 of the release's manifest",
                "who": "who moved it, as the machine knew them",
                "why": "what was given as the reason",
                "forced": "whether the release was rejected and the move forced",
                "created": ("when, in UTC", "ISO 8601"),
            },
        ),
    ),
)
_MOVED = Part(
    "promotion",
    "",
    (
        Key("moved", "boolean", "false where the alias pointed there already"),
        Key("before", MOVE, "the move that counted before; null where there was none", nullable=True),
        Key("after", MOVE, "the move that counts now"),
    ),
)
_COPY = Part(
    "copy",
    "",
    (
        _REF,
        *_keys(
            Copied,
            {
                "files": "files that were copied",
                "bytes": ("their size", "bytes"),
                "skipped_files": "files that were there already",
                "skipped_bytes": ("their size", "bytes"),
                "release": "whether the release was new where it went",
                "signatures": "how many signatures were new there",
            },
        ),
    ),
)
_SIGNED = Part("signed", "", (_REF, *SIGNATURE.keys))
PROBLEM = Part(
    "problem",
    "One thing in a store that is not what was written.",
    (
        *_keys(
            Problem,
            {
                "kind": "what is wrong",
                "where": "its path below the store",
                "what": "in a sentence",
                "object": "digest of the object that has the problem; null for records",
                "releases": "the releases it belongs to",
            },
        ),
        Key("next", "string", "what to do about it"),
    ),
)
_VERIFIED = Part(
    "verification",
    "",
    (
        Key("sound", "boolean", "whether there is no problem, after a repair"),
        Key("problems", Many("list", PROBLEM), "what is left of them"),
        *_keys(
            Verification,
            {
                "releases": "releases looked at",
                "objects": "objects looked at",
                "bytes": ("what was hashed", "bytes"),
                "seconds": ("how long it took", "s"),
            },
        ),
        Key("restored", Many("list", "string"), "with --repair: objects that are whole again", optional=True),
        Key("quarantined", Many("list", "string"), "with --repair: what was set aside", optional=True),
    ),
)
_COLLECTED = Part(
    "collection",
    "",
    (
        Key("dry_run", "boolean", "true: nothing was removed, the rest says what would be"),
        *_keys(
            Collected,
            {
                "releases": "releases that were retired",
                "objects": "digests of objects that went",
                "leftovers": "paths of what dead processes had left, and of cached results that no run can use",
                "bytes": ("what that freed", "bytes"),
            },
        ),
    ),
)
_FIGURE_KEYS: Words = {
    "value": "the figure, in its unit",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "unit": "`bytes`, `fraction` (of 1), `ratio`, `dB`, `ms`, ...; empty for what has none",
    "target": "which target it was measured on",
}
FIGURE = Part("figure", "A number of a release's history.", _keys(Measurement, _FIGURE_KEYS))
_POINT = Part(
    "point",
    "One release of a history.",
    (
        _REF,
        Key("version", "integer", "its version"),
        Key("created", "string", "when, in UTC", "ISO 8601"),
        Key("status", Choice(("accepted", "rejected")), "what the gates make of it"),
        Key("figures", Many("map", FIGURE), "those that it has, by name: `onnx fp8`, `ratio`, `top1 fp8`, ..."),
    ),
)
_SIDE = Part(
    "side",
    "A number on one side of a comparison.",
    _keys(Measurement, {name: _FIGURE_KEYS[name] for name in ("value", "low", "high")}),
)
_METRIC = Part(
    "difference",
    "A number that is not the same in two releases.",
    (
        *_keys(
            Measurement,
            {
                "table": "the table it is in",
                "encoder": "which encoder",
                "target": "which target",
                "precision": "which precision",
                "reference": "what it is compared with",
                "metric": "the column, with what else says which number: `batch 8 median_ms`",
                "unit": _FIGURE_KEYS["unit"],
            },
        ),
        Key("before", _SIDE, "null where that release has no such number", nullable=True),
        Key("after", _SIDE, "likewise", nullable=True),
        Key("change", "number", "after minus before, in the unit; null where a side is", nullable=True),
    ),
)
_CHANGE = Part(
    "change",
    "A thing other than a number that is not the same in two releases.",
    (
        Key("name", "string", "what it is"),
        Key("before", "any", "null where that release has no such thing", nullable=True),
        Key("after", "any", "likewise", nullable=True),
    ),
)
_TRIAL = Part(
    "trial",
    "A recipe that was evaluated.",
    (
        Key("fp8_share", "number", "of the matrix work, how much is in FP8", "fraction"),
        Key("cosine_mean", "number", "mean cosine with FP32, of the encoder where it is least"),
        Key("excluded", Many("list", "string"), "modules left in FP16"),
        Key("by_channel", Many("list", "string"), "modules whose weights have a scale for each output channel"),
        Key("passed", "boolean", "whether it meets the gates"),
        Key("gates", Many("list", GATE), "what the gates found"),
    ),
)
_SENSITIVITY = Part(
    "sensitivity",
    "What one module alone in FP8 costs.",
    (
        Key("encoder", Choice(("image", "text")), "which encoder"),
        Key("module", "string", "module of the checkpoint"),
        Key("kind", "string", "as in the table `coverage`"),
        Key("flops", "integer", "operations of its matrix products for one sample"),
        Key("loss", "number", "mean of 1 - cosine with FP32"),
        Key("snr_db", "number", "signal to noise of the embeddings; null where it is infinite", "dB", nullable=True),
    ),
)
_part(
    "tower",
    "One encoder of a checkpoint.",
    Tower,
    {
        "encoder": "which",
        "inputs": "shape of each input by its name, without the batch",
        "layers": "transformer blocks",
        "hidden_size": "width of a block",
        "heads": "attention heads per block",
        "embedding_dim": "length of the embedding",
        "parameters": "weights and biases",
        "linear": "linear layers",
        "linear_fp8": "of these, how many the recipe makes FP8",
        "attention": "attention products",
        "attention_fp8": "of these, how many the recipe makes FP8",
    },
)
_OUTLINE = _part(
    "outline",
    "",
    Outline,
    {
        "model": "what the store would call it",
        "kind": "where it comes from, as `source.kind` of the provenance",
        "family": "the family of models",
        "towers": "its encoders",
        "tokenizer": "class of the tokenizer",
        "vocabulary": ("", "tokens"),
        "context": ("longest text", "tokens"),
        "image_processor": "class of the image processor",
        "oracle": "what a run, or the tests, hold it to: transformers or golden files",
        "recipe": "what is to become FP8",
        "weights": "names of the files that hold the weights, here or at the hub; none where the hub does not answer",
        "tensors": "how many tensors of weights were found and fit; null where the weights are not here",
        "notes": "what else is worth knowing, in sentences",
    },
)
_part(
    "spread",
    "How some numbers are spread.",
    Spread,
    {"min": "the smallest", "median": "the middle one", "max": "the largest"},
)
_part("class count", "A class.", ClassCount, {"name": "as it is filled into prompts", "samples": "how many it has"})
_part(
    "class facts",
    "The classes of a source.",
    ClassFacts,
    {
        "published": "whether the names are a list that comes with the set; otherwise they are a user's labels",
        "templates": "how many prompt templates there are",
        "counts": "in the order of the classes",
        "alike": "groups of names that differ in case, Unicode form or white space alone, or not at all",
    },
)
_part(
    "stored pictures",
    "What the headers of files say that can be read.",
    PictureFacts,
    {
        "width": ("before any turn that EXIF asks for", "pixels"),
        "height": ("the same", "pixels"),
        "modes": "how many pictures of each of Pillow's modes, as `RGB` or `I;16`",
        "formats": "how many of each file format; `none`: pictures that the source makes itself",
    },
)
_part(
    "copy",
    "A picture that is there more than once.",
    Copy,
    {"sample": "its id", "label": "its class; null without classes"},
)
_part(
    "repeated pictures",
    "Pictures whose stored bytes are the same.",
    Repeated,
    {
        "groups": "how many different pictures",
        "pictures": "how many pictures these are in all",
        "first": "the first few groups, and of each the first few",
    },
)
_part(
    "sample left out",
    "A sample that cannot be decoded.",
    LeftOut,
    {"sample": "its id", "why": "the reason, as a run says it"},
)
_part(
    "samples left out",
    "What a run would leave out.",
    Skipped,
    {"samples": "how many samples", "first": "the first few"},
)
_part(
    "unlisted files",
    "Picture files of a folder that are in no sample.",
    Unlisted,
    {"files": "how many", "first": "the first few, relative to the folder"},
)
_part(
    "overlap",
    "Pictures that another source has too.",
    Overlap,
    {
        "source": "the other source, as it was opened",
        "samples": "how many samples of the first have such a picture",
        "others": "how many samples the other source has",
        "first": "the first few, by their ids here and there",
    },
)
_part(
    "refusal",
    "Why a run would end before anything is computed.",
    Refusal,
    {
        "source": "which source is refused, as it was asked for",
        "error": "name of the error",
        "what": "what is wrong",
        "where": "where that is",
        "expected": "what was expected",
        "fix": "what to do",
    },
)
_HOLDINGS = _part(
    "data",
    "",
    Holdings,
    {
        "source": "as it was asked for",
        "role": "what it would be used for",
        "limit": "the most samples that were asked for; null for all",
        "refusals": "every reason for which a run would refuse it; empty where a run takes it",
        "files": "how many files of each suffix lie in the folder; null where the source is not a folder",
        "place": "as it was opened; null where it is refused when it is opened, and then so is all that follows",
        "samples": "how many",
        "pictures": "how many; several captions of one picture are samples of one picture",
        "captions": "how many samples to a picture; null without samples",
        "classes": "null for a set of captions",
        "stored": "null where no header can be read",
        "repeated": "pictures that are there more than once",
        "two_labels": "those of them that are under several classes",
        "skipped": "samples that cannot be decoded, as far as headers tell",
        "unlisted": "null where that is not known: with a limit, or where the source is not a folder",
        "overlap": "null without another source",
        "notes": "what a source says of itself that is odd without being wrong, in sentences",
        "page": "path of the contact sheet; null where none was written",
    },
)
_FAMILY = Part(
    "family",
    "A family of models.",
    (
        Key("family", "string", "its name"),
        Key("covers", "string", "whose checkpoints"),
        Key("held_to", "string", "what embeddings are compared with"),
        Key("for_example", Many("list", "string"), "published models of it"),
    ),
)

_WHY_NOT = "the reason; null where there is none"
_TARGET = Part(
    "target",
    "An engine target, and how it stands on this machine.",
    (
        Key("target", "string", "its name"),
        Key("about", "string", "what runs its engines, and on what"),
        Key("builds", "boolean", "whether this installation builds engines of it"),
        Key("why_not_build", "string", _WHY_NOT, nullable=True),
        Key("runs", "boolean", "whether this machine runs them"),
        Key("why_not_run", "string", _WHY_NOT, nullable=True),
        Key("why_no_fp8", "string", "why its GPUs have no FP8 arithmetic; null where they have", nullable=True),
    ),
)
_CHECK = _part(
    "look",
    "What was looked at, and what is to be done about it.",
    Check,
    {
        "name": "what was looked at",
        "ok": "whether it is as it should be",
        "found": "what was found",
        "needed": "whether `clipsmith optimize` needs it",
        "next": "what to do; null where there is nothing",
    },
)
_CHECKED = Part(
    "checked file",
    "A file of a variant.",
    (
        Key("file", "string", "as it was given"),
        Key(
            "complaints",
            Many(
                "list",
                _part(
                    "complaint",
                    "What is wrong with a key, or its value.",
                    Complaint,
                    {
                        "key": "as `calibration.samples`; empty where no single one is wrong",
                        "what": "what is wrong",
                        "valid": "of a key that there is not, those that there are",
                        "nearest": "one of these that is like it; null where none is",
                        "expected": "what was expected; null where `what` or `valid` says it",
                        "fix": "what to do; null likewise",
                    },
                ),
            ),
            "everything that is wrong; empty where nothing is",
        ),
    ),
)
_OUTCOME = _part(
    "outcome",
    "What became of a variant.",
    Outcome,
    {
        "variant": "its name",
        "result": "what was done",
        "release": "its release, as `model@version`; null where there is none",
        "production": "what its alias pointed to before; null likewise",
        "error": "why there is no release; null where there is one",
        "figures": "of its release",
        "before": "of what its alias pointed to before",
        "alarms": "where it is worse than its history, in sentences",
        "why": "why it was made in this night; empty where it was not",
        "held": "why its alias was not moved to it; empty where it was, or where there is none",
    },
)
_RECIPE = Part(
    "built-in recipe",
    "A recipe that comes with clipsmith.",
    (
        Key("recipe", "string", "its name"),
        Key("about", "string", "what becomes FP8"),
        Key("file", "string", "path of its YAML file, to copy"),
        Key("digest", "string", "of what it does"),
    ),
)
_GATE_KIND = Part(
    "kind of gate",
    "A gate that a release can be held to.",
    (
        Key("name", "string", "its name"),
        Key("holds", "string", "what is judged"),
        Key("side", Choice(("at least", "at most")), "which side of the bound is good"),
        Key("unit", "string", "of the bound"),
        Key("needs", "string", "what a run needs for it to be judged"),
        Key("default", "number", "the bound unless given; null: not judged", nullable=True),
        Key("key", "string", "in parameters; null for a gate that comes with others", nullable=True),
    ),
)

_part(
    "machine",
    "Where a bench was run.",
    Machine,
    {
        "gpu": "null where there is none",
        "capability": "as `sm90`",
        "driver": "its version",
        "python": "version",
        "torch": "version",
        "cuda": "version that PyTorch was built for",
        "fp16_flops": ("products in FP16, measured here", "1/s"),
        "fp8_flops": ("products in FP8, measured here", "1/s"),
        "bandwidth": ("of the GPU's memory, measured here", "bytes/s"),
    },
)
_part(
    "bench row",
    "One encoder, precision, target and batch size. What was not measured is null.",
    BenchRow,
    {
        "encoder": "image or text",
        "precision": "fp16 or fp8",
        "target": "what ran it",
        "batch": "samples per call",
        "status": "`invalid`: measured on a GPU that was busy or throttled; `note` says more",
        "median_ms": ("half of the calls are faster", "ms"),
        "p95_ms": ("95 % of the calls are faster", "ms"),
        "p99_ms": ("99 % of the calls are faster", "ms"),
        "throughput": ("samples per second", "1/s"),
        "runs": "timed calls",
        "steady": "whether the times had become steady before they counted",
        "speedup": ("over the FP16 row of the same target", "ratio"),
        "speedup_low": ("lower end of its 95 % interval", "ratio"),
        "speedup_high": ("upper end of its 95 % interval", "ratio"),
        "end_to_end_ms": ("with copies from and to pinned host memory", "ms"),
        "clock_mhz": ("while timing", "MHz"),
        "temperature_c": ("while timing", "°C"),
        "power_w": ("while timing", "W"),
        "gflops": ("operations of one call", "10^9"),
        "limit_ms": ("the least that the card's rates allow", "ms"),
        "limit_share": ("what was reached of it", "fraction"),
        "cosine": "the least, row by row, with the same file computed node by node",
        "fp8_gemm_share": ("of the matrix products' time, how much ran in FP8", "fraction"),
        "fp8_attention_share": ("of attention's", "fraction"),
        "fp8_verdict": "the gate's, of an FP8 row that was timed; all but `passed` make the exit code 3",
        "build_command": "of an engine: builds it, in the exported folder",
        "run_command": "of an engine: times it",
        "note": "why it was not measured, or what a reader must know",
    },
)
_part(
    "fallback",
    "A product that the graph quantizes and that was computed in FP16.",
    FallBack,
    {"module": "whose product", "reason": "why"},
)
_part(
    "layer",
    "A product and its time.",
    Layer,
    {"module": "whose product", "microseconds": ("its kernel's time", "µs")},
)
_part(
    "evidence",
    "Where the time of one run went.",
    Evidence,
    {
        "gemm": ("matrix products", "µs"),
        "attention": ("attention", "µs"),
        "other": ("all else", "µs"),
        "fp8_gemm_share": ("of the products, how much ran in FP8; null where nothing tells", "fraction"),
        "fp8_attention_share": ("of attention", "fraction"),
        "fallen_back": "what the graph quantizes and ran in FP16",
        "layers": "empty where kernels could not be told apart",
        "kernels": "the most expensive: name, launches, microseconds",
        "source": "what tells the precision",
        "weighed_by": "what shares are of",
        "unfused_attention": "modules whose attention is no single kernel",
        "doubt": "why nothing tells the precision",
    },
)
_part(
    "bench evidence",
    "The evidence of one encoder, precision, target and batch size.",
    EncoderEvidence,
    {
        "encoder": "image or text",
        "precision": "fp16 or fp8",
        "target": "what ran it",
        "batch": "samples per call",
        "evidence": "where its time went",
    },
)
_part(
    "layer row",
    "One product or attention in both precisions.",
    LayerRow,
    {
        "encoder": "image or text",
        "target": "what ran it",
        "batch": "samples per call",
        "module": "module of the checkpoint",
        "fp16_us": ("its time in FP16; null where it is computed together with another", "µs"),
        "fp8_us": ("its time in FP8", "µs"),
        "ratio": ("FP16's time over FP8's", "ratio"),
        "fell_back": "why it was not computed in FP8; null where it was",
    },
)
_part(
    "stability",
    "Whether an encoder gives the same bits again.",
    Stability,
    {
        "encoder": "image or text",
        "target": "what ran it",
        "precision": "fp16 or fp8",
        "compared": "what was done otherwise than in the first run",
        "runs": "how many runs were compared with the first",
        "elements": "numbers of the embeddings",
        "differing": "of these, how many differ in at least one run",
        "max_abs": "by how much at most",
    },
)
_BENCH = _part(
    "bench",
    "",
    BenchReport,
    {
        "folder": "the release, or the model that was asked for",
        "machine": "where it was measured",
        "command": "the command line",
        "rows": "what was timed, and why the rest was not",
        "evidence": "where the time went",
        "layers": "FP8 beside FP16, layer by layer",
        "accuracy": "rows as in the table `accuracy`",
        "stability": "whether the bits are the same again",
        "unscored": "why accuracy was not measured",
        "min_fp8_share": ("what was asked of FP8 rows", "fraction"),
        "format": "2; another number says that a key means something else",
    },
    typed={"accuracy": Rows("accuracy")},
)


def _document(command: str, *keys: Key, also: str = "") -> Document:
    return Document(Part(command, "", keys), also)


_REJECTED = "With exit code 3, a rejected release, it is printed all the same."
DOCUMENTS: Mapping[str, Document] = {
    "optimize": _document("optimize", *_RELEASE, _NEW, also=_REJECTED),
    "check": Document(_OUTLINE),
    "models": _document("models", Key("families", Many("list", _FAMILY), "in the order in which they are tried")),
    "data": Document(_HOLDINGS, "With exit code 2, a source that a run would refuse, it is printed all the same."),
    "search": _document(
        "search",
        Key("recipe", "string", "path of the recipe that was written"),
        Key("plot", "string", "path of the plot"),
        Key("best", _TRIAL, "the recipe that was written"),
        Key("everything", _TRIAL, "the recipe that it started from, nothing left in FP16"),
        Key("evaluations", "integer", "how many recipes were evaluated"),
        Key("auto_quantize", Many("list", _TRIAL), "what ModelOpt's own search tried; empty without --compare"),
        Key("front", Many("list", _TRIAL), "recipes that no other one beats in both FP8's share and fidelity"),
        Key("sensitivity", Many("list", _SENSITIVITY), "what each module alone costs"),
    ),
    "targets": _document("targets", Key("targets", Many("list", _TARGET), "in the order of the registry")),
    "recipes": _document("recipes", Key("recipes", Many("list", _RECIPE), "the built-in ones, by name")),
    "gates": _document("gates", Key("gates", Many("list", _GATE_KIND), "every gate; the last comes with others")),
    "init": _document(
        "init", Key("file", "string", "path of what was written"), Key("like", "string", "the example that it is")
    ),
    "variants check": _document(
        "variants check",
        Key("sound", "boolean", "whether nothing is wrong"),
        Key("files", Many("list", _CHECKED), "in the order in which they were given"),
        also="With exit code 2, where something is wrong, it is printed all the same.",
    ),
    "nightly": _document(
        "nightly",
        Key("outcomes", Many("list", _OUTCOME), "in the order of the variants' names"),
        also="With exit code 1, where a variant failed, it is printed all the same.",
    ),
    "doctor": _document(
        "doctor",
        Key("able", "boolean", "whether `clipsmith optimize` can run here"),
        Key("checks", Many("list", _CHECK), "in the order in which they were made"),
        also="With exit code 1, a machine that cannot, it is printed all the same.",
    ),
    "releases": _document(
        "releases",
        Key(
            "releases",
            Many(
                "list",
                Part(
                    "listed release",
                    "A release in a line, and its aliases.",
                    (
                        *SUMMARY.keys,
                        Key("aliases", Many("list", "string"), "those that point to it"),
                    ),
                ),
            ),
            "newest first",
        ),
        Key("damaged", Many("list", "string"), "paths of manifests that cannot be read"),
        also="Where something is damaged, it is printed all the same, and the exit code is 1.",
    ),
    "show": _document(
        "show",
        *_RELEASE,
        Key("aliases", Many("list", "string"), "those that point to it"),
        Key("signatures", Many("list", SIGNATURE), "who says to have signed it"),
    ),
    "history": _document(
        "history",
        Key("model", "string", "name of the model"),
        Key("releases", Many("list", _POINT), "oldest first"),
        Key("table", "string", "path of the Parquet file with every number"),
        Key("plot", "string", "path of the plot"),
        also="Where a manifest is damaged, the others' are printed, and the exit code is 1.",
    ),
    "report": _document(
        "report",
        _REF,
        Key("report", "string", "path of the HTML report"),
        Key("opened", "boolean", "whether a browser was started with it"),
    ),
    "diff": _document(
        "diff",
        Key("before", "string", "the first release, as `model@version`"),
        Key("after", "string", "the second"),
        Key("changes", Many("map", Many("list", _CHANGE)), "by subject: `packages`, `recipe`, `files`, ..."),
        Key("metrics", Many("list", _METRIC), "every number that is not the same"),
    ),
    "judge": _document(
        "judge",
        _REF,
        Key("accepted", "boolean", "whether no gate rejects it"),
        Key("basis", Choice(("embeddings", "tables")), "what was judged: accuracy scored again, or as it was written"),
        Key("gates", Many("list", GATE), "what the gates found"),
        also="With exit code 3, gates that are not passed, it is printed all the same.",
    ),
    "bench": Document(_BENCH, "With exit code 3, FP8 that is not proven, it is printed all the same."),
    "promote": Document(_MOVED),
    "rollback": Document(_MOVED),
    "aliases": _document(
        "aliases",
        Key("aliases", Many("list", MOVE), "the move that counts of each alias; with --history every move"),
        also="Where an alias is damaged, the others' are printed, and the exit code is 1.",
    ),
    "sign": Document(_SIGNED),
    "check-signature": Document(_SIGNED),
    "verify": Document(_VERIFIED, "Where there is a problem, it is printed all the same, and the exit code is 1."),
    "gc": Document(_COLLECTED),
    "pack": _document(
        "pack",
        _REF,
        Key("file", "string", "path of the archive"),
        Key("bytes", "integer", "its size", "bytes"),
    ),
    "unpack": _document("unpack", _REF, _NEW),
    "push": Document(_COPY),
    "pull": Document(_COPY),
    "export": _document(
        "export",
        _REF,
        Key("folder", "string", "path of the folder"),
        Key("files", Many("list", "string"), "what was written, relative to it"),
        Key("precisions", Many("list", PRECISION), "what to run it in, by target"),
    ),
}
"""By command, in the order of the help."""
