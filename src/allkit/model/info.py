"""What `model.json` holds, as records."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from allkit.config import OLDER_HEAD, TrainConfig
from allkit.config.own import is_own
from allkit.config.part import PARTS
from allkit.errors import PluginError
from allkit.model.adaptation import Adaptation
from allkit.model.distillation import Distillation
from allkit.model.figures import require_figures
from allkit.model.provenance import Provenance
from allkit.plugins import registry
from allkit.records import Bag, InputSpec, Reference
from allkit.report.model_page import model_html
from allkit.runtime.fields import (
    ClassNames,
    Flag,
    Hex,
    HiddenGroup,
    Name,
    Number,
    Share,
    Text,
    Whole,
    require_finite,
    shortened,
)

__all__ = ["FORMAT", "BackboneInfo", "DataInfo", "ModelInfo", "lowest_format"]

FORMAT = 2
"""The newest form of `model.json`. A model has the lowest that says all (`lowest_format`), so that versions
of allkit that know no other read it: 2 is that of parts with settings, and of plugins' views and finders."""
FINGERPRINT = 9
"""Numbers of a backbone's fingerprint."""
_Deviation = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=100)]
LONGEST = 200
"""Characters of a part's content in its `repr`."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    def __repr__(self) -> str:
        text = self._briefly()
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        return f"<{type(self).__name__}: {text}>"

    def __str__(self) -> str:
        return repr(self)

    def _briefly(self) -> str:
        """Return what matters of it in a few words."""
        raise NotImplementedError


class _Input(BaseModel):
    """What the fields of `InputSpec` may be in a file."""

    size: Annotated[int, Field(strict=True, ge=8, le=2048)]
    mean: tuple[Share, Share, Share]
    std: tuple[_Deviation, _Deviation, _Deviation]
    view: Text = "rgb"
    bag: Bag = "field"
    cell_size: Annotated[int, Field(strict=True, ge=8, le=2048)] = 96
    max_cells: Annotated[int, Field(strict=True, ge=1, le=200)] = 24
    spread: Flag = False


def _require_input(spec: dict[str, Any]) -> None:
    """Refuse what no `InputSpec` may be, by the name that it has in the file."""
    try:
        _Input.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where} = {shortened(first.get('input'))}: {first['msg']}") from None


class BackboneInfo(_Part):
    """Which backbone, from which plugin, with which weights.

    In `model.json` the fields of `input` stand among the others, as in 0.1.0.
    """

    name: Name
    distribution: Name
    version: Name
    settings: dict[Name, Any] = {}
    """Every setting of the backbone with its value, where it has any."""
    width: Annotated[int, Field(strict=True, ge=1, le=2**20)]
    members: Annotated[int, Field(strict=True, ge=1, le=2500)]
    license: Text
    weights_sha256: Hex
    """Of the backbone as it answers; `pretrained_sha256` is that before the training."""
    pretrained_sha256: Hex = ""
    cut: Annotated[int, Field(strict=True, ge=0, le=10_000)] | None = None
    """Where members have last stages of their own: behind `net[:cut]`, which they share."""
    trained: tuple[Name, ...] = ()
    """The stages that were trained beside the head."""
    orientations: Flag = False
    """Whether features are the mean over the eight orientations of an image."""
    input: InputSpec
    """How an image is standardised, and what the network sees of it."""
    finder: Text = ""
    """Which finder of white cells it was trained with; empty where the bag holds none."""
    tiles: Flag = False
    """Whether large fields are cut into tiles; false in models of versions that did not."""
    fingerprint: tuple[Number, ...] = ()
    """What the backbone computes from a fixed input; empty in models of older versions."""
    view_fingerprint: tuple[Number, ...] = ()
    """What the view of a plugin makes of a drawn image; empty for allkit's own views."""
    structure: Text = ""
    """SHA-256 of the names and shapes of the tensors of an own backbone, which has to be given again."""

    def _briefly(self) -> str:
        spec = self.input
        bag = "" if spec.bag == "field" else f", {spec.bag}"
        plugin = f"{self.distribution} {self.version}"
        return f"{self.name} of {plugin}, {spec.size} px, view {spec.view}{bag}"

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, values: Any) -> Any:
        """Take the fields of `input` from among the others, where `model.json` has them."""
        if not isinstance(values, dict):
            return values
        if "input" in values:
            if isinstance(values["input"], dict):
                _require_input(values["input"])
            return values
        missing = [name for name in ("size", "mean", "std") if name not in values]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        names = [field.name for field in fields(InputSpec) if field.name in values]
        spec = {name: values[name] for name in names}
        _require_input(spec)
        return {key: value for key, value in values.items() if key not in spec} | {"input": spec}

    @model_validator(mode="after")
    def _marked_wholly(self) -> Self:
        for name in ("fingerprint", "view_fingerprint"):
            count = len(getattr(self, name))
            if count not in (0, FINGERPRINT):
                raise ValueError(f"{name} has {count} numbers, not {FINGERPRINT}")
        return self

    @field_validator("settings")
    @classmethod
    def _plain(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Refuse numbers that are none, and control characters."""
        return cast(dict[str, Any], require_finite(values))

    @model_serializer(mode="wrap")
    def _flat(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put the fields of `input` among the others, in its place."""
        flat: dict[str, Any] = {}
        for key, value in serialise(self).items():
            if value or key not in ("settings", "view_fingerprint"):
                flat |= value if key == "input" else {key: value}
        return flat

    @property
    def reference(self) -> Reference:
        """The backbone in full: whichever packages offer one of its name, it is this one."""
        return Reference(self.name, self.distribution, self.settings)

    @property
    def identity(self) -> tuple[str, ...]:
        """What distinguishes these features from all others, for the cache.

        Of a plugin's backbone the version is that which is installed, since it is what computes.
        """
        version = self.version
        if self.distribution != "allkit" and not is_own(self.name):
            with contextlib.suppress(PluginError):  # it is not installed, and computes nothing
                version = registry().provider("backbone", self.reference).mark
        name = self.name + self.reference.settings_text
        identity = (name, self.distribution, version, self.weights_sha256)
        return (*identity, "eight orientations") if self.orientations else identity


class DataInfo(_Part):
    """What it was trained on: counts and hashes, never a file name."""

    fingerprint: Hex
    counts: dict[Name, Whole]
    images_sha256: tuple[Hex, ...]
    groups_sha256: tuple[HiddenGroup, ...] = ()
    slides_sha256: tuple[HiddenGroup, ...] = ()
    """Every known slide; those that were only suggested are not kept."""
    relations_sha256: Hex = ""
    split_by: Literal["group", "image"] | None = None
    drawn: Flag = False

    @model_validator(mode="after")
    def _counted(self) -> Self:
        total = sum(self.counts.values())
        if bool(total) != bool(self.images_sha256):
            raise ValueError(f"counts has {total} images, and images_sha256 has none")
        return self

    def _briefly(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return f"{sum(self.counts.values())} {'drawn ' if self.drawn else ''}images ({counts})"


class ModelInfo(_Part):
    """What `model.json` holds."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    format: Annotated[int, Field(strict=True, ge=1)] = 1
    allkit: Name
    created: Name
    classes: ClassNames
    display_names: dict[Name, Name]
    backbone: BackboneInfo
    plugins: dict[Name, Name]
    config: TrainConfig
    data: DataInfo
    validation: dict[str, Any] | None = None
    trust_notes: tuple[Text, ...] = ()
    history: tuple[tuple[dict[Name, Number], ...], ...] = ()
    versions: dict[Name, Name] = Field(default_factory=dict)
    provenance: Provenance | None = Field(default=None, alias="passport")
    adaptations: tuple[Adaptation, ...] = ()
    """What was changed after the training, by `allkit.adapt`, oldest first."""
    own: tuple[Text, ...] = ()
    """The parts of the training that were given as objects, and are no plugin's: `loss own:my_loss`."""
    distillation: Distillation | None = None
    """Whose student it is; `None` for a model that learnt the labels."""

    @model_validator(mode="after")
    def _of_its_classes(self) -> Self:
        """Refuse what speaks of other classes than the model has."""
        for name, known in (
            ("data.counts", self.data.counts),
            ("display_names", self.display_names),
        ):
            others = [one for one in known if one not in self.classes]
            if others:
                raise ValueError(f"{name} has the class {others[0]!r}, which classes has not")
        missing = [one for one in self.classes if one not in self.data.counts]
        if missing:
            raise ValueError(f"data.counts lacks the class {missing[0]!r}")
        unnamed = [one for one in self.classes if one not in self.display_names]
        if unnamed:
            raise ValueError(f"display_names lacks the class {unnamed[0]!r}")
        images, counted = len(self.data.images_sha256), sum(self.data.counts.values())
        if images > counted and not any(one.labelled for one in self.adaptations):
            raise ValueError(
                f"data.images_sha256 has {images} images, and data.counts has {counted}"
            )
        if self.validation is not None:
            try:
                require_figures(self.validation, self.classes)
            except ValueError as error:
                raise ValueError(f"validation: {error}") from None
        return self

    @field_validator("validation")
    @classmethod
    def _plain(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refuse numbers that are none, and control characters."""
        return None if values is None else cast(dict[str, Any], require_finite(values))

    def _repr_html_(self) -> str:
        return model_html(self.model_dump(mode="json"))

    def _briefly(self) -> str:
        accuracy = (self.validation or {}).get("accuracy")
        quality = "not judged" if accuracy is None else f"accuracy {accuracy:.3f} in validation"
        return (
            f"{self.backbone.name}, {sum(self.data.counts.values())} images, {quality}; allkit "
            f"{self.allkit}, {self.created[:10]}; {', '.join(self.classes)}"
        )

    @model_serializer(mode="wrap")
    def _with_names_of_0_1_0(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep the keys that `model.json` has had from the beginning."""
        values = {
            "passport" if key == "provenance" else key: value
            for key, value in serialise(self).items()
        }
        config = TrainConfig.with_names_of_0_1_0(values["config"])
        if config.get("finder") is None:  # versions before knew no such setting
            config.pop("finder", None)
        return values | {"config": config}

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        """Add settings that older versions did not have, with the value for what they did."""
        if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
            return values
        config = TrainConfig.with_names_of_today(values["config"])
        before = {
            "view": "rgb",
            "bag": "field",
            "cell_size": 96,
            "max_cells": 24,
            "head_decay": config.get("weight_decay", 1e-2),
            "refit": False,
            "finder": None,
            **OLDER_HEAD,
        }
        return values | {"config": before | config}


def lowest_format(backbone: BackboneInfo, config: TrainConfig) -> int:
    """Return the lowest format of `model.json` that says all of a model."""
    names = [getattr(config, setting) or "" for setting in PARTS]
    texts = [text for name in names for text in ([name] if isinstance(name, str) else name)]
    new = (
        backbone.settings
        or config.finder is not None
        or Reference.of(backbone.input.view).package
        or any("{" in text for text in texts)
    )
    return FORMAT if new else 1
