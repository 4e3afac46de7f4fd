"""The parts of a classifier, made of what its folder holds, and the arrays that are kept of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from allkit.config.own import is_own
from allkit.errors import CheckpointError, ConfigError, PluginError
from allkit.images.finders import finder_meant
from allkit.model.fit import unfit
from allkit.model.folder import read_model
from allkit.model.info import ModelInfo
from allkit.model.own import (
    OWN_PARTS,
    Given,
    own_backbone,
    require_given,
    require_same,
    skeleton,
)
from allkit.network.around import ordinary
from allkit.network.modules import (
    Branches,
    Head,
    Network,
    build_backbone,
    cut,
    fingerprint,
    other_numbers,
)
from allkit.network.standardise import view_fingerprint
from allkit.plugins import registry
from allkit.plugins.host import OWN
from allkit.plugins.kept import meant
from allkit.plugins.offers import Kind
from allkit.records import Backbone, Reference
from allkit.records.naming import to_install, valid_package
from allkit.trust.arrays import PREFIXES
from allkit.trust.verdict import Trust

__all__ = ["Parts", "arrays_of", "packed", "read_parts", "unpacked", "with_fingerprint"]


class Parts(NamedTuple):
    """What a classifier is made of; `training` holds the signatures of its training images."""

    network: Network
    info: ModelInfo
    trust: Trust
    training: dict[str, npt.NDArray[Any]]


def read_parts(folder: Path, backbone: Given | None = None) -> Parts:
    """Return the parts of the classifier in a model folder.

    `backbone` is the own backbone of a model that was trained with one: it is no part of the folder.
    Raises `CheckpointError` when something is missing or altered, or fits no backbone of today, and
    `PluginError` that says what to install when the plugin of its backbone is missing.
    """
    return parts_of(*read_model(folder), folder, backbone)


def packed(
    network: Network, info: ModelInfo, trust: Trust, training: Mapping[str, npt.NDArray[Any]]
) -> tuple[Any, ...]:
    """Return the parts of a classifier as JSON and a safetensors file, for another process.

    An own backbone is no plugin's, and goes along as the module that it is.
    """
    from safetensors.torch import save

    parts = (info.model_dump_json(), save(arrays_of(network, trust, training)))
    return (*parts, skeleton(network.backbone)) if is_own(info.backbone.name) else parts


@ordinary()
def unpacked(info: str, arrays: bytes, backbone: torch.nn.Module | None = None) -> Parts:
    """Return the parts that `packed` has put together. Raises `PluginError` as `read_parts` does."""
    from safetensors.torch import load

    described = ModelInfo.model_validate_json(info)
    return parts_of(described, load(arrays), "the pickled classifier", backbone)


def parts_of(
    info: ModelInfo, arrays: Mapping[str, Any], where: object, backbone: Given | None = None
) -> Parts:
    """Return the parts of a classifier, from its description and arrays, as torch tensors.

    `where` is what an error calls their place. Raises what `read_parts` raises.
    """
    wrong = unfit(info, arrays)
    if wrong:
        raise CheckpointError(f"{where}: {wrong}. Copy the model again, or train again.")
    record = _backbone_of(info, backbone)
    _require_view_and_finder(info, where)
    origin = OWN_PARTS
    if not is_own(info.backbone.name):
        origin = registry().provider("backbone", info.backbone.reference).origin
    with torch.random.fork_rng(devices=[]):
        module = build_backbone(record, "none", origin)  # its weights are random, and replaced
        if is_own(info.backbone.name):
            require_same(info.backbone.name, module, info.backbone.structure)
        network = _empty_network(where, module, info)
    try:
        given = _under("network.", arrays)
        _require_kinds(network, given)
        network.load_state_dict(given)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()[:200]
        raise CheckpointError(
            f"The arrays in {where} do not fit the backbone {info.backbone.name!r} as "
            f"{info.backbone.distribution} builds it today: {detail} It was saved with "
            f"{info.backbone.distribution} {info.backbone.version}; install that version."
        ) from None
    _warn_of_another_version(info, network.backbone)
    training = {name: array.numpy() for name, array in _under("data.", arrays).items()}
    of_trust = {name: array.numpy() for name, array in arrays.items() if name.startswith(PREFIXES)}
    return Parts(network, info, Trust.from_arrays(info.classes, of_trust), training)


def arrays_of(
    network: Network, trust: Trust, training: Mapping[str, npt.NDArray[Any]]
) -> dict[str, torch.Tensor]:
    """Return the arrays of a model folder, by the names that `read_parts` finds them under."""
    arrays = {
        f"network.{name}": tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    arrays |= {f"data.{name}": torch.from_numpy(array) for name, array in training.items()}
    of_trust = trust.to_arrays().items()
    return arrays | {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in of_trust
    }


def with_fingerprint(info: ModelInfo, backbone: torch.nn.Module) -> ModelInfo:
    """Return the description with the fingerprint of its backbone, which older versions left out."""
    if info.backbone.fingerprint:
        return info
    mark = fingerprint(backbone, info.backbone.input)
    of_backbone = info.backbone.model_copy(update={"fingerprint": mark})
    return info.model_copy(update={"backbone": of_backbone})


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in arrays.items() if n.startswith(prefix)}


def _require_kinds(network: Network, given: Mapping[str, torch.Tensor]) -> None:
    """Raise `RuntimeError` where an array is of another kind of number than the network's."""
    for name, wanted in network.state_dict().items():
        if name in given and given[name].dtype != wanted.dtype:
            raise RuntimeError(f"{name} is of the kind {given[name].dtype}, not {wanted.dtype}.")


