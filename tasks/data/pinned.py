"""A pinned data set: what a step is given instead of a path, and how it is opened again."""

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
    """A source, and the columns of it that were chosen, with the digest of its samples (ids, image hashes, captions,
    labels).

    `seen` is the digest of the part that a step gets to see, where it does not see all. `notes` say what is odd about
    the set, a sentence each.
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
        """The content; where it lies does not matter."""
        return self.seen or self.digest

    def seen_by(self, encoder: Encoder) -> DataRef:
        """This set as an encoder sees it: to the text encoder, sets with the same texts are one, so that the prompts of
        a classifier are embedded once however many pictures it is tried on."""
        return self.model_copy(update={"seen": self.texts}) if encoder == "text" else self

    def open(self) -> Dataset:
        """Open the source again.

        Raises:
            DataChanged: its content is not what it was when it was pinned.
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
    """Open a source, unless it is open as it is now; refuse one that is too small or degenerate, and pin its content.

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
    """The data of a run; `calibration` is None where nothing is calibrated."""

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
    """Pin both sets and refuse overlap; `calibrated_before` are image hashes that a published model has seen.

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
