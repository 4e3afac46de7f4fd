"""DinoBloom as allkit backbones: vision transformers trained on blood cells.

Koch et al., "DinoBloom: A Foundation Model for Generalizable Cell Embeddings in Hematology"
(MICCAI 2024, arXiv 2404.05022): DINOv2 ViT-S/14 and ViT-B/14 trained further on single cells of
13 public sets. The weights are those in timm's form on the hub; their licence is in the README.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit import AllkitError, Backbone, hookimpl
from allkit.telemetry import import_silent, silent_hub

if TYPE_CHECKING:
    from torch import nn

api_version = 2

STAGES = ("tokens", *(f"block{number}" for number in range(1, 13)), "top")
HUB = "1aurent/vit_{}_patch14_224.dinobloom"
# timm's architecture, the repository of the weights, what to expect.
MODELS = {
    "dinobloom-s": ("vit_small_patch14_dinov2", HUB.format("small"), "384 features, 87 MB"),
    "dinobloom-b": ("vit_base_patch14_dinov2", HUB.format("base"), "768 features, 343 MB"),
}


def build(name: str, weights: str | Path) -> nn.Module:
    """Return the network, `(N, 3, 224, 224)` → `(N, D)`: tokens, twelve blocks, class token."""
    timm = import_silent("timm")
    architecture, repository, _ = MODELS[name]
    model = timm.create_model(architecture, pretrained=False, num_classes=0, img_size=224)
    if isinstance(weights, Path):
        from allkit import load_weights

        load_weights(model, weights)
    elif weights == "default":
        _load_from_hub(model, name, repository)
    return staged(model)


def staged(model: Any) -> nn.Module:
    """Return timm's vision transformer as a sequence that can be cut behind every block."""
    import torch
    from torch import nn

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = model.patch_embed
            self.cls_token = model.cls_token
            self.pos_embed = model.pos_embed

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            patches = self.patch_embed(inputs)
            front = self.cls_token.expand(patches.shape[0], -1, -1)
            return torch.cat([front, patches], dim=1) + self.pos_embed

    class Top(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = model.norm

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.norm(tokens)[:, 0]

    blocks = [(f"block{number}", block) for number, block in enumerate(model.blocks, start=1)]
    return nn.Sequential(OrderedDict([("tokens", Tokens()), *blocks, ("top", Top())]))


def _load_from_hub(model: Any, name: str, repository: str) -> None:
    from allkit import load_weights

    file = "model.safetensors"
    with silent_hub() as hub:
        path = hub.try_to_load_from_cache(repository, file)
        try:
            if not isinstance(path, str):
                hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=4)
                path = hub.hf_hub_download(repository, file)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise AllkitError(
                f"The weights of {name!r} ({repository} on the hub) cannot be fetched: {reason} "
                f"Give the file with --weights FILE.safetensors, or put {name}.safetensors into a "
                f"folder that ALLKIT_WEIGHTS names."
            ) from error
    load_weights(model, Path(path))


@hookimpl
def allkit_backbones() -> Iterable[Backbone]:
    """Offer DinoBloom-S and DinoBloom-B."""
    return [
        Backbone(
            name,
            partial(build, name),
            stages=STAGES,
            cam_layer="block12.norm1",
            license="Apache-2.0",
            summary=f"vision transformer trained on blood cells: {size}",
        )
        for name, (_, _, size) in MODELS.items()
    ]
