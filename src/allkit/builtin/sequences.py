"""timm's networks as a chain of stages, so that they can be cut for caching and unfreezing.

A network is taken apart only when its class is exactly one whose forward pass is known to be a
chain; any other is left whole and has no stages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["as_sequence", "stages_of"]

Chain = list[tuple[str, nn.Module]]


def as_sequence(model: nn.Module) -> nn.Module:
    """Return `model` (built with `num_classes=0`) as an `nn.Sequential` of its stages, or as it is.

    The modules are the model's own: it computes the same.
    """
    chain = _chain(model)
    return nn.Sequential(OrderedDict(chain)) if chain else model


def stages_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the stages of `model`, in order; empty when it cannot be cut.

    What holds no weights (the pooling at the end) is no stage of its own.
    """
    return tuple(
        name for name, module in _chain(model) if next(module.parameters(), None) is not None
    )


def _chain(model: nn.Module) -> Chain:
    kind = type(model)
    known = _KNOWN.get(kind.__name__)
    # A subclass of the same name elsewhere, or with a forward pass of its own, is not known.
    if known is None or not kind.__module__.startswith("timm.models."):
        return []
    return known(model)


def _resnet(model: Any) -> Chain:
    layers = [(name, getattr(model, name)) for name in ("layer1", "layer2", "layer3", "layer4")]
    stem = nn.Sequential(
        OrderedDict((n, getattr(model, n)) for n in ("conv1", "bn1", "act1", "maxpool"))
    )
    return [("stem", stem), *layers, ("pool", model.global_pool)]


def _efficientnet(model: Any) -> Chain:
    stem = nn.Sequential(OrderedDict(conv_stem=model.conv_stem, bn1=model.bn1))
    top = nn.Sequential(OrderedDict(conv_head=model.conv_head, bn2=model.bn2))
    return [("stem", stem), *_numbered(model.blocks), ("top", top), ("pool", model.global_pool)]


def _mobilenetv3(model: Any) -> Chain:
    stem = nn.Sequential(OrderedDict(conv_stem=model.conv_stem, bn1=model.bn1))
    names = ("global_pool", "conv_head", "norm_head", "act2", "flatten")
    top = nn.Sequential(OrderedDict((name, getattr(model, name)) for name in names))
    return [("stem", stem), *_numbered(model.blocks), ("top", top)]


def _convnext(model: Any) -> Chain:
    top = nn.Sequential(OrderedDict(norm_pre=model.norm_pre, head=model.head))
    return [("stem", model.stem), *_numbered(model.stages), ("top", top)]


def _regnet(model: Any) -> Chain:
    stages = [(name, getattr(model, name)) for name in ("s1", "s2", "s3", "s4")]
    top = nn.Sequential(OrderedDict(final_conv=model.final_conv, head=model.head))
    return [("stem", model.stem), *stages, ("top", top)]


def _byobnet(model: Any) -> Chain:
    top = nn.Sequential(OrderedDict(final_conv=model.final_conv, head=model.head))
    return [("stem", model.stem), *_numbered(model.stages), ("top", top)]


def _numbered(modules: Any, name: str = "stage") -> Chain:
    return [(f"{name}{number}", module) for number, module in enumerate(modules, start=1)]


_KNOWN: dict[str, Callable[[Any], Chain]] = {
    "ResNet": _resnet,
    "EfficientNet": _efficientnet,
    "MobileNetV3": _mobilenetv3,
    "ConvNeXt": _convnext,
    "RegNet": _regnet,
    "ByobNet": _byobnet,
}
