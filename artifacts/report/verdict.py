"""A release in words: findings on gates, checkpoint, size, accuracy, coverage, engines and speed, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from artifacts.manifest import GateResult, Row
from artifacts.number_words import MINUS, interval, megabytes, metric, percent, points, points_range
from artifacts.report.attention import sentences
from artifacts.report.gate_words import tally
from artifacts.schema import ALIKE, BUILT, EMULATED, INVALID, MEASURED, NOT_RUN, OVER_CHANCE, Tables, number

Level = Literal["good", "bad", "attention", "neutral"]

# The metric that represents accuracy: the first of these that was measured.
_TASKS = {
    "top1_difference": "zero-shot top-1",
    "recall@1_image_to_text_difference": "image-to-text recall@1",
    "recall@1_text_to_image_difference": "text-to-image recall@1",
}


@dataclass(frozen=True)
class Finding:
    """One thing the data shows: a figure, a short clause for the verdict sentence and a sentence of detail."""

    title: str
    figure: str
    clause: str
    detail: str
    level: Level = "neutral"


def findings(tables: Tables, gates: Sequence[GateResult] = (), notes: Sequence[str] = ()) -> list[Finding]:
    """The findings in reading order. Those on size, accuracy, coverage, engines and speed are always there and say so
    if nothing was measured; those on gates and on notes about the data only if there are any."""
    judged = [_gates(gates)] if gates else []
    return [
        *judged,
        *_parity(tables),
        *_chance(tables),
        *_alike(tables),
        *_data(notes),
        *_executors(tables),
        *_asked(tables),
        *_made(tables),
        *(make(tables) for make in (_size, _accuracy, _coverage, _engines, _speed)),
    ]


def verdict(found: Sequence[Finding]) -> str:
    """All clauses as one sentence."""
    text = "; ".join(finding.clause for finding in found)
    return f"{text[:1].upper()}{text[1:]}."


def _gates(gates: Sequence[GateResult]) -> Finding:
    missed = [result for result in gates if result.rejects]
    against = ", ".join(dict.fromkeys(result.name for result in missed))
    undecided = ", ".join(dict.fromkeys(result.name for result in gates if result.status == "undecided"))
    detail = f"Results: {tally(gates)}."
    if undecided:
        detail += " Undecided: the bound lies inside the 95 % interval, and more samples would settle it."
    if missed and all(result.status == "undecided" for result in missed):
        return Finding("Gates", "undecided", f"not accepted, {undecided} being undecided", detail, "bad")
    if against:
        return Finding("Gates", "rejected", f"rejected by {against}", detail, "bad")
    if undecided:  # of an older release: undecided results did not reject it
        return Finding("Gates", "undecided", f"accepted, {undecided} being undecided", detail, "attention")
    return Finding("Gates", "accepted", "all gates are passed", detail, "good")


def _parity(tables: Tables) -> list[Finding]:
    """The finding on the checkpoint; none for older releases, which did not compare it with transformers."""
    rows = tables.get("parity", ())
    if not rows:
        return []
    cosines = [value for row in rows if (value := number(row, "cosine")) is not None]
    if not cosines:
        detail = "transformers does not read this layout: clipsmith's tests hold it to golden files of its own library."
        return [Finding("Checkpoint", "not compared in the run", "the checkpoint is of a kind held by tests", detail)]
    detail = f"{len(cosines)} texts and pictures against plain transformers: the smallest cosine is {min(cosines):.6f}."
    return [Finding("Checkpoint", "embeds as transformers does", "it embeds what transformers embeds", detail, "good")]


def _executors(tables: Tables) -> list[Finding]:
    """A finding if PyTorch computed the graphs; none if ONNX Runtime did."""
    rows = [row for row in tables.get("executors", ()) if row["judged"]]
    if not rows:
        return []
    graphs = " and ".join(dict.fromkeys(str(row["precision"]).upper() for row in rows))
    worst, cosine = min(number(row, "snr_db") or 0 for row in rows), min(number(row, "cosine_min") or 0 for row in rows)
    detail = (
        f"PyTorch computed the {graphs} graphs on {rows[0]['device']}. ONNX Runtime computed samples of each, too: "
        f"given the same input, every layer agrees to {worst:.0f} dB or better, and embeddings to cosine {cosine:.4f}."
    )
    return [Finding("Executor", "agrees with ONNX Runtime", "PyTorch computed the graphs", detail)]


def _chance(tables: Tables) -> list[Finding]:
    """A finding if FP32's accuracy is no better than chance: then comparisons with it mean nothing."""
    for row in tables.get("accuracy", ()):
        value, low = number(row, "value"), number(row, "low")
        if row["metric"] in OVER_CHANCE and value is not None and low is not None and low <= 0:
            zero_shot = row["metric"] == OVER_CHANCE[0]
            pairs, others = ("labels", "the pictures or the class names") if zero_shot else ("captions", "the pictures")
            detail = (
                f"FP32 itself scores {points(value)} above what shuffled {pairs} would give, and its 95 % interval "
                f"includes none at all: {pairs} that do not belong to {others}, or a model that cannot do this task. "
                "Differences between precisions say nothing here."
            )
            what = f"{'zero-shot accuracy' if zero_shot else 'retrieval'} is at chance"
            return [Finding("Accuracy at chance", "at chance", what, detail, "bad")]
    return []


