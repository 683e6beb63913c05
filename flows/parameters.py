"""The parameter model of the `optimize` flow, which the command line, YAML files and Prefect's form fill."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from artifacts.config_files import mapping, read_file
from artifacts.errors import ConfigError, ProfileError
from artifacts.manifest import Encoder, Precision
from artifacts.models import problems
from artifacts.names import ModelName
from artifacts.prefect_forms import FormModel, NameOrFile, NullAs, NullAsBlank, for_forms, grouped
from artifacts.release.gates import Gates
from flows.defaults import STORE, default_store
from tasks.clip.base import ImageSize
from tasks.data.columns import parse_columns
from tasks.device.interleaved import LatencySettings
from tasks.engines import BatchProfile, backend_for, known_targets
from tasks.quantizing.recipe import Algorithm, Mse, Percentile, builtin_names

PRESETS = {
    "standard": {"samples": 512, "batch": 32},
    # The published FP8 workflow for CLIP: 8,192 image-caption pairs, batch 512, max.
    "published": {"samples": 8192, "batch": 512},
}

EVALUATION_SAMPLES = 512
SMOKE_TEST_SAMPLES = 64

_PASSWORD_IN_URL = re.compile(r"//[^/@\s]*:[^/@\s]*@")


def _without_password(value: str) -> str:
    """Refuse a URL with a password: Prefect and every release record parameters. The message hides the value."""
    if _PASSWORD_IN_URL.search(value):
        raise ValueError("holds a password; parameters are recorded, so keep secrets in the environment")
    return value


Recorded = Annotated[str, AfterValidator(_without_password)]


def _readable_columns(value: str | None) -> str | None:
    parse_columns(value)
    return value


OptionalText = Annotated[Recorded | None, NullAsBlank()]
OptionalCount = Annotated[Annotated[int, Field(ge=8, le=10_000_000)] | None, NullAs("automatic")]
OptionalBatch = Annotated[Annotated[int, Field(ge=1, le=4096)] | None, NullAs("automatic")]
OptionalColumns = Annotated[str | None, AfterValidator(_readable_columns), NullAsBlank()]
Length = Annotated[int, Field(ge=1, le=8192)]
OptionalSize = Annotated[
    Annotated[list[Length], Field(min_length=2, max_length=2)] | None, NullAs("automatic", other="height, width")
]
Method = Literal["max", "percentile", "mse", "auto"]
ONCE: dict[str, JsonValue] = {"uniqueItems": True}


def targets_in_forms(schema: dict[str, Any]) -> None:
    """The `json_schema_extra` of a list of targets: the form offers all targets, each once."""
    schema |= ONCE | {"items": {"enum": list(known_targets()), "type": "string"}}


class EncoderCalibration(FormModel):
    """How the FP8 scales of one encoder's activations are chosen; weights always keep their maximum."""

    method: Method = Field(
        default="max",
        description="max: the largest value seen, nothing saturates. percentile: the largest few values saturate. "
        "mse: the least squared rounding error. auto: the one that a held-out part of the samples favours.",
    )
    percentile: float = Field(
        default=99.99,
        ge=90,
        le=99.9999,
        description="For percentile and auto: the share of values, in percent, that must not saturate.",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _offered_for_fp8(cls, value: Any) -> Any:
        if value == "entropy":
            raise ValueError(
                "ModelOpt's entropy calibration counts integer levels and does not offer FP8; "
                "use max, percentile, mse or auto"
            )
        return value

    def candidates(self) -> tuple[Algorithm, ...]:
        """The algorithms to compare; the first wins ties."""
        known: dict[str, Algorithm] = {"max": "max", "percentile": Percentile(percentile=self.percentile), "mse": Mse()}
        return tuple(known.values()) if self.method == "auto" else (known[self.method],)


class CalibrationParameters(FormModel):
    """What the FP8 scales are measured on, and how they are chosen."""

    source: OptionalText = Field(
        default=None,
        description="digits, a folder of images with captions.csv/parquet/jsonl or with a folder for each class, "
        "datasets:NAME_OR_FOLDER[:split], or CLIP_benchmark's shards: their folder, or wds:NAME[:split]. "
        "Empty: digits for the demo; any other model needs data like what it will see.",
    )
    columns: OptionalColumns = Field(
        default=None,
        description="Which columns of the source's table to use: image=COLUMN,label=COLUMN,caption=COLUMN, or some of "
        "the three. Empty: those of the usual names and types; where several could be meant, the error names them.",
    )
    preset: Literal["standard", "published"] = Field(
        default="standard",
        description="standard: 512 samples in batches of 32; published: 8,192 in batches of 512. "
        "What is set below wins.",
    )
    samples: OptionalCount = Field(
        default=None,
        description="How many samples; more than there are means all. Automatic: what the preset says.",
    )
    batch: OptionalBatch = Field(
        default=None,
        title="Batch size",
        description="Samples per forward pass. Automatic: what the preset says; at least 128 on a GPU of "
        "20 GB or more.",
    )
    strict_captions: bool = Field(
        default=False,
        title="Strict captions",
        description="Refuse texts longer than the context, which are otherwise cut and counted.",
    )

    image: EncoderCalibration = Field(
        default=EncoderCalibration(), description="How the image encoder's scales are chosen."
    )
    text: EncoderCalibration = Field(
        default=EncoderCalibration(), description="How the text encoder's scales are chosen."
    )

    sufficiency: bool = Field(
        default=False,
        title="Sufficiency report",
        description="Say when more samples stop helping, by a part of them held out. With auto it is always there.",
    )

    def of(self, encoder: Encoder) -> EncoderCalibration:
        """The settings of one encoder."""
        return self.image if encoder == "image" else self.text

    @property
    def sample_count(self) -> int:
        """The number of samples, with the preset's value filled in."""
        return self.samples or PRESETS[self.preset]["samples"]

    @property
    def batch_size(self) -> int:
        """Samples per forward pass, with the preset's value filled in."""
        return self.batch or PRESETS[self.preset]["batch"]


class EvaluationParameters(FormModel):
    """What accuracy is measured on."""

    source: OptionalText = Field(
        default=None,
        description="As for calibration; must not share samples with it. Empty: the held-out digits, all of them "
        "for the demo and 64 as a smoke test for any other model.",
    )
    columns: OptionalColumns = Field(default=None, description="As for calibration, for this source's table.")
    samples: OptionalCount = Field(
        default=None, description="How many samples; more than there are means all. Automatic: at most 512."
    )
    batch: int = Field(default=32, ge=1, le=4096, title="Batch size", description="Samples per inference.")
    executor: Literal["auto", "onnxruntime", "torch"] = Field(
        default="auto",
        description="What computes the exported graphs: ONNX Runtime on the processor, or torch, on a GPU where there "
        "is one, which ONNX Runtime judges on 64 samples. auto: torch on a GPU, and for FP8 graphs of some size.",
    )
    strict_captions: bool = Field(
        default=False,
        title="Strict captions",
        description="Refuse texts longer than the context, which are otherwise cut and counted.",
    )

    def source_and_count(self, *, demo: bool) -> tuple[str, int]:
        """The source and the number of samples, with defaults filled in."""
        smoke_test = self.source is None and not demo
        return self.source or "digits", self.samples or (SMOKE_TEST_SAMPLES if smoke_test else EVALUATION_SAMPLES)


GROUPS = {
    "What": ("model", "revision", "name", "image_size", "encoders"),
    "Data": ("calibration", "evaluation"),
    "Build": ("precisions", "recipe", "targets", "profile"),
    "Judge": ("latency", "gates"),
    "Advanced": ("step_minutes", "store"),
}
"""The parameters as the form groups them."""


def all_in_forms(schema: JsonSchemaValue, model: type[BaseModel]) -> None:
    """The `json_schema_extra` of all parameters: they come in groups, and a model of the hub needs calibration data, as
    the form says beside that field. A folder may hold a checkpoint that brings its own, so it is left to the run."""
    for_forms(schema, model)
    grouped(schema, GROUPS)
    fp8, hub = {"contains": {"enum": ["fp8"]}}, r"^(?!demo$)[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$"
    schema["if"] = {"required": ["model"], "properties": {"model": {"pattern": hub}, "precisions": fp8}}
    source = {"required": ["source"], "properties": {"source": {"minLength": 1}}}
    schema["then"] = {"required": ["calibration"], "properties": {"calibration": source}}


class OptimizeParameters(FormModel):
    """Everything that `optimize` can be told. With no parameters it optimizes the built-in demo model."""

    model_config = ConfigDict(json_schema_extra=all_in_forms)

    model: Recorded = Field(
        default="demo",
        min_length=1,
        description="A Hugging Face id, a local folder, a checkpoint that clipsmith exported, or demo.",
    )
    revision: Annotated[str | None, NullAsBlank()] = Field(
        default=None, description="Branch, tag or commit of a Hugging Face model. Empty: its main branch."
    )
    name: Annotated[ModelName | None, NullAsBlank()] = Field(
        default=None,
        title="Name of the model",
        description="What the store calls the model: a-z 0-9 . _ -. Empty: the Hugging Face id, or the folder's name, "
        "with the one above it where that says nothing, as checkpoint-500.",
    )
    image_size: OptionalSize = Field(
        default=None,
        title="Image size",
        description="Height and width in pixels, multiples of the patch size, for a model whose checkpoint leaves them "
        "open (SigLIP 2 NaFlex); pictures of another shape are squashed. Automatic: the model's own size, and of one "
        "that leaves it open the square that its position embeddings are stored for, 256 x 256 for those published.",
    )
    encoders: list[Encoder] = Field(
        default=["image", "text"], min_length=1, description="Which encoders to optimize.", json_schema_extra=ONCE
    )
    calibration: CalibrationParameters = CalibrationParameters()
    evaluation: EvaluationParameters = EvaluationParameters()
    precisions: list[Precision] = Field(
        default=["fp16", "fp8"],
        min_length=1,
        description="Which graphs to make. FP8 is judged against FP16 where both are there.",
        json_schema_extra=ONCE,
    )
    recipe: Annotated[Recorded, Field(min_length=1), NameOrFile(builtin_names)] = Field(
        default="fp8", description="Which layers become FP8: a built-in recipe, or a YAML file."
    )
    targets: list[str] = Field(
        default=["onnxruntime", "trtrtx-sm89", "trtrtx-sm120"],
        description="Which engines to build, by runtime and GPU generation; "
        "tensorrt, trtrtx and torch-fp8 need a GPU here.",
        json_schema_extra=targets_in_forms,
    )
    profile: BatchProfile = Field(default=BatchProfile(), title="Batch profile")
    latency: LatencySettings = LatencySettings()
    gates: Gates = Gates()
    step_minutes: int = Field(
        default=240,
        ge=1,
        le=14_400,
        title="Time limit per step (minutes)",
        description="A step that takes longer is ended, and the run fails. What was done before stays in the cache.",
    )
    store: Recorded = Field(default_factory=default_store, min_length=1, description=STORE)

    @property
    def chosen_size(self) -> ImageSize | None:
        """`image_size` in the form that checkpoint families take."""
        return None if self.image_size is None else (self.image_size[0], self.image_size[1])

    @field_validator("encoders", "precisions", "targets")
    @classmethod
    def _no_duplicates(cls, values: list[str]) -> list[str]:
        if len(set(values)) != len(values):
            raise ValueError(f"named twice: {sorted({v for v in values if values.count(v) > 1})}")
        return values

    @model_validator(mode="after")
    def _latency_within_profile(self) -> OptimizeParameters:
        outside = [batch for batch in self.latency.batches if not self.profile.min <= batch <= self.profile.max]
        if outside:
            raise ProfileError(
                f"latency batch sizes {outside} are outside the profile",
                expected=f"{self.profile.min} to {self.profile.max}",
                fix="change `latency.batches` or `profile`",
            )
        return self

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, values: list[str]) -> list[str]:
        for target in values:
            backend_for(target)
        return values


