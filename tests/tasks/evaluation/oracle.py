"""What a drawn data set has to give, by brute force: loops over Python's own numbers, straight from what was drawn.

Nothing is read from disk, and nothing of ours is called but the stand-in encoder: an embedding here is that of a
picture's colours, which are told by hand, or of a text's words.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from artifacts.errors import DataError, DegenerateData, SameAsBaseline, TooFewSamples
from tasks.data.templates import DEFAULT_TEMPLATES
from tests.tasks.evaluation.drawn_sets import ALIKE, DrawnSet, Picture
from tests.tasks.evaluation.stand_in import image_content, text_content, tokens, vector

PRECISIONS = ("fp32", "fp16", "fp8")
PAIRS = (("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16"))
NEAR = 2e-6
"""Scores that are closer, but not equal, may come in another order in FP32."""

Vector = tuple[float, ...]


class Unsure(Exception):
    """Rounding in FP32 may decide another way than the exact scores do."""


class Asked(NamedTuple):
    """A picture that is judged: the id of its first sample, the picture, its class and its captions."""

    id: str
    picture: Picture
    label: int
    captions: tuple[str, ...]


class Refusal(NamedTuple):
    """An error, some of its words, and pairs of labels of which it has to name one."""

    error: type[Exception]
    words: str
    pairs: list[tuple[str, str]] = []  # noqa: RUF012


class _Sample(NamedTuple):
    id: str
    shown: object  # the same for samples that show one picture
    picture: Picture
    caption: str
    label: int


@dataclass
class Truth:
    """A drawn set as a reader should understand it."""

    drawn: DrawnSet
    names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    samples: list[_Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        drawn = self.drawn
        self.templates = drawn.templates or DEFAULT_TEMPLATES
        if not drawn.labelled:
            self.names = ()
        elif drawn.layout == "folder":
            self.names = tuple(sorted({drawn.names[row.label].strip() for row in drawn.rows}))
        elif drawn.layout == "webdataset":
            self.names = tuple(name.strip() for name in drawn.names)
        else:
            self.names = drawn.names
        self.samples = list(self._samples())

    def _samples(self) -> Iterator[_Sample]:
        drawn, seen = self.drawn, set()
        for number, row in enumerate(drawn.rows):
            label = self._label(row.label)
            captions = dict.fromkeys(row.captions) if drawn.captioned else [self.prompts(label)[0]]
            for place, caption in enumerate(captions):
                key = (row.file if drawn.layout == "folder" else number, caption)
                if key in seen:
                    continue
                seen.add(key)
                name = {"folder": drawn.file(row.file), "webdataset": f"s{number:07d}", "datasets": str(number)}
                first = place == 0 and (drawn.layout != "folder" or sum(k[0] == row.file for k in seen) == 1)
                shown = drawn.pictures[row.file] if not drawn.labelled else key[0]
                yield _Sample(name[drawn.layout] if first else "", shown, drawn.pictures[row.file], caption, label)

    def _label(self, place: int) -> int:
        """The class as it counts: by its place among the names, of a folder's labels sorted."""
        if self.drawn.labelled and self.drawn.layout == "folder":
            return self.names.index(self.drawn.names[place].strip())
        return place

    def prompts(self, label: int) -> list[str]:
        """Of one class, under every template."""
        return [template.replace("{}", self.names[label]) for template in self.templates]

    @property
    def texts(self) -> list[str]:
        """All that the text encoder is asked for."""
        prompts = [prompt for label in range(len(self.names)) for prompt in self.prompts(label)]
        return list(dict.fromkeys([*prompts, *(sample.caption for sample in self.samples)]))

    @property
    def asked(self) -> list[Asked]:
        """Each picture once: of a labelled set each file or row, else each different file."""
        found: dict[object, list[_Sample]] = {}
        for sample in self.samples:
            found.setdefault(sample.shown, []).append(sample)
        return [
            Asked(group[0].id, group[0].picture, group[0].label, tuple(dict.fromkeys(s.caption for s in group)))
            for group in found.values()
        ]

    @property
    def hashes(self) -> list[str]:
        """Of every sample's file."""
        return [hashlib.sha256(sample.picture.encoded()).hexdigest() for sample in self.samples]

    def refusal(self) -> Refusal | None:
        """How the set has to end before anything is embedded."""
        drawn = self.drawn
        labels: dict[int, set[str]] = {}
        if drawn.labelled and drawn.layout == "folder":
            for row in drawn.rows:
                labels.setdefault(row.file, set()).add(drawn.names[row.label].strip())
            if any(len(found) > 1 for found in labels.values()):
                return Refusal(DataError, "has two labels")
            if self._read_alike():
                return Refusal(DataError, "differ only in case, Unicode form or white space", self._read_alike())
        if len(self.samples) < 8:
            return Refusal(TooFewSamples, f"only {len(self.samples)} of 8")
        captions = {sample.caption for sample in self.samples}
        if len({sample.picture for sample in self.samples}) == 1 or (not drawn.labelled and len(captions) == 1):
            return Refusal(DegenerateData, "identical")
        if drawn.labelled and len({sample.label for sample in self.samples}) == 1:
            return Refusal(DegenerateData, "of one class")
        if drawn.layout == "folder" and self._same_tokens():
            return Refusal(DataError, "are the same tokens", self._same_tokens())
        return None

    def _read_alike(self) -> list[tuple[str, str]]:
        groups = [[name for name in self.names if name in group] for group in ALIKE]
        return [(one, other) for group in groups for one in group for other in group if one != other]

    def _same_tokens(self) -> list[tuple[str, str]]:
        """Names that no template tells apart."""
        found: dict[tuple[tuple[str, ...], ...], list[str]] = {}
        for label, name in enumerate(self.names):
            found.setdefault(tuple(tokens(text, self.drawn.kind) for text in self.prompts(label)), []).append(name)
        return [(one, other) for group in found.values() for one in group for other in group if one is not other]

    def vectors(self, encoder: str, precision: str) -> list[Vector]:
        """Of the pictures asked about or of all texts; FP32's of an encoder that is not optimized."""
        kind = self.drawn.kind
        contents = (
            [image_content(asked.picture.rgb()) for asked in self.asked]
            if encoder == "image"
            else [text_content(tokens(text, kind)) for text in self.texts]
        )
        used = precision if encoder in self.drawn.optimised else "fp32"
        return [tuple(vector(content, kind, used).tolist()) for content in contents]

    def same_as_baseline(self) -> type[Exception] | None:
        """The error of an FP8 encoder that is its FP16 baseline."""
        for encoder in self.drawn.optimised:
            if self.vectors(encoder, "fp8") == self.vectors(encoder, "fp16"):
                return SameAsBaseline
        return None