def _alike(tables: Tables) -> list[Finding]:
    """A finding if several classes share one embedding, which limits the accuracy of every precision."""
    for row in tables.get("accuracy", ()):
        value = number(row, "value")
        if row["metric"] == ALIKE and value:
            figure = f"{value:.0f} of {row['samples']} classes"
            detail = (
                "Their prompts are the same tokens to the model, so that no picture can tell them apart: the first of "
                "them is the answer in every precision, and the others are never found."
            )
            return [Finding("Classes alike", figure, f"{figure} cannot be told apart", detail, "attention")]
    return []


def _data(notes: Sequence[str]) -> list[Finding]:
    """A finding on notes about the data: things that are unusual but not wrong."""
    if not notes:
        return []
    figure = "1 note" if len(notes) == 1 else f"{len(notes)} notes"
    clause = f"there {'is' if len(notes) == 1 else 'are'} {figure} on the data"
    return [Finding("Data", figure, clause, " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes), "attention")]


def _size(tables: Tables) -> Finding:
    pairs = _size_pairs(tables, "onnx")
    if not pairs:
        return Finding(
            "Size",
            "no data",
            "there are no two sizes to compare",
            "There is no FP16 and FP8 file of one encoder to compare.",
        )
    fp16, fp8 = (sum(column) for column in zip(*pairs.values(), strict=True))
    change = fp8 / fp16 - 1
    detail = ", ".join(f"{name} {megabytes(before)} to {megabytes(after)}" for name, (before, after) in pairs.items())
    word, figure = ("smaller", MINUS) if change < 0 else ("larger", "+")
    return Finding(
        "Size, FP8 against FP16",
        f"{figure}{percent(abs(change))}",
        f"FP8 ONNX files are {percent(abs(change), 0)} {word} than FP16",
        f"ONNX files: {detail}.{_engine_sizes(tables)}",
        "good" if change < 0 else "attention",
    )


def _size_pairs(tables: Tables, target: object) -> dict[object, tuple[float, float]]:
    """FP16 and FP8 bytes of every encoder that has both for a target."""
    sizes: dict[object, dict[object, float]] = {}
    for row in tables.get("sizes", ()):
        size = number(row, "bytes")
        if row["target"] == target and size is not None:
            sizes.setdefault(row["encoder"], {})[row["precision"]] = size
    return {name: (one["fp16"], one["fp8"]) for name, one in sizes.items() if {"fp16", "fp8"} <= one.keys()}


def _engine_sizes(tables: Tables) -> str:
    """A sentence on sizes of engines: a small model's engine is mostly kernels, so FP8 need not make it smaller."""
    shares = []
    for target in dict.fromkeys(row["target"] for row in tables.get("sizes", ()) if row["target"] != "onnx"):
        pairs = _size_pairs(tables, target)
        if pairs:
            fp16, fp8 = (sum(column) for column in zip(*pairs.values(), strict=True))
            shares.append(f"{target} {percent(fp8 / fp16, 0)}")
    return f" FP8 engines as a share of FP16: {', '.join(shares)}." if shares else ""


def _accuracy(tables: Tables) -> Finding:
    rows = [row for row in tables.get("accuracy", ()) if row["precision"] == "fp8"]
    # Each output has a row per reference; it must be counted once.
    counts = {
        (row["encoder"], row["target"]): number(row, "value") or 0 for row in rows if row["metric"] == "nonfinite"
    }
    if any(counts.values()):
        clause = f"the FP8 outputs hold {sum(counts.values()):,.0f} NaN or infinite values"
        return Finding("Accuracy", "NaN or Inf", clause, "The FP8 engines cannot be used.", "attention")
    # FP16 first, as one would ship it instead of FP8. ONNX Runtime first, as every release has it.
    rows.sort(key=lambda row: (row["target"] != "onnxruntime", row["reference"] != "fp16"))
    cosine = _cosine(rows)
    for name, label in _TASKS.items():
        for row in rows:
            value = number(row, "value")
            if row["metric"] == name and value is not None:
                return _difference(label, row, value, cosine)
    if not cosine:
        return Finding(
            "Accuracy", "not measured", "FP8 accuracy was not measured", "There is no FP8 result to compare."
        )
    clause = f"embeddings agree with FP32 to {cosine}"
    return Finding("Accuracy", "embeddings only", clause, "No task was scored: the data has no labels or captions.")


def _difference(label: str, row: Row, value: float, cosine: str) -> Finding:
    low, high = number(row, "low"), number(row, "high")
    reference = str(row["reference"]).upper()
    clause = f"{label} changes by {points(value)} against {reference}"
    detail = f"{row['samples']:,} samples, {row['target']}."
    level: Level = "neutral"
    if low is not None and high is not None:
        clause += f" (95 % interval {points_range(low, high)})"
        if low <= 0 <= high:
            detail = f"The 95 % interval {points_range(low, high)} includes no change. {detail}"
        else:
            detail = f"The 95 % interval {points_range(low, high)} excludes no change. {detail}"
            level = "good" if low > 0 else "attention"
    if cosine:
        detail += f" Embeddings against FP32: {cosine}."
    return Finding(f"{label[0].upper()}{label[1:]}, FP8 against {reference}", points(value), clause, detail, level)


def _cosine(rows: Sequence[Row]) -> str:
    """Mean cosine per encoder in words; `rows` have the preferred target first."""
    means: dict[object, float] = {}
    for row in rows:
        value = number(row, "value")
        if row["metric"] == "cosine_mean" and row["reference"] == "fp32" and value is not None:
            means.setdefault(row["encoder"], value)
    return ", ".join(f"{encoder} mean cosine {metric('cosine_mean', value)}" for encoder, value in means.items())


def _coverage(tables: Tables) -> Finding:
    rows = [row for row in tables.get("coverage", ()) if row["precision"] == "fp8"]
    if not rows:
        return Finding(
            "Coverage", "no data", "there is no FP8 graph", "There is no FP8 graph to look into.", "attention"
        )
    parts, computing = [], []
    for label, kinds in (("linear layers", ("linear",)), ("attention products", ("bmm_qk", "bmm_pv"))):
        found = [row["actual"] for row in rows if row["kind"] in kinds]
        if found:
            computing += found
            parts.append(f"{found.count('fp8')}/{len(found)} {label}")
    fp8 = " and ".join(parts) or "0 modules"
    total = f"{computing.count('fp8')}/{len(computing)}"
    wrong = [str(row["module"]) for row in rows if row["actual"] != row["expected"]]
    if wrong:
        some = "1 module is" if len(wrong) == 1 else f"{len(wrong)} modules are"
        clause = f"{fp8} are FP8, but {some} not what the recipe asks for"
        detail = f"{fp8} are FP8. Of {len(rows)} audited modules {some} not what the recipe asks for: first {wrong[0]}."
        return Finding("FP8 coverage", total, clause, detail, "attention")
    detail = f"{fp8}. All {len(rows)} audited modules are what the recipe asks for."
    return Finding("FP8 coverage", total, f"{fp8} are FP8", detail, "good")


def _engines(tables: Tables) -> Finding:
    rows = [row for row in tables.get("sizes", ()) if row["target"] != "onnx"]
    if not rows:
        return Finding("Engines", "none", "no engines were asked for", "The release holds ONNX files only.")
    missing = [row for row in rows if row.get("status") != BUILT]
    built = len(rows) - len(missing)
    targets = ", ".join(dict.fromkeys(str(row["target"]) for row in rows if row.get("status") == BUILT))
    detail = f"Built for {targets}." if built else "None could be built."
    reasons = dict.fromkeys(f"{row['target']} {row.get('status')}" for row in missing)
    if missing:
        detail += f" {'; '.join(reasons)}."
        clause = f"{built} of {len(rows)} engines are built"
    else:
        clause = "the engine is built" if built == 1 else f"all {built} engines are built"
    return Finding("Engines built", f"{built}/{len(rows)}", clause, detail, "attention" if missing else "good")


def _asked(tables: Tables) -> list[Finding]:
    """The finding on a recipe that asks builders what they make of attention in FP8; none if it does not."""
    rows = tables.get("attention", ())
    if not rows:
        return []
    decided = {str(row["encoder"]): str(row["precision"]).upper() for row in rows}
    if len(set(decided.values())) == 1:
        figure = words = next(iter(decided.values()))
    else:
        figure = ", ".join(f"{encoder} {precision}" for encoder, precision in decided.items())
        words = " and ".join(f"{precision} for {encoder}" for encoder, precision in decided.items())
    told = any(row["fused"] in ("yes", "no") for row in rows)
    clause = f"the recipe leaves attention in {words}" + ("" if told else " (no builder could tell)")
    detail = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences(rows))
    return [Finding("Attention as builders would have it", figure, clause, detail)]


def _made(tables: Tables) -> list[Finding]:
    """The finding on what builders made of attention in FP8; none if no engine tells."""
    rows = [row for row in tables.get("engines", ()) if row["precision"] == "fp8" and row["attention"]]
    if not rows:
        return []
    fused, blocks = (sum(int(row[name] or 0) for row in rows) for name in ("attention_fused", "attention"))
    unknown = any(row["fused_share"] is None for row in rows)
    parts = [f"{r['encoder']} {r['target']} {r['attention_fused']}/{r['attention']}" for r in rows]
    detail = f"Attention blocks of FP8 engines that are one kernel: {', '.join(parts)}."
    if any(row["apart"] for row in rows):
        detail += " The others fell apart into several kernels, as is usual in FP8 below about 32 tokens."
        detail += "" if tables.get("attention") else " Recipe fp8-auto keeps attention there in FP16."
    if unknown:
        detail += " Some engines do not tell of all blocks."
    clause = f"{fused} of {blocks} attention blocks of FP8 engines are one kernel"
    level: Level = "good" if fused == blocks else "attention"
    return [Finding("Attention of FP8 engines in one kernel", f"{fused}/{blocks}", clause, detail, level)]


def _speed(tables: Tables) -> Finding:
    fp8 = [row for row in tables.get("latency", ()) if row["precision"] == "fp8"]
    gains = [(gain, row) for row in fp8 if row["status"] == MEASURED and (gain := number(row, "speedup")) is not None]
    if gains:
        return _speedup(gains)
    if any(row["status"] == INVALID for row in fp8):
        detail = "The GPU was busy or throttled while it was timed: see the notes of the latencies, and measure again."
        return Finding("Speed", "not valid", "FP8 speed was measured, but not validly", detail, "attention")
    if any(row["status"] == EMULATED for row in fp8):
        detail = "FP8 was emulated on hardware without it: the times below do not tell its speed."
        return Finding("Speed", "not measured", "FP8 speed was not measured, only emulated", detail)
    if any(row["status"] == NOT_RUN for row in fp8):
        detail = "The FP8 engines were built, not run: they need the GPU they were built for."
        return Finding("Speed", "not measured", "FP8 speed was not measured", detail)
    return Finding("Speed", "not measured", "FP8 speed was not measured", "There are no FP8 latencies to compare.")


def _speedup(gains: Sequence[tuple[float, Row]]) -> Finding:
    least, most = (pick(gains, key=lambda pair: pair[0]) for pick in (min, max))
    span = " to ".join(dict.fromkeys((f"{least[0]:.2f}x", f"{most[0]:.2f}x")))
    row = most[1]
    ends = interval(row["speedup_low"], row["speedup_high"], "{:.2f}", "95 % interval ")
    best = f"{row['encoder']}, {row['target']}, batch {row['batch']}"
    detail = f"Most: {best}, {most[0]:.2f}x{ends}, on {row['device']}."
    level: Level = "good" if least[0] > 1 else "attention"
    return Finding("Speed, FP8 against FP16", span, f"FP8 runs {span} as fast as FP16", detail, level)
