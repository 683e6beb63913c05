"""Pinned data sets, which steps get instead of paths."""

from __future__ import annotations

from prefect import task

from artifacts.errors import DataChanged
from artifacts.manifest import Encoder
from artifacts.models import Frozen
from artifacts.refs import Sha256, digest_json
from tasks.data import check_classes, check_disjoint, check_distinct, check_enough, check_unseen
from tasks.data.base import Dataset, Role
from tasks.data.opened import opened
from tasks.data.texts import evaluation_texts


class DataRef(Frozen):
    """A source and its chosen columns, with the digest of its samples (ids, image hashes, captions, labels).

    `seen` is the digest of the part that a step sees, if it does not see everything. `notes` say what is unusual about
    the set, one sentence each.
    """

    spec: str
    role: Role
    limit: int | None
    digest: Sha256
    samples: int
    texts: Sha256 | None = None
    seen: Sha256 | None = None
    notes: tuple[str, ...] = ()
    columns: str | None = None

    def cache_identity(self) -> str:
        """The digest of the content, for cache keys; the source's location does not matter."""
        return self.seen or self.digest

    def seen_by(self, encoder: Encoder) -> DataRef:
        """This set as an encoder sees it: for the text encoder, sets with equal texts are equal, so that a classifier's
        prompts are embedded once for any number of pictures."""
        return self.model_copy(update={"seen": self.texts}) if encoder == "text" else self

    def open(self) -> Dataset:
        """Open the source again.

        Raises:
            DataChanged: its content has changed since it was pinned.
        """
        found = opened(self.spec, self.role, self.limit, self.digest, self.columns)
        if found.digest != self.digest:
            raise DataChanged(
                "the data changed while it was being used",
                where=self.spec,
                expected=f"samples with digest {self.digest}",
                fix="run again once nothing writes to the data set",
            )
        return found.dataset


def pin_data(spec: str, role: Role, limit: int | None, columns: str | None = None) -> tuple[DataRef, Dataset]:
    """Open a source (or use the cached set if it has not changed), refuse a set that is too small or degenerate, and
    pin its content.

    Raises:
        DataNotFound, DataError, TooFewSamples, DegenerateData.
    """
    found = opened(spec, role, limit, columns=columns)
    dataset = found.dataset
    check_enough(dataset)
    check_distinct(dataset)
    ref = DataRef(
        spec=spec,
        role=role,
        limit=limit,
        digest=found.digest,
        samples=len(dataset.samples),
        texts=digest_json(evaluation_texts(dataset)),
        notes=tuple(dataset.notes),
        columns=columns,
    )
    return ref, dataset


class PinnedData(Frozen):
    """The data of a run; `calibration` is None if nothing is calibrated."""

    calibration: DataRef | None
    evaluation: DataRef


def pin_both(
    calibration: str | None,
    calibration_samples: int,
    evaluation: str,
    evaluation_samples: int,
    calibrated_before: list[str],
    calibration_columns: str | None = None,
    evaluation_columns: str | None = None,
) -> PinnedData:
    """Pin both sets and refuse overlap; `calibrated_before` are hashes of images that the checkpoint was calibrated on.

    Raises:
        DataNotFound, DataError, TooFewSamples, DegenerateData, DataOverlap.
    """
    evaluation_ref, evaluation_set = pin_data(evaluation, "evaluation", evaluation_samples, evaluation_columns)
    check_classes(evaluation_set)
    check_unseen(set(calibrated_before), evaluation_set, "what the checkpoint was calibrated on")
    if calibration is None:
        return PinnedData(calibration=None, evaluation=evaluation_ref)
    calibration_ref, calibration_set = pin_data(calibration, "calibration", calibration_samples, calibration_columns)
    check_disjoint(calibration_set, evaluation_set)
    return PinnedData(calibration=calibration_ref, evaluation=evaluation_ref)


# Uncached: what lies at a source can change.
pin_data_task = task(name="pin-data", persist_result=False)(pin_both)
