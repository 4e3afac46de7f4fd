"""The backbone of a training, before it learns: where it is cut, and how images are standardised."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from allkit.config import TrainConfig
from allkit.config.own import is_own
from allkit.errors import AllkitError, ConfigError, PluginError
from allkit.features import AugmentedCopy
from allkit.images.cells import FINDER
from allkit.images.finders import kept_finder
from allkit.model.own import OWN_PARTS, classifier_in
from allkit.network.calls import maker_of
from allkit.network.hashes import weights_hash
from allkit.network.modules import build_backbone, cut, measure_width
from allkit.plugins import registry, resolve_weights
from allkit.plugins.host import OWN, Plugin
from allkit.records import Augmentation, Backbone, InputSpec, Reference
from allkit.training.device import choose_precision
from allkit.training.member import cut_index
from allkit.training.memory import out_of_memory
from allkit.training.own import NOTHING, OwnParts

__all__ = ["TrainingBackbone", "load_backbone", "untrained_backbone"]


@dataclass(frozen=True)
class TrainingBackbone:
    """A backbone with its weights as they are before the training.

    `record` holds the input specification; `width` is D of the features of an image, field and
    cells together; `fingerprint` is the hash of the weights. The trained stages are `module[cut:]`;
    without a `cut` only heads are trained.
    """

    config: TrainConfig
    record: Backbone
    provider: Plugin
    module: nn.Module
    width: int
    fingerprint: str
    precision: str
    cut: int | None
    augment: tuple[Augmentation, ...]
    augment_names: tuple[str, ...]
    """Names and versions of the augmentations, or their content; empty where that is not known."""
    own: OwnParts = NOTHING
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every setting of the backbone with its value."""

    @property
    def input(self) -> InputSpec:
        """How an image is standardised for the network."""
        return self.record.input

    @property
    def identity(self) -> tuple[str, ...]:
        """What distinguishes the features of this backbone from all others."""
        name = self.record.name + Reference("", "", self.settings).settings_text
        return (name, self.provider.distribution, self.provider.mark, self.fingerprint)

    @property
    def finder(self) -> str:
        """The finder of white cells, as models name it; empty where the bag holds none."""
        if self.input.bag == "field":
            return ""
        return FINDER if self.config.finder is None else kept_finder(self.config.finder)

    @property
    def copies(self) -> int:
        """The number of augmented copies of each training image."""
        return self.config.copies if self.augment else 0

    def copy(self, number: int) -> AugmentedCopy | None:
        """Return the augmented copy of that number; number 0 is the image as it is, `None`."""
        if not number:
            return None
        return AugmentedCopy(number, self.augment, self.augment_names, self.config.seed)

    @property
    def keeps_copies(self) -> bool:
        """Whether augmented copies may be kept: their augmentations can be told from all others."""
        return all(self.augment_names)

    @property
    def plugins(self) -> dict[str, str]:
        """The distributions that the parts come from, each with what tells its code from others'."""
        return {plugin.distribution: plugin.mark for plugin in self.own.plugins(self.config)}

    @property
    def keeps_activations(self) -> bool:
        """Whether the activations at the cut are the same in every epoch, and worth keeping."""
        return bool(self.cut) and self.config.strategy != "full"

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return the frozen trunk and the tail, which share their modules with the backbone."""
        return cut(self.module, self.cut or 0)


def untrained_backbone(config: TrainConfig, own: OwnParts = NOTHING) -> nn.Module:
    """Return the backbone as it is before the training."""
    record = own.record(config.backbone)
    if own.backbone is None:
        origin = registry().provider("backbone", config.backbone).origin
    else:
        origin = OWN_PARTS
    return build_backbone(record, resolve_weights(record.name, config.weights), origin)


def load_backbone(
    config: TrainConfig,
    device: torch.device,
    *,
    module: nn.Module | None = None,
    own: OwnParts = NOTHING,
) -> TrainingBackbone:
    """Return the backbone of the settings; `module` is it where it is at hand, with its weights.

    Raises `ConfigError` when it cannot be trained like this, and `PluginError` when it cannot be
    built.
    """
    own.require(config)
    config = own.in_full(config)
    record = own.record(config.backbone)
    if config.bag != "field" and config.strategy != "head":
        raise ConfigError(
            f"bag = {config.bag} is only learnt by the strategy head, not by {config.strategy}: "
            f"the stages are trained on whole fields. Choose `bag: field` or `strategy: head`."
        )
    spec = replace(
        record.input,
        view=config.view,
        bag=config.bag,
        cell_size=config.cell_size or record.input.cell_size,
        max_cells=config.max_cells,
        spread=True,
    )
    record = replace(record, input=spec)
    augment, marks = own.augmentations(config.augment)
    precision = choose_precision(config.precision, device)
    module = untrained_backbone(config, own) if module is None else module
    width = _width(module, record)  # first: everything below runs the module too
    return TrainingBackbone(
        config=config,
        record=record,
        provider=own.provider(config.backbone, record, module),
        module=module,
        width=width,
        fingerprint=weights_hash(module),
        precision=precision,
        cut=None if config.strategy == "head" else cut_index(module, record, config),
        augment=augment,
        augment_names=tuple(marks),
        own=own,
        settings=own.settings_of(config.backbone),
    )


def _width(module: nn.Module, record: Backbone) -> int:
    """Return D of the features of an image, of its field and its cells together."""
    spec, name = record.input, record.name
    # Allkit's own are tested; whether those of others depend on the batch is tried on the smaller input.
    batches = (1,) if _built_in(module) else (1, 2, 3)
    width = 0
    if spec.bag != "cells":
        width = _measured(module, spec, name, (1,) if spec.bag == "both" else batches)
    if spec.bag != "field":
        of_a_cell = replace(spec, size=spec.cell_size)
        try:
            cells = measure_width(module, of_a_cell, name, batches=batches)
        except (RuntimeError, AssertionError, PluginError) as error:
            cause = error.__cause__ if isinstance(error, PluginError) else error
            if not isinstance(cause, (RuntimeError, AssertionError)):
                raise
            raise ConfigError(
                f"The backbone {name!r} cannot take pictures of single cells, {spec.cell_size} pixels "
                f"a side: {str(cause)[:200]} Choose `bag: field`, another `cell_size` or another backbone."
            ) from None
        width += cells
    return width


def _built_in(module: nn.Module) -> bool:
    maker = maker_of(module)
    return maker is not None and maker.origin.partition(" ")[0] == OWN


def _measured(module: nn.Module, spec: InputSpec, name: str, batches: Sequence[int]) -> int:
    """Return D of the features of a field; whatever is wrong with the module is told with its name."""
    try:
        width = measure_width(module, spec, name, batches=batches)
    except AllkitError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise PluginError(
            f"The backbone {name!r} failed on an image of zeros, (1, 3, {spec.size}, {spec.size}) float32: "
            f"{type(error).__name__}: {str(error)[:300]}. It has to map (N, 3, S, S) to features (N, D)."
        ) from error
    layer = classifier_in(module, width) if is_own(name) else ""
    if layer:
        warnings.warn(
            f"The backbone {name!r} ends in a classifier ({layer}): its {width} outputs are taken for "
            f"features. Give it without, as timm.create_model(..., num_classes=0) makes it, or put "
            f"torch.nn.Identity() in the place of {layer}.",
            stacklevel=5,
        )
    return width
