"""A family of backbones as it was written for allkit 0.2.0."""

from functools import partial

from allkit import Backbone, BackboneFamily, InputSpec, hookimpl

api_version = 1
WIDTHS = {"narrow": 4, "wide": 16}


def build(width, weights):
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, stride=8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )


def get(name):
    return Backbone(f"saved:{name}", partial(build, WIDTHS[name]), InputSpec(size=32))


@hookimpl
def allkit_backbones():
    return [BackboneFamily("saved", get, names=lambda: list(WIDTHS), example="narrow")]
