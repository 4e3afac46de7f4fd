"""Which weights a backbone is built with."""

from __future__ import annotations

import os
from pathlib import Path

from allkit.errors import ConfigError
from allkit.records import Weights

__all__ = ["resolve_weights"]


def resolve_weights(backbone: str, setting: str) -> Weights:
    """Return what a backbone is built with: `"none"`, `"default"` or a file.

    `setting` is the user's: a path, `"none"` or `"default"`; with `"default"`, a file in the
    folder that `ALLKIT_WEIGHTS` names comes first: `vgg16.safetensors`, and for `timm:resnet18`
    `timm_resnet18.safetensors`.
    """
    if setting == "none":
        return "none"
    if setting != "default":
        path = Path(setting)
        if not path.is_file():
            raise ConfigError(
                f"The weights {setting!r} are not a file. Give a .safetensors file, `default` for "
                f"the pretrained weights, or `none` for random ones."
            )
        return path
    folder = os.environ.get("ALLKIT_WEIGHTS")
    if folder:
        file = Path(folder) / f"{backbone.replace(':', '_')}.safetensors"
        if file.is_file():
            return file
    return "default"
