"""The backbones that come with allkit, all through timm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import CheckpointError, PluginError, did_you_mean
from allkit.hookspecs import hookimpl
from allkit.records import Backbone, BackboneFamily, InputSpec
from allkit.telemetry import import_silent, silent_hub

if TYPE_CHECKING:
    from torch import nn

    from allkit.records import Weights

api_version = 2

CELL_SIZE = 56  # pixels a side of the picture of a cell: VGG16 is slow, 96 cost three times as much
HUB_SECONDS = 4.0  # to find out whether the hub answers; timm alone would try for 47


def _create(name: str, weights: Weights, known_as: str) -> Any:
    """Return timm's model without its classifier, with the wanted weights.

    `known_as` is the name of the backbone, by which the user's own weights are found.
    """
    timm = import_silent("timm")
    if weights == "default":
        try:
            with silent_hub() as hub:
                _require_hub(hub, name, known_as)
                return timm.create_model(name, pretrained=True, num_classes=0)
        except CheckpointError:
            raise
        except Exception as error:
            raise _no_weights(known_as, str(error).splitlines()[0][:200]) from error
    model = timm.create_model(name, pretrained=False, num_classes=0)
    if isinstance(weights, Path):
        from allkit.network.weights import load_weights

        load_weights(model, weights)
    return model


def _require_hub(hub: Any, name: str, known_as: str) -> None:
    """Raise within five seconds when the weights are neither in the hub's cache nor reachable."""
    timm = import_silent("timm")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise _no_weights(known_as, "timm has no pretrained weights for it")
    file = "model.safetensors"
    if isinstance(hub.try_to_load_from_cache(config.hf_hub_id, file), str):
        return
    if hub.constants.HF_HUB_OFFLINE:
        raise _no_weights(known_as, "HF_HUB_OFFLINE is set and they are not in the hub's cache")
    url = hub.hf_hub_url(config.hf_hub_id, file)
    # In a thread, because looking a name up has no time limit of its own.
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        pool.submit(hub.get_hf_file_metadata, url, timeout=HUB_SECONDS).result(HUB_SECONDS)
    except FutureTimeout:
        raise _no_weights(
            known_as, f"the hub did not answer in {HUB_SECONDS:.0f} seconds"
        ) from None
    except Exception as error:  # noqa: BLE001 - every library on the way has its own types
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise _no_weights(known_as, f"the hub cannot be reached ({reason})") from None
    finally:
        pool.shutdown(wait=False)


def _no_weights(name: str, reason: str) -> CheckpointError:
    file = f"{name.replace(':', '_')}.safetensors"
    return CheckpointError(
        f"The pretrained weights of {name!r} are not available: {reason}. Give a local file as `weights` "
        f"(--weights FILE.safetensors), or put {file} into a folder that ALLKIT_WEIGHTS names; "
        f"weights=none starts from random weights."
    )


def _vgg16(weights: Weights) -> nn.Module:
    """Thirteen convolutions in five blocks, averaged after the last two: 1024 features, 59 MB."""
    from torch import nn

    blocks = _blocks(_features_only(weights))
    name, last = blocks.pop()
    return nn.Sequential(OrderedDict([*blocks, (name, _both_levels(last))]))


def _both_levels(block: Any) -> nn.Module:
    """Return a module that averages what goes into `block` and what comes out, side by side.

    The fourth block still sees texture that the fifth has condensed away; on cells of 30 pixels
    it is worth 0.6 points of accuracy on unseen groups (docs/adr/0003).
    """
    import torch
    from torch import nn

    class BothLevels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = block

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = self.layers(inputs)
            return torch.cat([inputs.mean(dim=(2, 3)), outputs.mean(dim=(2, 3))], dim=1)

    return BothLevels()


def _features_only(weights: Weights) -> Any:
    """Return VGG16's convolutions; a file needs to hold no more than these."""
    from torch import nn

    model = _create("vgg16", weights if weights == "default" else "none", "vgg16")
    if isinstance(weights, Path):
        from allkit.network.weights import load_weights

        load_weights(nn.ModuleDict({"features": model.features}), weights)
    return model.features


def _vgg16_wide(weights: Weights) -> nn.Module:
    """The original VGG16 with its two 4096-wide layers: 4096 features, 537 MB."""
    from torch import nn

    model = _create("vgg16", weights, "vgg16-wide")
    return nn.Sequential(
        OrderedDict(
            [
                *_blocks(model.features),
                ("wide", model.pre_logits),
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flatten", nn.Flatten()),
            ]
        )
    )


def _blocks(convolutions: Any) -> list[tuple[str, Any]]:
    # Each block ends with its max-pooling layer; the layers keep their numbers.
    ends = [5, 10, 17, 24, 31]
    starts = [0, *ends[:-1]]
    return [
        (f"block{number}", convolutions[start:end])
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]


_STAGES = ("block1", "block2", "block3", "block4", "block5")


def _family(name: str) -> Backbone:
    """Return the record for timm's model `name`."""
    timm = import_silent("timm")
    plain = name.split(".")[0]
    if not timm.is_model(plain):
        raise PluginError(
            f"timm has no model {name!r}.{did_you_mean(plain, timm.list_models())} "
            f"`allkit plugins list --family timm` shows them all."
        )
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    spec, licence = InputSpec(), "unknown"
    if config is not None:
        mean, std = (tuple(float(v) for v in values) for values in (config.mean, config.std))
        if len(mean) != 3 or len(std) != 3:
            raise PluginError(f"timm's {name!r} takes {len(mean)} channels; allkit gives it three.")
        spec = InputSpec(
            int(config.input_size[1]), (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        )
        licence = config.license or "unknown"
    return Backbone(
        f"timm:{name}",
        partial(_build_timm, name),
        input=spec,
        stages=_stages(name),
        license=licence,
        summary="from timm",
    )


@cache
def _stages(name: str) -> tuple[str, ...]:
    """Return the stages of timm's model `name`, by building it without memory for its weights."""
    import torch

    from allkit.builtin.sequences import stages_of

    timm = import_silent("timm")
    with torch.device("meta"):
        return stages_of(timm.create_model(name, pretrained=False, num_classes=0))


def _build_timm(name: str, weights: Weights) -> nn.Module:
    from allkit.builtin.sequences import as_sequence

    return as_sequence(_create(name, weights, f"timm:{name}"))


def _names() -> Iterable[str]:
    timm = import_silent("timm")
    names: list[str] = timm.list_models()
    return names


@hookimpl
def allkit_backbones() -> Iterable[Backbone | BackboneFamily]:
    """Offer VGG16 in its two forms, and every model of timm by its name."""
    return [
        Backbone(
            "vgg16",
            _vgg16,
            input=InputSpec(cell_size=CELL_SIZE),
            cam_layer="block5.layers.29",
            stages=_STAGES,
            license="BSD-3-Clause",
            summary="VGG16's convolutions, pooled after the last two blocks: 1024 features, 59 MB",
        ),
        Backbone(
            "vgg16-wide",
            _vgg16_wide,
            input=InputSpec(cell_size=CELL_SIZE),
            cam_layer="block5.29",
            stages=(*_STAGES, "wide"),
            license="BSD-3-Clause",
            summary="VGG16 with its two 4096-wide layers: 4096 features, 537 MB",
        ),
        BackboneFamily(
            "timm",
            _family,
            _names,
            summary="any model of timm, by its name",
            example="test_resnet.r160_in1k",
        ),
    ]