# --- scores ------------------------------------------------------------------------------------------------


@cache
def unit(row: Vector) -> Vector:
    """Scaled to length 1."""
    length = math.sqrt(math.fsum(x * x for x in row))
    return tuple(x / length for x in row)


@cache
def cosine(one: Vector, other: Vector) -> float:
    """The same number for the same vectors."""
    return math.fsum(x * y for x, y in zip(unit(one), unit(other), strict=True))


def mean_unit(rows: Sequence[Vector]) -> Vector:
    """The mean of unit vectors, scaled to length 1."""
    return unit(tuple(math.fsum(column) / len(rows) for column in zip(*map(unit, rows), strict=True)))


def order(scores: Sequence[float]) -> list[int]:
    """The places from the best score to the worst; of equal ones the first comes first."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))


def rank(scores: Sequence[float], right: set[int]) -> int:
    """How many come before the first right one."""
    best = max(scores[place] for place in right)
    if any(0 < abs(score - best) < NEAR for place, score in enumerate(scores) if place not in right):
        raise Unsure
    return next(number for number, place in enumerate(order(scores)) if place in right)


def spearman(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float | None:
    """The mean over the queries of the correlation of ranks; None where there is nothing to rank."""
    if min(map(len, first)) < 2:
        return None
    values = []
    for one, other in zip(first, second, strict=True):
        for scores in (one, other):
            if any(0 < b - a < NEAR for a, b in pairwise(sorted(scores))):
                raise Unsure
        ranks = [np.argsort(order(scores)) for scores in (one, other)]
        values.append(float(np.corrcoef(*ranks)[0, 1]))
    return sum(values) / len(values)


def neighbours(rows: Sequence[Vector]) -> list[list[float]]:
    """Each one's scores of all others."""
    return [[cosine(one, other) for j, other in enumerate(rows) if j != i] for i, one in enumerate(rows)]


# --- statistics --------------------------------------------------------------------------------------------


def sign_flip_p(changes: Sequence[int]) -> float:
    """The share of all ways to turn the signs of `changes` around whose sum is as far from 0, or farther."""
    ways: Counter[int] = Counter({0: 1})
    for change in filter(None, changes):
        turned: Counter[int] = Counter()
        for total, count in ways.items():
            turned[total + change] += count
            turned[total - change] += count
        ways = turned
    far = sum(count for total, count in ways.items() if abs(total) >= abs(sum(changes)))
    return float(Fraction(far, sum(ways.values())))


