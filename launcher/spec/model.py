"""JobSpec: what a user may write in a spec, as frozen models that forbid unknown fields.

Promises: every field here has an effect; a field whose work is not built yet is refused by name (NOT_BUILT_YET). What
comes in is taken as it is: "3" is not made a 3. Unset fields keep their defaults, and `train` holds only what the user
set, by Ultralytics' own names (`launcher.spec.arguments` checks them).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag

from launcher.data.reef import ReefOptions
from launcher.spec.attached import KNOWN, REEF, AttachedData, parse

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"
NAME_LENGTH = 40  # characters; leaves room for a time stamp in the 63 that host and kernel names allow
VERSION_PATTERN = r"^[0-9]+(\.[0-9]+)+([a-z0-9.+-]*)$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
PATTERN_MEANINGS = {
    NAME_PATTERN: "lower-case letters, digits and hyphens, and start with a letter or digit",
    VERSION_PATTERN: "one exact version, as in 8.4.190",
    VARIABLE_PATTERN: "the name of an environment variable: letters, digits and underscores",
}
NOT_BUILT_YET = frozenset({"sweep", "evaluate"})

Scalar = bool | int | float | str | None
TrainValue = Scalar | list[Scalar]
Version = Annotated[str, Field(pattern=VERSION_PATTERN, max_length=60)]
VariableName = Annotated[str, Field(pattern=VARIABLE_PATTERN, max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def reef_errors(options: dict[str, Any]) -> dict[str, str | None]:
    """What is wrong with the options of the reef, by name; None says that there is no such option."""
    known = {name: value for name, value in options.items() if name in ReefOptions.__dataclass_fields__}
    told = (problem.partition(": ") for problem in ReefOptions(**known).problems())
    return {**dict.fromkeys(options.keys() - known.keys()), **{name: message for name, _, message in told}}


def _reef(value: Any) -> ReefOptions:
    """Taken as its own class has it: the names, types and limits are ReefOptions'."""
    if isinstance(value, ReefOptions):
        return value
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of options")  # pydantic catches only this one
    if wrong := reef_errors(value):
        raise ValueError("; ".join(f"{name}: {what or 'there is no such option'}" for name, what in wrong.items()))
    return ReefOptions(**value)


class DataSource(_Model):
    """A dataset that is made rather than found."""

    reef: Annotated[ReefOptions, PlainValidator(_reef)] = Field(
        description="the built-in reef: a small dataset drawn from a seed, without a download"
    )


class Environment(_Model):
    """What the machine must bring, or be given, for this run."""

    ultralytics: Version | None = Field(None, description="the exact version to train with; default: the one here")
    torch: Version | None = Field(None, description="the exact version to train with; default: the one here")
    variables: dict[VariableName, str] = Field(
        default_factory=dict, description="environment variables of the training; a secret is named: ${env:NAME}"
    )


class Resources(_Model):
    """What the run may use. What is not named here is for one backend alone (`launcher.spec.options`)."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes cuda, then mps, then cpu")
    max_hours: float | None = Field(None, gt=0, description="stop the training after this many hours")
    max_cost: float | None = Field(None, gt=0, description="US dollars that all attempts of the run may cost together")

    @property
    def options(self) -> dict[str, Any]:
        """The settings that are for one backend alone, by name."""
        return dict(self.model_extra or {})

    def as_json(self) -> dict[str, Any]:
        """For the run's record, from which each attempt's need is made."""
        return {"device": self.device, "max_hours": self.max_hours, "max_cost": self.max_cost, "options": self.options}


class Resume(_Model):
    """How often a run that was cut short goes on from its last checkpoint."""

    attempts: int = Field(3, ge=1, le=100, description="attempts that a run may use in all")
    restarts: int = Field(2, ge=0, le=100, description="how often a killed trainer is started again in one attempt")


class Sync(_Model):
    """How results come back."""

    while_running: bool = Field(True, description="fetch files as they appear, not only at the end")
    patience_minutes: float = Field(
        60, gt=0, description="how long a backend may be silent before launch stops following (exit code 7)"
    )


Metric = Literal["precision", "recall", "mAP50", "mAP50-95", "fitness", "accuracy_top1", "accuracy_top5"]
Margin = Annotated[float, Field(gt=0, le=1)]


class ParitySpec(_Model):
    """What the run is held against, and how. Nothing here changes the training, or the bundle's digest."""

    against: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None, description="the reference: a run, or a folder of Ultralytics"
    )
    margin: Margin | dict[Metric, Margin] | None = Field(
        None, description="largest difference that still counts as none, absolute: one for all metrics, or by metric"
    )
    last_epochs: int = Field(3, ge=1, le=1000, description="epochs at the end whose mean is compared")
    probe: Literal["auto", "require", "off"] = Field(
        "auto", description="probe the machine before the training: auto does where the reference has a probe"
    )
    on_different: Literal["stop", "go-on"] = Field(
        "stop", description="what to do when the probe finds that the machine computes something else"
    )


def _data_kind(value: Any) -> str:
    if isinstance(value, AttachedData) or (isinstance(value, dict) and set(value) != {REEF}):
        return "<attached>"
    return "<source>" if isinstance(value, (dict, DataSource)) else "<path>"


class JobSpec(_Model):
    """One training, described whole: model, data, arguments, environment, limits."""

    name: str = Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH, description="default: the name of the file")
    model: str = Field(min_length=1, description="a name Ultralytics knows (yolo11n.pt, yolo11n.yaml) or a path")
    data: Annotated[
        Annotated[str, Field(min_length=1), Tag("<path>")]
        | Annotated[DataSource, Tag("<source>")]
        | Annotated[AttachedData, PlainValidator(parse), Tag("<attached>")],
        Discriminator(_data_kind),
    ] = Field(description="a data.yaml, relative to this file; `reef`; or data that lies elsewhere")
    train: dict[str, TrainValue] = Field(default_factory=dict, description="Ultralytics' own train arguments")
    environment: Environment = Field(default_factory=Environment, description="versions and variables")
    resources: Resources = Field(default_factory=Resources, description="device, time, money")
    resume: Resume = Field(default_factory=Resume, description="going on after a kill")
    sync: Sync = Field(default_factory=Sync, description="how results come back")
    parity: ParitySpec = Field(
        default_factory=ParitySpec, description="the reference, and what counts as no difference"
    )
    notes: str | None = Field(None, description="for you; kept with the run")


SECTIONS: dict[str, tuple[str, ...]] = {
    "environment": tuple(Environment.model_fields),
    "resources": tuple(Resources.model_fields),
    "resume": tuple(Resume.model_fields),
    "sync": tuple(Sync.model_fields),
    "parity": tuple(ParitySpec.model_fields),
}
"""The mappings of a spec whose fields are ours, and the names of these."""


def known_fields() -> dict[str, tuple[str, ...]]:
    """The names that may stand under each dotted parent, for suggestions."""
    reef = tuple(ReefOptions.__dataclass_fields__)
    return {"": (*JobSpec.model_fields, "extends"), "data": KNOWN, "data.reef": reef, **SECTIONS}
