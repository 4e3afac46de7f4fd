"""A backbone as it was written for allkit 0.2.0: fields by their places."""

from allkit import Backbone, InputSpec, hookimpl


def build(weights):
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )


@hookimpl
def allkit_backbones():
    return [
        Backbone("saved-net", build, InputSpec(size=32), None, (), "bsd-3-clause", "as in 0.2.0")
    ]