class Strata(NamedTuple):
    """Groups of samples that are drawn together, as (size, change of hits), and how much of half a group is added."""

    groups: list[tuple[int, int]]
    part: float


def bootstrap(strata: Sequence[Strata], rounds: int = 3000) -> np.ndarray:
    """Means of differences of samples drawn with replacement, group by group, on average over the strata."""
    rng, means = np.random.default_rng(77), np.zeros(rounds)
    for groups, part in strata:
        usual = sum(size for size, _ in groups) / len(groups)
        items = [*groups, (usual, -usual), (usual, 0.0), (usual, usual)]
        weights = np.array([1.0] * len(groups) + [0.5 * part, part, 0.5 * part])
        picked = rng.choice(len(items), size=(rounds, len(groups)), p=weights / weights.sum())
        drawn = np.array(items, dtype=np.float64)[picked].sum(axis=1)
        means += drawn[:, 1] / drawn[:, 0] / len(strata)
    return means


class Expected(NamedTuple):
    """A row of the accuracy table: its value (`ANY` where rounding decides), its samples, what its interval is."""

    value: float | None
    samples: int
    interval: tuple[float, float] | np.ndarray | None = None


ANY = float("nan")
Key = tuple[str, str, str, str, str]
"""Encoder, target, precision, reference, metric."""
_TARGET = "onnxruntime"


def _interval(strata: Sequence[Strata], same: bool) -> tuple[float, float] | np.ndarray:
    return (0.0, 0.0) if same else bootstrap(strata)


def over(hits: Sequence[bool], chance: float) -> tuple[float, float]:
    """The exact interval of a share, less chance."""
    from scipy.stats import beta

    n, k = len(hits), sum(hits)
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return low - chance, high - chance


# --- the accuracy table ------------------------------------------------------------------------------------


def accuracy_table(truth: Truth) -> dict[Key, Expected]:
    """Every row that a run reports.

    Raises:
        Unsure: rounding may make another table.
    """
    rows = dict(_fidelity(truth))
    judged = {
        precision: _Zero(truth, precision) if truth.names else _Found(truth, precision) for precision in PRECISIONS
    }
    for precision, side in judged.items():
        place = "pytorch" if precision == "fp32" else _TARGET
        for metric, hits in side.hits.items():
            rows["both", place, precision, side.reference, metric] = Expected(sum(hits) / len(hits), len(hits))
        rows |= {("both", place, precision, side.reference, name): row for name, row in side.more().items()}
    fp32 = judged["fp32"]
    rows |= fp32.about_fp32()
    for precision, baseline in PAIRS:
        one, other = judged[precision], judged[baseline]
        same = one.sides == other.sides
        pair = ("both", _TARGET, precision, baseline)
        for metric in one.compared():
            groups = one.groups(metric)
            changes = _changes(one.hits[metric], other.hits[metric], groups)
            value = sum(change for _, change in changes) / len(one.hits[metric])
            n = len(one.hits[metric])
            rows[*pair, f"{metric}_difference"] = Expected(value, n, _interval([Strata(changes, 1.0)], same))
            rows[*pair, f"{metric}_mcnemar_p"] = Expected(sign_flip_p([change for _, change in changes]), n)
        if isinstance(one, _Zero) and isinstance(other, _Zero):
            rows[*pair, "mean_class_recall_difference"] = _recall_difference(one, other, same)
        for metric, scores in one.ranked().items():
            rows[*pair, metric] = Expected(_or_any(scores, other.ranked()[metric]), len(scores))
    return rows


