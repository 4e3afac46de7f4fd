"""torchvision's classification networks as allkit backbones: `torchvision:NAME`.

A network comes without its classifier, as a chain of stages that it can be cut behind; it computes what
torchvision's own does up to there. Size, mean and deviation are those that belong to torchvision's
weights. These come from torchvision's server on first use, or from a file.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from allkit import AllkitError, Backbone, BackboneFamily, InputSpec, hookimpl
from allkit.errors import PluginError, did_you_mean
from allkit.telemetry import import_silent

if TYPE_CHECKING:
    from torch import nn

    Chain = list[tuple[str, nn.Module]]

api_version = 2

ANSWERS_IN = 4.0
"""Seconds in which the server of the weights has to answer."""
LEFT_OUT = {
    "googlenet": "it is no chain: it has side branches that answer too",
    "inception_v3": "it is no chain: it has side branches that answer too",
    "regnet_y_128gf": "its only weights may not be used commercially",
    "vit_h_14": "its only weights may not be used commercially",
}
FIXED_SIZE = ("vit_", "maxvit_")
"""Networks that take inputs of one size only, so that cells are shown to them at that size too."""
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")

# ── as a chain of stages ───────────────────────────────────────────────────────────────────────


def _resnet(net: Any) -> tuple[Chain, str]:
    stages = [(name, getattr(net, name)) for name in ("layer1", "layer2", "layer3", "layer4")]
    return [("stem", _part(net, "conv1", "bn1", "relu", "maxpool")), *stages, _pool()], "layer4"


def _blocks(net: Any) -> tuple[Chain, str]:
    """Cut a flat row of layers behind every pooling."""
    from torch import nn

    layers = list(net.features.named_children())
    ends = [i + 1 for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    places = [0, *ends, *([] if ends[-1] == len(layers) else [len(layers)])]
    chain: Chain = [
        (f"block{number}", net.features[start:end])
        for number, (start, end) in enumerate(pairwise(places), start=1)
    ]
    last = [name for name, layer in layers if not isinstance(layer, nn.MaxPool2d)][-1]
    return [*chain, _pool()], f"{chain[-1][0]}.{last}"


def _features(net: Any) -> tuple[Chain, str]:
    """Take every part of `features` as a stage."""
    chain: Chain = [(f"stage{n}", part) for n, part in enumerate(net.features)]
    return [*chain, _pool()], chain[-1][0]


def _convnext(net: Any) -> tuple[Chain, None]:
    chain: Chain = [(f"stage{n}", part) for n, part in enumerate(net.features)]
    parts = [("avgpool", net.avgpool), *net.classifier[:2].named_children()]
    top = type(net.features)(OrderedDict(parts))
    # A norm after the average takes off what all places have in common, which no map of one layer shows.
    return [*chain, ("top", top)], None


def _densenet(net: Any) -> tuple[Chain, str]:
    from torch import nn

    parts = net.features
    stages = [(f"stage{n}", _part(parts, f"denseblock{n}", f"transition{n}")) for n in (1, 2, 3)]
    stem = _part(parts, "conv0", "norm0", "relu0", "pool0")
    top = nn.Sequential(OrderedDict(norm5=parts.norm5, relu=nn.ReLU()))
    chain = [("stem", stem), *stages, ("stage4", parts.denseblock4), ("top", top), _pool()]
    return chain, "top"


def _mnasnet(net: Any) -> tuple[Chain, str]:
    chain: Chain = [
        ("stem", net.layers[:8]),
        *((f"stage{n}", net.layers[7 + n : 8 + n]) for n in range(1, 7)),
        ("top", net.layers[14:]),
    ]
    return [*chain, _pool()], "top"


def _shufflenet(net: Any) -> tuple[Chain, str]:
    stages = [(name, getattr(net, name)) for name in ("stage2", "stage3", "stage4", "conv5")]
    return [("stem", _part(net, "conv1", "maxpool")), *stages, _pool()], "conv5"


def _regnet(net: Any) -> tuple[Chain, str]:
    return [("stem", net.stem), *net.trunk_output.named_children(), _pool()], "block4"


def _swin(net: Any) -> tuple[Chain, str]:
    chain: Chain = [(f"stage{n}", part) for n, part in enumerate(net.features)]
    return [*chain, ("top", _part(net, "norm", "permute", "avgpool", "flatten"))], "top.permute"


def _maxvit(net: Any) -> tuple[Chain, str]:
    blocks = [(f"block{n}", block) for n, block in enumerate(net.blocks, start=1)]
    return [("stem", net.stem), *blocks, ("top", net.classifier[:3])], blocks[-1][0]


def _vit(net: Any) -> tuple[Chain, str]:
    import torch
    from torch import nn

    class Tokens(nn.Module):
        """From an image to the class token and one token for each patch, with their places."""

        def __init__(self) -> None:
            super().__init__()
            self.conv_proj, self.class_token = net.conv_proj, net.class_token
            self.pos_embedding, self.dropout = net.encoder.pos_embedding, net.encoder.dropout

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            patches = self.conv_proj(inputs).flatten(2).transpose(1, 2)
            front = self.class_token.expand(patches.shape[0], -1, -1)
            tokens: torch.Tensor = self.dropout(
                torch.cat([front, patches], dim=1) + self.pos_embedding
            )
            return tokens

    class Top(nn.Module):
        """The class token, normalised."""

        def __init__(self) -> None:
            super().__init__()
            self.ln = net.encoder.ln

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            token: torch.Tensor = self.ln(tokens)[:, 0]
            return token

    blocks = [(f"block{n}", block) for n, block in enumerate(net.encoder.layers, start=1)]
    return [("tokens", Tokens()), *blocks, ("top", Top())], f"{blocks[-1][0]}.ln_1"


CHAINS: dict[str, Callable[[Any], tuple[Chain, str | None]]] = {
    "AlexNet": _blocks,
    "ConvNeXt": _convnext,
    "DenseNet": _densenet,
    "EfficientNet": _features,
    "MNASNet": _mnasnet,
    "MaxVit": _maxvit,
    "MobileNetV2": _features,
    "MobileNetV3": _features,
    "RegNet": _regnet,
    "ResNet": _resnet,
    "ShuffleNetV2": _shufflenet,
    "SqueezeNet": _blocks,
    "SwinTransformer": _swin,
    "VGG": _blocks,
    "VisionTransformer": _vit,
}
"""How a network of each class is taken apart: its stages, and the layer that maps are made of."""


def _part(net: Any, *names: str) -> nn.Module:
    from torch import nn

    return nn.Sequential(OrderedDict((name, getattr(net, name)) for name in names))


def _pool() -> tuple[str, nn.Module]:
    from torch import nn

    return "pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@cache
def described(name: str) -> tuple[tuple[str, ...], str | None]:
    """Return the stages of a network and its layer for maps, without memory for its weights."""
    import torch

    if name.startswith("regnet"):  # it computes with the sizes of its parts while it is built
        return ("stem", "block1", "block2", "block3", "block4"), "block4"
    with torch.device("meta"):
        net = _made(name)
        chain, layer = CHAINS[type(net).__name__](net)
    weighty = [part for part, module in chain if next(module.parameters(), None) is not None]
    return tuple(weighty), layer


def _made(name: str) -> Any:
    return import_silent("torchvision").models.get_model(name, weights=None)


# ── with its weights ───────────────────────────────────────────────────────────────────────────


def build(name: str, weights: str | Path) -> nn.Module:
    """Return the network without its classifier, `(N, 3, S, S)` → `(N, D)`, as a chain of stages."""
    from torch import nn

    from allkit import load_weights

    net = _made(name)
    chain, _ = CHAINS[type(net).__name__](net)
    sequence = nn.Sequential(OrderedDict(chain))
    if weights == "default":
        net.load_state_dict(_fetched(name))
    elif isinstance(weights, Path):
        load_weights(_without_the_rest(net, sequence), weights)
    return sequence


def _without_the_rest(net: nn.Module, sequence: nn.Module) -> nn.Module:
    """Return `net`, whose layers have torchvision's names, without those that are not in `sequence`.

    A file needs to hold no more than what is used.
    """
    from torch import nn

    used = {id(module) for module in sequence.modules()}
    for name, module in list(net.named_modules()):
        if id(module) not in used and next(module.children(), None) is None:
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, nn.Identity())
    return net


def _fetched(name: str) -> dict[str, Any]:
    """Return torchvision's weights, from its folder or its server; one error says what to do without."""
    import torch  # its hub; files are opened with weights_only=True, which admits tensors only

    weights = import_silent("torchvision").models.get_model_weights(name).DEFAULT
    kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if not kept.is_file():  # whether the server answers at all, before it is waited for
            urlopen(Request(weights.url, method="HEAD"), timeout=ANSWERS_IN).close()
        state: dict[str, Any] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise AllkitError(
            f"The weights of 'torchvision:{name}' cannot be fetched from {weights.url}: {reason}. Give a "
            f"local file of them with --weights FILE.safetensors, or put torchvision_{name}.safetensors into "
            f"a folder that ALLKIT_WEIGHTS names; weights=none starts from random weights."
        ) from error
    # The files of densenets are from a time when these names had another dot.
    return {OLD_NAME.sub(r"\1\2", key): value for key, value in state.items()}