def _empty_network(where: object, backbone: torch.nn.Module, info: ModelInfo) -> Network:
    """Return the network that the arrays of a model folder fit."""
    saved = info.backbone
    if saved.cut is not None:
        try:
            trunk, tail = cut(backbone, saved.cut)
            tail_stages = len(tail) if isinstance(tail, torch.nn.Sequential) else 1
        except ValueError:
            tail_stages = 0
        if not tail_stages:
            raise CheckpointError(
                f"{where}: backbone.cut = {saved.cut} leaves nothing of {saved.name!r} to members."
            )
        backbone = Branches(trunk, [copy.deepcopy(tail) for _ in range(saved.members)])
    heads = [Head(saved.width, len(info.classes)) for _ in range(saved.members)]
    return Network(backbone, heads, orientations=saved.orientations)


def _backbone_of(info: ModelInfo, given: Given | None) -> Backbone:
    """Return the backbone's record; `PluginError` says what to install or give when it is missing."""
    if is_own(info.backbone.name):
        return own_backbone(require_given(info.backbone.name, given), name=info.backbone.name)
    if given is not None:
        raise ConfigError(
            f"This model has the backbone {info.backbone.name!r}, which comes with "
            f"{info.backbone.distribution}. Leave `backbone` out."
        )
    record: Backbone = _part_of(info, "backbone", info.backbone.reference)
    return record


def _require_view_and_finder(info: ModelInfo, where: object) -> None:
    """Raise what is missing of what a network is shown, and warn of a plugin of another version."""
    parts: list[tuple[Kind, Reference]] = [("view", meant("view", info.backbone.input.view))]
    if info.backbone.finder:
        parts.append(("finder", finder_meant(info.backbone.finder)))
    for kind, reference in parts:
        if reference.package in ("", OWN):
            try:
                registry().get(kind, reference)
            except PluginError as error:
                raise CheckpointError(
                    f"{where} was trained with the {_NAMES[kind]} {reference.name!r}, which this allkit does "
                    f"not have. Install allkit {info.allkit}, or train again. ({error})"
                ) from None
            continue
        _part_of(info, kind, reference)
        plugin = registry().provider(kind, reference)
        before = info.plugins.get(reference.package, "")
        saved = info.backbone.view_fingerprint if kind == "view" else ()
        if saved and other_numbers(saved, view_fingerprint(info.backbone.input)):
            warnings.warn(
                f"This model was made with the view {reference.name!r} of {reference.package} {before}; that "
                f"of {plugin.origin} shows images otherwise{_EDITED if before == plugin.version else ''}, so "
                f"its metrics are no longer valid. Install what it was made with, or train again.",
                stacklevel=5,
            )
        elif before not in ("", plugin.version):
            warnings.warn(
                f"This model was made with the {_NAMES[kind]} {reference.name!r} of {reference.package} "
                f"{before}, and {plugin.origin} is installed: its answers may be others. Install "
                f"{to_install(reference.package, before)}, or judge the model again.",
                stacklevel=5,
            )


_EDITED = " (its code is another than then, under the same version)"
_NAMES = {"backbone": "backbone", "view": "view", "finder": "cell finder"}


def _part_of(info: ModelInfo, kind: Kind, reference: Reference) -> Any:
    """Return a record that a model needs; `PluginError` says what to install where it is missing."""
    try:
        if not valid_package(reference.package):
            raise CheckpointError(
                f"This model needs the {_NAMES[kind]} {reference.name!r} of {reference.package!r}, which is "
                f"no name of a package: its description is damaged or altered. Copy the model again."
            )
        return registry().get(kind, reference)
    except (PluginError, ConfigError) as error:
        if reference.package == OWN:
            raise
        version = info.plugins.get(reference.package, "")
        if kind == "backbone":
            version = info.backbone.version
        wanted = to_install(reference.package, version)
        plugin = f"{reference.package} {version}".rstrip()
        why = "is not installed" if isinstance(error, PluginError) else "takes other settings today"
        raise PluginError(
            f"This model needs the {_NAMES[kind]} {reference.name!r} of the plugin {plugin}, which "
            f"{why}: install {wanted}. ({error})"
        ) from None


def _warn_of_another_version(info: ModelInfo, backbone: torch.nn.Module) -> None:
    """Warn when a plugin computes other features from the same weights, as another version may.

    A plugin's code can change without its version. allkit's own backbones cannot.
    """
    saved = info.backbone
    if is_own(saved.name):
        if _computes_other(info, backbone):
            raise CheckpointError(
                f"The backbone that is given has the tensors of {saved.name!r}, but computes other features "
                f"from the same weights: its forward pass is another. Give the one of the training."
            )
        return
    today = registry().provider("backbone", saved.reference)
    same = (today.distribution, today.version) == (saved.distribution, saved.version)
    if same and today.built_in:
        return
    if saved.fingerprint and _computes_other(info, backbone):
        wanted = "what it was made with" if same else to_install(saved.distribution, saved.version)
        warnings.warn(
            f"This model was made with {saved.distribution} {saved.version}; {today.origin} computes "
            f"other features from the same weights{_EDITED if same else ''}, so its metrics are no longer "
            f"valid. Install {wanted}, or train again.",
            stacklevel=4,
        )


def _computes_other(info: ModelInfo, backbone: torch.nn.Module) -> bool:
    """Say whether a backbone computes other features of a fixed input than when the model was saved."""
    return other_numbers(info.backbone.fingerprint, fingerprint(backbone, info.backbone.input))
