"""The error tree: one class per cause that a caller can act on.

Every message says what happened, where, what was expected and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from artifacts.exit_codes import ExitCode
from artifacts.inert import visible


class ClipsmithError(Exception):
    """Base of every error clipsmith raises on purpose; the command line prints it and exits with `exit_code`."""

    exit_code = ExitCode.FAILED

    def __init_subclass__(cls, exit_code: ExitCode | None = None) -> None:
        """An error's exit code is its parent's unless its class names another."""
        if exit_code is not None:
            cls.exit_code = exit_code

    def __init__(self, what: str, *, where: object = None, expected: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = expected
        self.fix = fix
        super().__init__(self._message())

    def _message(self) -> str:
        """The message as lines, made harmless (`artifacts.inert`): logs and Prefect's pages show it as it is."""
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {visible(self.where)}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.fix is not None:
            lines.append(f"  next: {self.fix}")
        return visible("\n".join(lines), lines=True)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.expected, self.fix), vars(self))


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, then the error it was raised from, and so on: libraries wrap the original error in their own."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _rebuild(
    cls: type[ClipsmithError], what: str, where: str | None, expected: str | None, fix: str | None
) -> ClipsmithError:
    return cls(what, where=where, expected=expected, fix=fix)


# --- what the user asked for -------------------------------------------------------------------------------


class ConfigError(ClipsmithError, exit_code=ExitCode.WRONG_INPUT):
    """A parameter, configuration file or recipe is malformed."""


class UnknownTarget(ConfigError):
    """An engine target that no backend knows."""


class UnknownRecipe(ConfigError):
    """A recipe that is neither a built-in name nor a file."""


class ProfileError(ConfigError):
    """An optimization profile that is not 1 <= min <= opt <= max."""


class BadName(ConfigError):
    """A model name, alias or reference with characters that are not allowed."""


class KeyUnusable(ConfigError):
    """A key file that cannot be read, is of the wrong kind, or does not open with the password."""


class PrefectMisconfigured(ConfigError):
    """A setting of Prefect that cannot work: a server's URL, a password, its home."""


# --- the checkpoint ----------------------------------------------------------------------------------------


class CheckpointError(ClipsmithError, exit_code=ExitCode.WRONG_INPUT):
    """Base of everything wrong with a checkpoint."""


class CheckpointNotFound(CheckpointError):
    """The model id or folder, or the asked revision of it, does not exist or cannot be reached."""


class CheckpointUnreachable(CheckpointNotFound, exit_code=ExitCode.FAILED):
    """The hub does not answer, and the checkpoint is not here."""


class NotClip(CheckpointError):
    """The checkpoint is not a model family that clipsmith knows."""


class UnsupportedVariant(CheckpointError):
    """A relative of a known family that clipsmith cannot turn into a graph; the message names it and says why."""


class MissingEncoder(CheckpointError):
    """The checkpoint holds one encoder only; the message names the missing one."""


class UnsafeCheckpoint(CheckpointError):
    """Pickled weights or a `modelopt_state.pth` that clipsmith did not publish."""


class BadWeights(CheckpointError):
    """NaN/Inf weights, missing or extra tensors, or shapes that disagree with the configuration."""


class CheckpointChanged(CheckpointError, exit_code=ExitCode.FAILED):
    """A file of the checkpoint changed between being digested and being read."""


# --- data --------------------------------------------------------------------------------------------------


class DataError(ClipsmithError, exit_code=ExitCode.WRONG_INPUT):
    """Base of everything wrong with calibration or evaluation data."""


class DataNotFound(DataError):
    """The data source does not exist or has no captions file."""


class DataUnreachable(DataNotFound, exit_code=ExitCode.FAILED):
    """The hub does not answer, and the data is not here."""


class DecoderCrash(DataError, exit_code=ExitCode.FAILED):
    """A process that decodes pictures died: on one of the pictures, or for lack of memory."""


