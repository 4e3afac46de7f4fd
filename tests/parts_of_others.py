"""A package of somebody else, with one part of each kind that a training takes, each with a setting."""

from types import SimpleNamespace

import numpy as np
from pydantic import BaseModel, Field
from torch import nn

from allkit import Augmentation, Backbone, Finder, Found, View, hookimpl
from allkit.plugins import Registry
from allkit.records import InputSpec


class Gain(BaseModel):
    gain: float = Field(1.0, gt=0, le=10, description="times the features")


class Net(nn.Module):
    def __init__(self, gain=1.0, act=lambda features: features):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.gain, self.act = gain, act

    def forward(self, inputs):
        return self.act(self.gain * self.conv(inputs).relu().mean(dim=(2, 3)))


class Gamma(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def forward(self, image, whole):
        darkest = whole.amin(dim=(1, 2, 3), keepdim=True)
        return ((image - darkest) / (1.0 - darkest).clamp(min=0.02)).clamp(0.0, 1.0) ** self.gamma


class Exponent(BaseModel):
    gamma: float = Field(1.0, gt=0.1, lt=10)


class Shade(BaseModel):
    depth: float = Field(0.3, ge=0, le=1, description="darker by up to this share")


class Size(BaseModel):
    cells: int = Field(2, ge=0, le=50)


def net(weights, settings):
    return Net(settings.gain)


def gamma(size, settings):
    return Gamma(settings.gamma)


def shade(image, rng, settings):
    return (image * rng.uniform(1 - settings.depth, 1.0)).astype(np.uint8)


def darkest(image, settings):
    """Say that cells lie on the diagonal: a finder that is quick and wrong."""
    height, width = image.shape[:2]
    steps = (np.arange(settings.cells) + 1) / (settings.cells + 1)
    centres = np.stack([steps * width, steps * height], axis=1)
    return Found(centres, np.linspace(10, 20, settings.cells), red_cell=15.0)


INPUT = InputSpec(64)
RECORDS = {
    "allkit_backbones": [Backbone("net", net, INPUT, settings=Gain)],
    "allkit_augmentations": [Augmentation("shade", shade, settings=Shade)],
    "allkit_views": [View("gamma", gamma, settings=Exponent)],
    "allkit_finders": [Finder("diagonal", darkest, settings=Size)],
}


def module(**records):
    """Return a plugin that offers these records by the names of their hooks."""
    hooks = {name: hookimpl(lambda kept=kept: list(kept)) for name, kept in records.items()}
    return SimpleNamespace(api_version=2, **hooks)


def host(*, version="1.2", distribution="acme", **records):
    """Return a registry of the built-in parts and of one package of others."""
    made = Registry(discover=False)
    made.register(
        module(**(records or RECORDS)), name="parts", distribution=distribution, version=version
    )
    return made


SETTINGS = {
    "backbone": "net",
    "weights": "none",
    "view": "rgb",
    "bag": "field",
    "cache": None,
    "calibration_folds": 0,
    "progress": None,
}
"""Of a training of a second."""

__all__ = ["INPUT", "RECORDS", "SETTINGS", "Gain", "Net", "host", "module"]
