"""A backbone of the user's own: a module, or what makes one, as a record; known again by its tensors."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from allkit.builtin.sequences import as_sequence, stages_of
from allkit.config.own import own_name
from allkit.errors import AllkitError, CheckpointError, ConfigError, PluginError
from allkit.network.modules import Branches, joined
from allkit.network.weights import load_weights
from allkit.records import Backbone, Weights

__all__ = [
    "OWN_PARTS",
    "Given",
    "classifier_in",
    "own_backbone",
    "require_given",
    "require_same",
    "skeleton",
    "structure_of",
]

Given = nn.Module | Backbone | Callable[[], nn.Module]
"""What is taken for an own backbone."""
CLASSIFIERS = ("classifier", "fc", "head", "heads", "last_linear")
"""What torchvision and timm call the layer that names classes."""
OWN_PARTS = "own parts"
"""What models name in place of the plugin of an own backbone."""


def own_backbone(given: Given, *, name: str | None = None) -> Backbone:
    """Return the record of an own backbone, named after it: `own:ResNet`.

    `given` is a module that maps `(N, 3, S, S)` float32 to `(N, D)`, a function without arguments that
    makes one, or a record. A module is copied, never changed; it begins with the weights that it has. Its
    input is 224 pixels with the normalisation of ImageNet, unless a record says otherwise. It can be cut
    where it is an `nn.Sequential`, or of a class of timm that is known to be a chain.

    Raises `ConfigError` when it is none of these, or has layers whose size is not known yet, and
    `PluginError` when it cannot be copied or made.
    """
    if isinstance(given, Backbone):
        return replace(given, name=name or own_name(given))
    if isinstance(given, nn.Module):
        called, make = name or own_name(type(given)), _copier(given)
    elif callable(given):
        called, make = name or own_name(given), given
    else:
        raise ConfigError(
            f"The backbone is {given!r:.100}. Give its name, a module of torch, a function that makes one, "
            f"or an allkit.Backbone."
        )

    def build(weights: Weights) -> nn.Module:
        module = _in_parts(_made(make, called).cpu().float())
        if isinstance(weights, Path):
            load_weights(module, weights)
        return module

    with torch.random.fork_rng(devices=[]):
        probe = given if isinstance(given, nn.Module) else _made(make, called)
    _require_sizes(probe, called)
    return Backbone(called, build, stages=_stages(probe), license="own")


def structure_of(module: nn.Module) -> str:
    """Return SHA-256 over the names, kinds and shapes of a module's tensors."""
    lines = [f"{n} {t.dtype} {tuple(t.shape)}" for n, t in sorted(module.state_dict().items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def require_given(name: str, given: Given | None) -> Given:
    """Return what is given for the own backbone `name`; raise `PluginError` when nothing is."""
    if given is None:
        raise PluginError(
            f"This model has an own backbone ({name!r}), which its folder does not hold. Give a module that "
            f"is built like it: Classifier.load(folder, backbone=module). For the command line export the "
            f"model, or offer the backbone in a plugin (`allkit plugins new`) and train again."
        )
    return given


def require_same(name: str, module: nn.Module, structure: str) -> None:
    """Raise `CheckpointError` when `module` has not the tensors of the own backbone of a model."""
    if structure_of(module) != structure:
        raise CheckpointError(
            f"The backbone that is given has other tensors than {name!r}, with which the model was trained. "
            f"Give a module that is built like that one; its weights do not count."
        )


def skeleton(backbone: nn.Module) -> nn.Module:
    """Return a copy of a network's backbone as it was before members got stages of their own."""
    if isinstance(backbone, Branches):
        tail = backbone.tails[0]
        return copy.deepcopy(joined(backbone.trunk, tail))
    return copy.deepcopy(backbone)


def _copier(module: nn.Module) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        try:
            return copy.deepcopy(module)
        except Exception as error:
            raise PluginError(
                f"The module {type(module).__name__} cannot be copied ({type(error).__name__}: "
                f"{str(error)[:200]}). Give a function that makes it."
            ) from error

    return make


def _made(make: Callable[[], object], name: str) -> nn.Module:
    """Return what a function of the user makes; whatever is wrong with it is its own mistake."""
    try:
        module = make()
    except AllkitError:
        raise
    except Exception as error:
        raise PluginError(
            f"The function of the backbone {name!r} failed: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    if not isinstance(module, nn.Module):
        raise PluginError(
            f"The function of the backbone {name!r} returned a {type(module).__name__}, no module of torch."
        )
    return module


def _require_sizes(module: nn.Module, name: str) -> None:
    """Raise `ConfigError` for a layer that takes its size from the first input, as `LazyLinear` does."""
    for where, part in module.named_modules():
        tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if any(is_lazy(tensor) for tensor in tensors):
            raise ConfigError(
                f"The layer {where or type(part).__name__!r} of the backbone {name!r} takes its size from "
                f"its first input ({type(part).__name__}), and has none yet. Run the module once before you "
                f"give it, on torch.zeros(1, 3, 224, 224), or name the size."
            )


def classifier_in(module: nn.Module, width: int) -> str:
    """Return the name of the linear layer that makes a module's outputs logits; empty for features.

    It is the last one, is called as classifiers are in torchvision and timm, and has `width` outputs, those
    of the module: what is taken for features is then an answer about other classes.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        return ""
    last = module.get_submodule(linear[-1])
    called = linear[-1].split(".")
    same = isinstance(last, nn.Linear) and last.out_features == width
    return linear[-1] if same and not {*called}.isdisjoint(CLASSIFIERS) else ""


def _in_parts(module: nn.Module) -> nn.Module:
    """Return a network of timm without its classifier as a chain of its stages, others as they are."""
    return as_sequence(module) if getattr(module, "num_classes", None) == 0 else module


def _stages(module: nn.Module) -> tuple[str, ...]:
    if getattr(module, "num_classes", None) == 0 and stages_of(module):
        return stages_of(module)
    if type(module) is not nn.Sequential:  # a subclass may have a forward pass of its own
        return ()
    return tuple(
        name
        for name, child in module.named_children()
        if next(child.parameters(), None) is not None
    )
