"""Strict mode for captions: none may be cut off at the model's context."""

from __future__ import annotations

from artifacts.errors import CaptionTooLong
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.pinned import DataRef
from tasks.data.texts import evaluation_texts

_SHOWN = 80


def require_whole_captions(snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef) -> None:
    """Refuse a data set with texts longer than the model's context. (Without strict mode they are cut and counted.)

    Raises:
        CaptionTooLong: there are such texts; the message counts them and quotes the first.
    """
    dataset = data.open()
    evaluation = data.role == "evaluation"
    texts = evaluation_texts(dataset) if evaluation else [sample.caption for sample in dataset.samples]
    processor = Preprocess.of(snapshot, preprocess)
    long = processor.too_long(texts)
    if long:
        raise CaptionTooLong(
            f"{len(long)} of {len(texts)} {data.role} texts are longer than the context",
            where=f"{dataset.source}, the first: {texts[long[0]][:_SHOWN]!r}",
            expected=f"at most {processor.context} tokens each, start and end included",
            fix=f"shorten them, or leave {data.role}.strict_captions off: they are then cut, counted and reported",
        )
