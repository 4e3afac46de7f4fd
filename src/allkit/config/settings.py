"""Settings: frozen, checked, complete, and saved with the model they made."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from allkit.config.elsewhere import nearest
from allkit.config.own import Words
from allkit.config.part import PartName
from allkit.config.solver import OLDER_HEAD, contradiction, settle_solver
from allkit.errors import ConfigError
from allkit.records import Bag

__all__ = ["Config", "TrainConfig"]

IN_PYTHON = "`print(TrainConfig().to_yaml())` shows all settings."
"""How all settings are shown, in Python."""


class Config(BaseModel):
    """The rules of every settings object: no unknown key, no change after it was made."""

    model_config = ConfigDict(
        extra="forbid",  # a misspelt key must not be a silent default
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
    )
    sections: ClassVar[Mapping[str, str]] = {}
    """Headings of the written form, each by the setting that it stands above."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Names that files of 0.1.0 have, each with the name of today; settings are not taken by them."""

    @field_validator("*", mode="before")
    @classmethod
    def _take_no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `True` for a number, which Python would take for 1."""
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {wanted, *get_args(wanted)}:
            raise ValueError("it must be a number, not true or false")
        return value

    @classmethod
    def parse(
        cls, values: Mapping[str, Any], *, source: str = "the settings", listed: str = IN_PYTHON
    ) -> Self:
        """Check `values` and return the settings; say what is wrong in plain words.

        `listed` says where all settings are shown, for whoever gave a name that is none. Raises
        `ConfigError` naming the key, the value and what is expected.
        """
        try:
            return cls.model_validate(dict(values))
        except RecursionError:
            raise ConfigError(f"A value in {source} is nested too deeply.") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ConfigError(
                    f"Unknown setting {key!r} in {source}.{nearest(key, cls.model_fields)} {listed}"
                ) from None
            wrong = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{key} = {_shown(first.get('input'))} in {source}: {wrong[0].lower()}{wrong[1:]}."
            ) from None

    @classmethod
    def with_names_of_today(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a file holds, with the settings of 0.1.0 under their names of today."""
        return {cls.renamed.get(name, name): value for name, value in values.items()}

    @classmethod
    def with_names_of_0_1_0(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `values` under the names that files of 0.1.0 have."""
        old = {new: name for name, new in cls.renamed.items()}
        return {old.get(name, name): value for name, value in values.items()}

    def changed(self, values: Mapping[str, Any], *, source: str = "the settings") -> Self:
        """Return these settings with `values` in place of some.

        What was not given is not given here either: it follows from the new values.
        """
        return self.parse(self.model_dump(exclude_unset=True) | dict(values), source=source)

    def to_yaml(self) -> str:
        """Return every setting with its value as YAML, ready for `--config`.

        Each has its description and its range as a comment above it; read back, the text gives
        these settings again.
        """
        lines: list[str] = []
        for (name, field), value in zip(
            type(self).model_fields.items(), self.model_dump(mode="json").values(), strict=True
        ):
            if name in self.sections:
                lines += ["", f"# ── {self.sections[name]} ".ljust(90, "─")]
            told = f"{field.description or ''} [{_range(field)}]".replace(" []", "")
            lines += [f"# {line}" for line in textwrap.wrap(told, 88)]
            text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
            plain = text.removesuffix(
                "...\n"
            ).rstrip()  # a lone value ends with the mark of a document
            lines.append(f"{name}: {plain}")
        return "\n".join(lines).lstrip("\n") + "\n"


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:199]}…"


class TrainConfig(Config):
    """How a classifier is trained. The defaults are those of the `allkit train` command."""

    renamed: ClassVar[Mapping[str, str]] = {
        "tune_epochs": "finetune_epochs",
        "tune_batch_size": "finetune_batch_size",
        "tune_learning_rate": "finetune_learning_rate",
    }

    sections: ClassVar[Mapping[str, str]] = {
        "backbone": "the network",
        "augment": "the images it learns from",
        "head_solver": "learning",
        "val": "judging",
        "seed": "the machine",
    }

    backbone: PartName = Field(
        "vgg16",
        description="name of a backbone, see `allkit plugins`, or {NAME: {SETTING: VALUE}}; in Python also "
        "a module of torch, or a record",
    )
    weights: str = Field(
        "default", description="`default` (pretrained), `none` (random), or a .safetensors file"
    )
    view: PartName = Field(
        "haematoxylin",
        description="what the network is shown. haematoxylin: how much nuclear stain is where, "
        "without the colours, which on small sets are a shortcut; eosin, saturation: the same of "
        "other stains; rgb: the colours; normalised: each colour's density on a scale of "
        "the image's own; masked: the colours without the corner of the scale bar; or a plugin's",
    )
    bag: Bag = Field(
        "both",
        description="what an answer is made of. field: the whole image; cells: the mean over its "
        "white cells, which are found first; both: field and cells side by side. Where it is not "
        "given, `last`, `full` and `lora` take field, which is all they can learn from",
    )
    cell_size: int | None = Field(
        None,
        ge=16,
        le=512,
        description="pixels a side of the picture of one white cell; half as many cost a quarter of the "
        "time; null: what the backbone asks for, 56 for vgg16 and 96 for others",
    )
    max_cells: int = Field(
        8,
        ge=1,
        le=200,
        description="white cells of a field that the network is shown, evenly from the largest to the "
        "smallest; of a large field: of each of its tiles",
    )
    finder: PartName | None = Field(
        None, description="what finds the white cells; null: allkit's newest, `cells-2`"
    )
    strategy: Literal["head", "last", "full", "lora"] = Field(
        "head",
        description="what is trained. head: a head on features of the frozen backbone; last: then "
        "also its last stages, on cached activations; full: then also the others, one after "
        "another; lora: then low-rank adapters in it",
    )
    unfreeze: int = Field(
        0,
        ge=0,
        le=1000,
        description="how many of the last stages are trained after the head; 0: one for `last`, "
        "all for `full` and `lora`",
    )
    augment: tuple[PartName, ...] = Field(
        ("standard",),
        description="augmentations of the training images, applied in this order, each a name or {NAME: "
        "{SETTING: VALUE}}; in Python also functions, and transforms of albumentations",
    )
    copies: int = Field(
        0,
        ge=0,
        le=64,
        description="augmented copies of each training image, each of which costs as much as the image. "
        "Where it is not given, 1 is taken with `augment`, `last`, `full` and `lora`; `full` makes new ones "
        "in every epoch",
    )
    head_solver: Literal["lbfgs", "adamw"] = Field(
        "lbfgs",
        description="how the head on frozen features is trained. lbfgs: multinomial logistic "
        "regression with an L2 penalty, which has one solution; adamw: in steps, with dropout, "
        "mixing, schedules. Where it is not given, a setting of steps (epochs, batch_size, "
        "learning_rate, head_decay, dropout, patience, keep, warmup, mixup, ema, "
        "balanced_sampler, accumulation, optimizer, scheduler, more than one of members) means "
        "adamw, and so do a loss of your own, `last`, `full` and `lora`",
    )
    head_penalty: float = Field(
        OLDER_HEAD["head_penalty"],
        gt=0,
        le=1e6,
        description="with lbfgs: half of this times the sum of the squared weights of the head is "
        "added to the loss; the higher, the more cautious its answers",
    )
    epochs: int = Field(
        40,
        ge=1,
        le=10_000,
        description="with adamw: passes of the head over the training images, at most",
    )
    batch_size: int = Field(64, ge=1, description="images in one step of the head's training")
    learning_rate: float = Field(
        3e-3, gt=0, le=10, description="of AdamW for the head; it falls to zero as a cosine"
    )
    finetune_epochs: int = Field(
        10, ge=1, le=10_000, description="passes over the images after the head: last, full, lora"
    )
    finetune_batch_size: int = Field(32, ge=1, description="images in one step of these passes")
    finetune_learning_rate: float = Field(
        1e-4, gt=0, le=10, description="of AdamW in these passes, for the head and the last stage"
    )
    layer_decay: float = Field(
        0.7, gt=0, le=1, description="each stage further from the head learns this much slower"
    )
    lora_rank: int = Field(8, ge=1, le=512, description="rank of the adapters of `lora`")
    accumulation: int = Field(
        1,
        ge=1,
        le=1024,
        description="parts of a batch that go through the network one after another (gradient "
        "accumulation): less memory, the same result",
    )
    head_decay: float = Field(
        2.0,
        ge=0,
        le=100,
        description="decoupled weight decay of the head while AdamW trains it on features; a strong "
        "one keeps it from leaning on single features, which on other slides mean something else",
    )
    patience: int = Field(
        10, ge=1, description="epochs without a better validation loss before training stops"
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="the epoch that is kept: the one of the best validation loss, or the last",
    )
    refit: bool = Field(
        True,
        description="with the strategy head: once the validation part has been judged, train the "
        "head again on all images, with adamw for all `epochs`; it has seen more slides then. The figures "
        "stay those of the head before, which did not see the validation part",
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which the learning rate rises"
    )
    weight_decay: float = Field(
        1e-2, ge=0, description="decoupled weight decay of AdamW in `last`, `full`, `lora`"
    )
    clip: float = Field(
        1.0,
        ge=0,
        description="the gradient's norm is at most this in `last`, `full`, `lora`; 0: off",
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of features dropped in training")
    optimizer: Annotated[str, Words("adamw")] = Field(
        "adamw",
        description="what takes the steps; in Python also a function of the parameters that makes another",
    )
    scheduler: Annotated[str, Words("cosine")] = Field(
        "cosine",
        description="how the learning rate changes over the steps; in Python also a function of the "
        "optimizer and the number of steps that makes another",
    )
    loss: Annotated[str, Words("cross_entropy", "focal")] = Field(
        "cross_entropy",
        description="focal: hard images count more; in Python also a function of logits and labels",
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="how much more, with the focal loss")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread over all classes"
    )
    class_weights: bool = Field(
        True, description="weigh every class alike in the loss, whatever its number of images"
    )
    balanced_sampler: bool = Field(
        False, description="draw every class alike often, whatever its number of images"
    )
    mixup: float = Field(
        0.0, ge=0, le=10, description="alpha of mixup; 0: off (measured no gain on smears)"
    )
    cutmix: float = Field(
        0.0, ge=0, le=10, description="alpha of cutmix in `last`, `full`, `lora`; 0: off"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights, which is then what is judged and "
        "kept; it warms up; 0: off",
    )
    tta: bool = Field(
        False,
        description="answers are made from all eight orientations of an image: 8 times slower",
    )
    members: int = Field(
        1,
        ge=1,
        le=50,
        description="trainings from different seeds; the model answers as their mean. With lbfgs "
        "all would be equal, so that several need adamw",
    )
    val: float = Field(
        0.2, ge=0, lt=1, description="share of the training images kept for validation, by group"
    )
    folds: int = Field(
        0,
        ge=0,
        le=50,
        description="k-fold cross-validation by group; the model answers as the mean of the k",
    )
    slide: str | None = Field(
        None,
        description="a regular expression on the images' paths relative to the data, whose first "
        "brackets are the slide, as in `slide(\\d+)_`; null: the column `slide` of the table",
    )
    calibration_folds: int = Field(
        4,
        ge=0,
        le=50,
        description="heads trained beside the model, each without another part of the images, "
        "for calibration only; 0 or 1: the validation part must suffice",
    )
    coverage: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="share of the images of each class whose prediction set must hold that class",
    )
    familiar: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="share of new images of known slides that should count as familiar; odd slides "
        "of the training do not move the limit, so that it can be less",
    )
    class_groups: dict[str, tuple[str, ...]] | None = Field(
        None,
        description="groups of classes for the coarse answer, such as {benign: [Benign], malignant: "
        "[Early, Pre, Pro]}, which is that of the ALL classes where nothing is given; {}: none",
    )
    slide_risk: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="share of unseen slides on which a wrong answer may be accepted; with fewer than "
        "1 / slide_risk − 1 slides of a group it cannot be promised, and limits are empirical",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of split, augmentation and training")
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="what computes the frozen part in training; auto: OpenVINO where it is "
        "installed, computes on the processor and agrees with PyTorch on the first images",
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of features and of `last`, `full`, `lora` in training; auto: bfloat16 where the "
        "processor computes it natively. Answers are always computed in float32",
    )
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="where the metrics go besides MODEL.run/metrics.jsonl, if installed"
    )

    @model_validator(mode="before")
    @classmethod
    def _settle_images(cls, values: Any) -> Any:
        """Take the bag and the copies that the other settings are for, where they are not given."""
        if not isinstance(values, dict):
            return values
        if values.get("strategy", "head") != "head":
            return {"bag": "field", "copies": 1} | values
        return {"copies": 1} | values if values.get("augment") else values

    @model_validator(mode="before")
    @classmethod
    def _settle_solver(cls, values: Any) -> Any:
        """Take the solver that the other settings are for, where none is given."""
        return settle_solver(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _require_one_solver(self) -> Self:
        """Raise `ConfigError` that names a setting which the solver would ignore."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        problem = contradiction(self.model_dump(), defaults)
        if problem:
            raise ConfigError(problem)
        return self


def _range(field: FieldInfo) -> str:
    """Return what values a setting takes, in words."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    choices = choices or tuple(
        word for limit in field.metadata if isinstance(limit, Words) for word in limit.words
    )
    if choices:
        return "one of " + ", ".join(map(str, choices))
    if get_origin(field.annotation) is tuple and (
        get_origin(get_args(field.annotation)[0]) is Literal
    ):
        return "any of " + ", ".join(map(str, get_args(get_args(field.annotation)[0])))
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = (
        f"{word} {getattr(limit, sign):,}"
        for limit in field.metadata
        for sign, word in words.items()
        if getattr(limit, sign, None) is not None
    )
    return ", ".join(limits)
