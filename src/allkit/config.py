"""Settings: frozen, checked, complete, and saved with the model they made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allkit.errors import ConfigError, did_you_mean

__all__ = ["Config", "TrainConfig", "load_config", "override"]


class Config(BaseModel):
    """The rules of every settings object: no unknown key, no change after it was made."""

    model_config = ConfigDict(
        extra="forbid",  # a misspelt key must not be a silent default
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "the settings") -> Self:
        """Check `values` and return the settings; say what is wrong in plain words.

        Raises `ConfigError` naming the key, the value and what is expected.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = list(cls.model_fields)
                raise ConfigError(
                    f"Unknown key {key!r} in {source}.{did_you_mean(key, known)} "
                    f"Known keys: {', '.join(known)}."
                ) from None
            raise ConfigError(
                f"{key} = {first.get('input')!r} in {source}: {first['msg'][0].lower()}"
                f"{first['msg'][1:]}."
            ) from None

    def to_yaml(self) -> str:
        """Return every setting with its value as YAML, ready for `--config`."""
        text: str = yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
        return text


class TrainConfig(Config):
    """How a classifier is trained. The defaults are those of the `allkit train` command."""

    backbone: str = Field("vgg16", description="name of a backbone, see `allkit plugins`")
    weights: str = Field(
        "default", description="`default` (pretrained), `none` (random), or a .safetensors file"
    )
    strategy: Literal["head"] = Field(
        "head", description="what is trained: the head, on features of the frozen backbone"
    )
    augment: tuple[str, ...] = Field(
        ("standard",), description="augmentations of the training images, applied in this order"
    )
    copies: int = Field(1, ge=0, le=64, description="augmented copies of each training image")
    epochs: int = Field(40, ge=1, le=10_000, description="passes over the training images, at most")
    patience: int = Field(
        10, ge=1, description="epochs without a better validation loss before training stops"
    )
    batch_size: int = Field(64, ge=1, description="images in one step of the head's training")
    learning_rate: float = Field(
        3e-3, gt=0, le=10, description="of AdamW at the start; it falls to nought as a cosine"
    )
    weight_decay: float = Field(1e-2, ge=0, description="decoupled weight decay of AdamW")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of features dropped in training")
    class_weights: bool = Field(
        False, description="weigh every class alike in the loss, whatever its number of images"
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
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of split, augmentation and training")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the frozen backbone's features in training; auto: bfloat16 where the "
        "processor computes it natively. Answers are always computed in float32",
    )


def load_config(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings into a plain dictionary; raise `ConfigError` if it is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the settings file {path}: {error.strerror or error}. Check the path."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{path} is not YAML: {line}. `--print-config` shows the form.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must hold `key: value` lines. `--print-config` shows the form.")
    return values


def override(values: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Return `values` with `key=value` assignments applied; the values are read as YAML."""
    merged = dict(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r} is not of the form key=value.")
        try:
            merged[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment!r}: the value is not readable as YAML.") from None
    return merged