def _or_any(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float | None:
    try:
        return spearman(first, second)
    except Unsure:
        return ANY


def _changes(first: Sequence[bool], second: Sequence[bool], groups: Sequence[int]) -> list[tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for one, other, group in zip(first, second, groups, strict=True):
        size, change = found.get(group, (0, 0))
        found[group] = size + 1, change + one - other
    return list(found.values())


def _recall_difference(one: _Zero, other: _Zero, same: bool) -> Expected:
    labels, strata = one.labels, []
    for label in sorted(set(labels)):
        hits = [[h for h, own in zip(side.hits["top1"], labels, strict=True) if own == label] for side in (one, other)]
        strata.append([(1, int(a) - int(b)) for a, b in zip(*hits, strict=True)])
    value = sum(sum(change for _, change in part) / len(part) for part in strata) / len(strata)
    parts = [Strata(part, 1 / len(strata)) for part in strata]
    return Expected(value, len(labels), _interval(parts, same))


def _fidelity(truth: Truth) -> Iterator[tuple[Key, Expected]]:
    for encoder in truth.drawn.optimised:
        for precision, baseline in PAIRS:
            second, first = (truth.vectors(encoder, name) for name in (precision, baseline))
            n = len(second)
            cosines = [cosine(*pair) for pair in zip(first, second, strict=True)]
            gaps = [a - b for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)]
            noise, signal = math.fsum(gap * gap for gap in gaps), math.fsum(x * x for row in first for x in row)
            values = {
                "cosine_mean": math.fsum(cosines) / n,
                "cosine_min": min(cosines),
                "max_abs": max(map(abs, gaps)),
                "snr_db": 10 * math.log10(signal / noise) if noise else None,
                "nonfinite": 0,
                "rank_agreement": _or_any(neighbours(first), neighbours(second)),
            }
            for metric, value in values.items():
                yield (encoder, _TARGET, precision, baseline, metric), Expected(value, n)


class _Side:
    """One precision's embeddings of a set."""

    reference: str
    hits: dict[str, list[bool]]

    def __init__(self, truth: Truth, precision: str) -> None:
        self.truth, self.precision = truth, precision
        self.sides = [truth.vectors(encoder, precision) for encoder in ("image", "text")]
        self.pictures, texts = self.sides
        self.text = dict(zip(truth.texts, texts, strict=True))
        self.asked = truth.asked


class _Zero(_Side):
    """Zero-shot classification."""

    reference = "labels"

    def __init__(self, truth: Truth, precision: str) -> None:
        super().__init__(truth, precision)
        count = len(truth.names)
        self.labels = [asked.label for asked in self.asked]
        self.classes = [mean_unit([self.text[prompt] for prompt in truth.prompts(label)]) for label in range(count)]
        self.scores = [[cosine(picture, row) for row in self.classes] for picture in self.pictures]
        ranks = [rank(row, {label}) for row, label in zip(self.scores, self.labels, strict=True)]
        self.hits = {f"top{k}": [place < k for place in ranks] for k in (1, 5) if k < count}

    def recall(self, label: int) -> float | None:
        """None of a class without pictures."""
        hits = [hit for hit, own in zip(self.hits["top1"], self.labels, strict=True) if own == label]
        return sum(hits) / len(hits) if hits else None

    def more(self) -> dict[str, Expected]:
        recalls = [value for label in range(len(self.classes)) if (value := self.recall(label)) is not None]
        return {"mean_class_recall": Expected(sum(recalls) / len(recalls), len(self.labels))}

    def alike(self) -> list[list[str]]:
        """The names of classes of one embedding, in groups."""
        groups: dict[Vector, list[str]] = {}
        for row, name in zip(self.classes, self.truth.names, strict=True):
            groups.setdefault(row, []).append(name)
        return [group for group in groups.values() if len(group) > 1]

    def about_fp32(self) -> dict[Key, Expected]:
        found: dict[Key, Expected] = {}
        alike = sum(map(len, self.alike()))
        if alike:
            key = ("text", "pytorch", "fp32", "labels", "alike_classes")
            found[key] = Expected(alike, len(self.classes))
        n, predicted = len(self.labels), [order(row)[0] for row in self.scores]
        chance = sum(self.labels.count(label) * predicted.count(label) for label in set(self.labels)) / n**2
        value = sum(self.hits["top1"]) / n - chance
        found["both", "pytorch", "fp32", "chance", "top1_over_chance"] = Expected(
            value, n, over(self.hits["top1"], chance)
        )
        return found

    def compared(self) -> list[str]:
        return list(self.hits)

    def groups(self, metric: str) -> Sequence[int]:
        return range(len(self.hits[metric]))

    def ranked(self) -> dict[str, list[list[float]]]:
        return {"rank_agreement": self.scores}

    def right(self) -> list[set[int]]:
        return [{label} for label in self.labels]

    def answers(self) -> Sequence[str]:
        return self.truth.names


class _Found(_Side):
    """Retrieval: equal captions are one, and so are equal files."""

    reference = "captions"

    def __init__(self, truth: Truth, precision: str) -> None:
        super().__init__(truth, precision)
        self.captions = list(dict.fromkeys(sample.caption for sample in truth.samples))
        self.own = [{self.captions.index(caption) for caption in asked.captions} for asked in self.asked]
        rows = [self.text[caption] for caption in self.captions]
        self.scores = [[cosine(picture, row) for row in rows] for picture in self.pictures]
        self.hits = self._hits(self.scores, self.own)
        pairs = [(place, caption) for place, own in enumerate(self.own) for caption in sorted(own)]
        self._compared = list(self.hits)
        self.share = len(pairs) / (len(self.asked) * len(self.captions))
        if len(pairs) > len(self.captions):
            scores = [[row[caption] for _, caption in pairs] for row in self.scores]
            own = [{n for n, (place, _) in enumerate(pairs) if place == picture} for picture in range(len(self.asked))]
            self.hits |= {f"{metric}_each_caption": hits for metric, hits in self._hits(scores, own).items()}

    def _hits(self, scores: Sequence[Sequence[float]], own: Sequence[set[int]]) -> dict[str, list[bool]]:
        columns = [list(column) for column in zip(*scores, strict=True)]
        owners = [{place for place, mine in enumerate(own) if item in mine} for item in range(len(columns))]
        to_text = [rank(row, right) for row, right in zip(scores, own, strict=True)]
        to_image = [rank(column, right) for column, right in zip(columns, owners, strict=True)]
        found = {}
        for k in (1, 5, 10):
            if k < min(len(scores), len(columns)):
                found[f"recall@{k}_image_to_text"] = [place < k for place in to_text]
                found[f"recall@{k}_text_to_image"] = [place < k for place in to_image]
        return found

    def more(self) -> dict[str, Expected]:
        return {}

    def about_fp32(self) -> dict[Key, Expected]:
        hits = self.hits.get("recall@1_image_to_text")
        if hits is None:
            return {}
        value = sum(hits) / len(hits) - self.share
        key = ("both", "pytorch", "fp32", "chance", "recall@1_image_to_text_over_chance")
        return {key: Expected(value, len(hits), over(hits, self.share))}

    def compared(self) -> list[str]:
        return self._compared

    def groups(self, metric: str) -> Sequence[int]:
        """The captions of one picture together: of several pictures, the first."""
        if metric.endswith("image_to_text"):
            return range(len(self.asked))
        return [min(p for p, own in enumerate(self.own) if item in own) for item in range(len(self.captions))]

    def ranked(self) -> dict[str, list[list[float]]]:
        turned = [list(column) for column in zip(*self.scores, strict=True)]
        return {"rank_agreement_image_to_text": self.scores, "rank_agreement_text_to_image": turned}

    def right(self) -> list[set[int]]:
        return self.own

    def answers(self) -> Sequence[str]:
        return self.captions


# --- details -----------------------------------------------------------------------------------------------


def class_table(truth: Truth) -> list[Mapping[str, object]]:
    """A row for each class: its samples, and its recall in each precision."""
    if not truth.names:
        return []
    sides = {precision: _Zero(truth, precision) for precision in PRECISIONS}
    return [
        {
            "target": _TARGET,
            "class": name,
            "samples": sides["fp32"].labels.count(label),
            **{precision: side.recall(label) for precision, side in sides.items()},
        }
        for label, name in enumerate(truth.names)
    ]


def alike_groups(truth: Truth) -> list[list[str]]:
    """Names of classes that FP32 cannot tell apart."""
    return _Zero(truth, "fp32").alike() if truth.names else []


class Change(NamedTuple):
    """What FP8 makes of one picture: its answers from the best on in FP32 and FP8, and their margins."""

    asked: Asked
    truth: str
    flipped: bool
    margins: tuple[float, float]
    best: tuple[list[str], list[str]]
    sure: bool

    @property
    def moved(self) -> float:
        """How far the margin moves."""
        return abs(self.margins[1] - self.margins[0])


def changes(truth: Truth) -> list[Change]:
    """Of every picture, in their order; none where there is one answer only."""
    make = _Zero if truth.names else _Found
    before, after = make(truth, "fp32"), make(truth, "fp8")
    names, found = before.answers(), []
    if len(names) < 2:
        return []
    for place, right in enumerate(before.right()):
        margins, best, sure = [], [], True
        for side in (before, after):
            scores = side.scores[place]
            wrong = [score for item, score in enumerate(scores) if item not in right]
            margins.append(max(scores[item] for item in right) - max(wrong, default=-2.0))
            top = order(scores)[:4]
            sure &= not any(0 < scores[a] - scores[b] < NEAR for a, b in pairwise(top))
            best.append(top[:3])
        flipped = (best[0][0] in right) != (best[1][0] in right)
        asked = before.asked[place]
        told = [[names[item] for item in part] for part in best]
        words = " / ".join(names[item] for item in sorted(right))
        found.append(Change(asked, words, flipped, (margins[0], margins[1]), (told[0], told[1]), sure))
    return found