class DataChanged(DataError, exit_code=ExitCode.FAILED):
    """The data is not what it was when it was pinned."""


class BadBatch(DataError, exit_code=ExitCode.FAILED):
    """A preprocessor made something that the model does not take."""


class TooFewSamples(DataError):
    """Fewer samples than a sound calibration or evaluation needs."""


class DegenerateData(DataError):
    """All images (or all captions) are identical."""


class BadSample(DataError, exit_code=ExitCode.FAILED):
    """A sample that cannot be decoded, or more of them than the tolerated share."""


class CaptionTooLong(DataError):
    """A caption is longer than the model's context, and the configuration does not allow truncation."""


class DataOverlap(DataError):
    """Calibration and evaluation share samples."""


# --- the work ----------------------------------------------------------------------------------------------


class ParityError(ClipsmithError):
    """Our model of a checkpoint and plain transformers embed differently; the message names the part that differs."""


class BadAmax(ClipsmithError):
    """A quantizer's amax is zero, NaN or infinite; the message names the layer."""


class RoundTripError(ClipsmithError):
    """A written ModelOpt checkpoint does not restore to what was written."""


class ExportError(ClipsmithError):
    """The model cannot be expressed as the ONNX graph clipsmith promises."""


class AuditError(ClipsmithError):
    """The exported graph is not what the recipe asked for; the message names the module."""


class UnknownOperator(ClipsmithError):
    """A graph holds an operator that a target does not know."""


class BuildError(ClipsmithError):
    """The engine builder refused the graph."""


class BuilderCrash(BuildError):
    """The engine builder died in native code (signal, out of memory) in its child process."""


class StepStopped(ClipsmithError):
    """The run was told to end while a step worked in a process or a thread of its own."""


class StepTimedOut(ClipsmithError):
    """A step took longer than the run allows; its process, if it has one of its own, was ended."""


class EngineUnavailable(ClipsmithError, exit_code=ExitCode.WRONG_INPUT):
    """A target whose runtime is not installed, or that needs hardware this machine lacks."""


class EngineConflict(EngineUnavailable, exit_code=ExitCode.FAILED):
    """Two runtimes that cannot both be loaded in one process."""


class Fp8Unavailable(EngineUnavailable):
    """FP8 engines for a GPU generation that has no FP8 arithmetic."""


class EngineMismatch(ClipsmithError):
    """An engine built for another GPU, runtime or version than this machine's, or that does not say for which."""


class EngineFailed(ClipsmithError):
    """A runtime refused to load or to run an engine that was built for this machine."""


class NotDetailed(ClipsmithError):
    """An engine's layer report that cannot be read, or that names its layers and says no more."""


class WrongInput(ClipsmithError):
    """An engine was given inputs of other names, types or shapes than it takes."""


class BatchOutsideProfile(WrongInput):
    """A batch of a size that the engine was not built for."""


class NumericError(ClipsmithError):
    """An engine produced NaN or Inf."""


class HalfOverflow(NumericError):
    """The model's own activations do not fit FP16; the message names the module."""


class DeviceTurnError(ClipsmithError):
    """The lock file, or the server's limit, that lets one benchmark at a time run on a device cannot be used."""


class ExecutorsDisagree(ClipsmithError):
    """PyTorch and ONNX Runtime compute different numbers from one graph."""


class SameAsBaseline(ClipsmithError):
    """A candidate is its own baseline: comparing the two would prove nothing."""


class ApiNotReady(ClipsmithError):
    """The embedded Prefect API server did not come up."""


class PortTaken(ClipsmithError):
    """Another program listens on the port that `clipsmith up` was to use."""


class AlreadyUp(ClipsmithError):
    """`clipsmith up` runs already, on another port than was asked for."""


class ProcessDied(ClipsmithError):
    """The server or the worker of `clipsmith up` ended without being told to."""


class NoServer(ClipsmithError):
    """There is no Prefect server, or it does not answer."""