# ── as a family ────────────────────────────────────────────────────────────────────────────────


def names() -> list[str]:
    """Return the names of the networks that are offered."""
    models = import_silent("torchvision").models
    return [name for name in models.list_models(module=models) if name not in LEFT_OUT]


def get(name: str) -> Backbone:
    """Return the record of torchvision's network `name`."""
    if name in LEFT_OUT:
        raise PluginError(f"torchvision's {name!r} is not offered: {LEFT_OUT[name]}.")
    known = names()
    if name not in known:
        raise PluginError(
            f"torchvision has no classification network {name!r}.{did_you_mean(name, known)} "
            f"`allkit plugins list --family torchvision` shows them all."
        )
    shown = import_silent("torchvision").models.get_model_weights(name).DEFAULT.transforms()
    size = int(shown.crop_size[0])
    stages, layer = described(name)
    return Backbone(
        f"torchvision:{name}",
        partial(build, name),
        input=InputSpec(
            size,
            tuple(shown.mean),
            tuple(shown.std),
            cell_size=size if name.startswith(FIXED_SIZE) else 96,
        ),
        cam_layer=layer,
        stages=stages,
        license="BSD-3-Clause",
        summary="of torchvision, trained on ImageNet",
    )


@hookimpl
def allkit_backbones() -> Iterable[BackboneFamily]:
    """Offer torchvision's classification networks."""
    return [
        BackboneFamily(
            "torchvision",
            get,
            names,
            license="BSD-3-Clause",
            summary="torchvision's classification networks, by their names",
            example="mobilenet_v3_small",
        )
    ]