DEMO = OptimizeParameters()
"""No parameters: the built-in demo."""


def parse_parameters(values: dict[str, Any], *, where: object) -> OptimizeParameters:
    """Validate parameters.

    Raises:
        ConfigError (or UnknownTarget, ProfileError): the message names every wrong field.
    """
    try:
        return OptimizeParameters.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"wrong parameters: {problems(OptimizeParameters, error)}",
            where=where,
            expected="the names, types and ranges of the README's list of parameters",
            fix="see `clipsmith optimize --help` and the README",
        ) from error


def parse_gates(values: dict[str, Any], *, where: object) -> Gates:
    """The `gates` block of a parameter file; everything else in the file is ignored.

    Raises:
        ConfigError: there is no such block, or fields are wrong (the message names each).
    """
    try:
        return Gates.model_validate(values["gates"])
    except (KeyError, ValidationError) as error:
        what = problems(Gates, error) if isinstance(error, ValidationError) else "there is no `gates` block"
        raise ConfigError(
            f"wrong gates: {what}",
            where=where,
            expected="gates: {max_top1_drop: 0.005}, or any others of the README's list of parameters",
            fix="correct the file",
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """A YAML file of parameters, not yet validated.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    return read_file(path, mapping, what="the configuration", error=ConfigError)