class GateFailed(ClipsmithError, exit_code=ExitCode.GATE):
    """A gate rejects the release: it is published as `release` (`model@version`); `new` says whether just now."""

    release: str = ""
    new: bool = False

    @classmethod
    def of(cls, what: str, *, release: str, new: bool, where: object, fix: str) -> GateFailed:
        """The error about a published release."""
        error = cls(what, where=where, fix=fix)
        error.release, error.new = release, new
        return error


class NoRecipe(ClipsmithError, exit_code=ExitCode.GATE):
    """A search found no recipe that meets the gates within its budget."""


class VariantsFailed(ClipsmithError):
    """Some variants of a nightly run failed; the others are done. `outcomes` holds each variant's outcome, as JSON."""

    outcomes: Sequence[dict[str, Any]] = ()


class NotPermitted(ClipsmithError):
    """The user who runs a command may not read or write one of its files."""


class OutputLost(ClipsmithError):
    """The result could not be written to standard output."""


# --- the store ---------------------------------------------------------------------------------------------


class StoreError(ClipsmithError):
    """Base of everything wrong with a store."""


class StoreReadOnly(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """The store cannot be written."""


class NotEnoughSpace(StoreError):
    """The disk has less room than the run may need; found before any work is done."""


class DiskFull(StoreError):
    """The disk that holds the store has no room left."""


class StoreOpenToOthers(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """Other users may write in a store, and we cannot change that."""


class StoreBusy(StoreError):
    """Other processes held the store for longer than we wait."""


class UnsupportedFileSystem(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """A store on a network file system, where file locks are not reliable."""


class NotAStore(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """A folder that exists, is not empty and is not a clipsmith store; or one of an unknown format."""


class DamagedHeader(NotAStore, exit_code=ExitCode.FAILED):
    """A store's own record of what it is cannot be read."""


class NotARelease(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """A folder that `clipsmith export` did not write."""


class ObjectMissing(StoreError):
    """A referenced object is not in the store."""


class ObjectDamaged(StoreError):
    """An object's bytes do not match its digest."""


class ReleaseNotFound(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """No release matches the reference."""


class AmbiguousReference(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """A digest prefix that several releases share."""


class ReleaseConflict(StoreError):
    """Another release has the same name and version in this store."""


class ReleaseRejected(StoreError, exit_code=ExitCode.GATE):
    """A release that failed a gate was to be promoted without force."""


class SignatureRequired(StoreError):
    """The store's policy asks for a signature that the release does not have."""


class SignatureInvalid(StoreError):
    """A signature that is damaged, or is not of this release by this key."""


class NotApproved(StoreError):
    """A person refused a promotion, or nobody answered in time."""


class StoreDamaged(StoreError):
    """Verification found something that is not what was written."""


class AliasMoved(StoreError):
    """Somebody else moved the alias first."""


class AliasNotFound(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """The model has no such alias."""


class NothingToRollBack(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """The alias has no earlier release to go back to."""


class DamagedAlias(StoreError):
    """An entry of an alias's history that is not what was written."""


class DamagedLedger(StoreError):
    """An entry of the store's ledger that is not what was written."""


class DamagedSignature(StoreError):
    """A signature's record that is not what was written."""


class BadArchive(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """A packed release that is truncated or altered, or holds something that it must not."""


class ReplicaError(StoreError):
    """A remote copy of the store cannot be reached, read or written."""


class DamagedManifest(StoreError):
    """A manifest that is not the canonical JSON of the schema."""


class ReleaseDiffers(StoreError):
    """A release's identity or results do not follow from what it holds."""


class TableError(StoreError):
    """Rows that violate their table's schema; the message names the table and the column."""


class ExportFailed(StoreError):
    """The export folder cannot be written."""


class ExportTargetExists(StoreError, exit_code=ExitCode.WRONG_INPUT):
    """The folder to export to exists and is not empty."""
