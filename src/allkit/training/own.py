"""What a user gives a training as objects: a module, functions, transforms.

The settings hold their names (`own:NAME`), so that they stay plain values; the objects travel beside
them in one record, `OwnParts`. Where a name of the settings leads, is asked here alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from allkit.config import TrainConfig
from allkit.config.own import is_own, own_name, own_parts, require_plain
from allkit.config.part import part_text
from allkit.errors import AllkitError, ConfigError, PluginError
from allkit.images.finders import finder_meant, kept_finder
from allkit.model.own import OWN_PARTS, Given, own_backbone, structure_of
from allkit.network.modules import fingerprint
from allkit.plugins import registry
from allkit.plugins.host import Plugin
from allkit.plugins.kept import kept, provider_of_kept
from allkit.plugins.offers import Kind
from allkit.records import Augmentation, Backbone, Reference
from allkit.training.memory import out_of_memory
from allkit.training.own_augment import OwnAugmentation, own_augmentation
from allkit.training.plan import Epoch

__all__ = ["NOTHING", "OwnParts", "taken"]

Callback = Callable[[Epoch], object]


@dataclass(frozen=True)
class OwnParts:
    """The own parts of a training; what is missing is the plugins', or allkit's.

    `loss` maps logits `(N, K)` float32 and labels `(N,)` int64 to losses `(N,)` or their mean.
    `optimizer` makes an optimiser of the groups of parameters, `scheduler` what changes its learning
    rates, of it and the number of steps. Each of `callbacks` is called after every epoch, and ends the
    phase by returning `True`.
    """

    backbone: Backbone | None = None
    given: Given | None = field(default=None, repr=False)
    """What `backbone` was made of."""
    augment: Mapping[str, OwnAugmentation] = field(default_factory=dict)
    loss: Callable[..., Any] | None = None
    optimizer: Callable[..., Any] | None = None
    scheduler: Callable[..., Any] | None = None
    callbacks: tuple[Callback, ...] = ()

    # ── where the names of the settings lead ───────────────────────────────────────────────

    def require(self, config: TrainConfig) -> None:
        """Raise `ConfigError` when the settings name an own part that is not given."""
        for part in own_parts(config.model_dump()):
            setting, name = part.split(" ", 1)
            there = (
                name in self.augment if setting == "augment" else getattr(self, setting) is not None
            )
            if not there:
                raise ConfigError(
                    f"{setting} = {name} is an own part of a training in Python, and settings hold only its "
                    f"name. Give it again: Trainer(..., {setting}=...)."
                )
        if isinstance(self.given, nn.Module) and config.weights == "none":
            raise ConfigError(
                f"weights = none does nothing to the backbone {config.backbone!r}, a module that has its "
                f"weights. Leave `weights` out, or give a function that makes the module."
            )
        if self.augment and not config.copies:
            raise ConfigError(
                f"augment = {', '.join(config.augment)} does nothing with copies = 0, since there are no "
                f"augmented copies. Leave copies out, or augment."
            )
        if self.optimizer is not None and not _takes(self.optimizer, "lr"):
            for name in ("learning_rate", "finetune_learning_rate"):
                if getattr(config, name) != TrainConfig.model_fields[name].default:
                    raise ConfigError(
                        f"{name} = {getattr(config, name):g} does nothing beside optimizer = "
                        f"{config.optimizer}, which has a learning rate of its own. Leave {name} out, or let "
                        f"the function take `lr`."
                    )

    def require_known(self, config: TrainConfig) -> None:
        """Raise what is wrong with the names in the settings, and with settings of these parts.

        `ConfigError` names the setting, the value and what is expected; `PluginError` a backbone or an
        augmentation that is not there, or fails.
        """
        host = registry()
        if self.backbone is None:
            host.get("backbone", config.backbone)
        for name in config.augment:
            if name not in self.augment:
                host.get("augmentation", name)
        shown: list[tuple[Kind, Any]] = [("view", config.view)]
        if config.finder is not None:
            shown.append(("finder", finder_meant(config.finder)))
        for kind, name in shown:
            try:
                host.provider(kind, name)
            except PluginError as error:
                raise ConfigError(f"{kind} = {getattr(config, kind)}: {error}") from None
            host.get(kind, name)

    def in_full(self, config: TrainConfig) -> TrainConfig:
        """Return the settings with the name of every part as a model keeps it: in full.

        With its package and all of its settings, so that it means the same wherever it is read; a part
        that is built in and has no settings keeps its short name.
        """
        named: dict[str, Any] = {
            "view": kept("view", config.view),
            "augment": tuple(
                name if name in self.augment else kept("augmentation", name)
                for name in config.augment
            ),
        }
        if self.backbone is None:
            named["backbone"] = kept("backbone", config.backbone)
        if config.finder is not None:
            named["finder"] = kept_finder(config.finder)
        changed = {key: value for key, value in named.items() if value != getattr(config, key)}
        return config.model_copy(update=changed) if changed else config

    def record(self, name: str) -> Backbone:
        """Return the record of a backbone; raise `PluginError` when there is none of that name."""
        record: Backbone = self.backbone or registry().get("backbone", name)
        return record

    def provider(self, name: str, record: Backbone, module: nn.Module) -> Plugin:
        """Return what offers a backbone. The version of an own one says what it computes.

        A module may be changed and keep its name and its weights: features of the two must not meet
        in a cache.
        """
        if self.backbone is None:
            return registry().provider("backbone", name)
        computed = [structure_of(module), fingerprint(module, record.input)]
        version = hashlib.sha256(repr(computed).encode()).hexdigest()[:16]
        return Plugin(OWN_PARTS, OWN_PARTS, version)

    def settings_of(self, name: str) -> Mapping[str, Any]:
        """Return every setting of a backbone with its value; none of an own one."""
        return {} if self.backbone is not None else registry().reference("backbone", name).settings

    def augmentations(self, names: Sequence[str]) -> tuple[tuple[Augmentation, ...], Sequence[str]]:
        """Return the augmentations of those names, and what tells each from all others.

        The latter is empty for one whose content is not known: its copies cannot be kept.
        """
        records: list[Augmentation] = []
        marks: list[str] = []
        for name in names:
            own = self.augment.get(name)
            if own is not None:
                records.append(own.record)
                marks.append(f"{name} {own.content}" if own.content else "")
            else:
                records.append(registry().get("augmentation", name))
                marks.append(registry().mark("augmentation", name))
        return tuple(records), marks

    def plugins(self, config: TrainConfig) -> list[Plugin]:
        """Return the plugins that backbone and augmentations come from, and a view or finder of others."""
        host = registry()
        names = [name for name in config.augment if not is_own(name)]
        backbone = [] if is_own(config.backbone) else [host.provider("backbone", config.backbone)]
        shown = [provider_of_kept("view", config.view)]
        if config.bag != "field" and config.finder is not None:
            shown.append(provider_of_kept("finder", finder_meant(config.finder)))
        return [
            *backbone,
            *(host.provider("augmentation", name) for name in names),
            *(plugin for plugin in shown if plugin is not None),
        ]

    def told(self, config: TrainConfig) -> tuple[str, ...]:
        """Return all own parts in words, for the description of the model."""
        names = (f"callback {own_name(callback)}" for callback in self.callbacks)
        return (*own_parts(config.model_dump()), *names)

    # ── calling them ───────────────────────────────────────────────────────────────────────

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the own loss `(N,)` of each image; a mean stands for every one of them."""
        if self.loss is None:
            raise ValueError("there is no own loss")
        with _named("loss", self.loss):
            losses = self.loss(logits, labels)
            if not isinstance(losses, torch.Tensor) or losses.shape not in ((), (len(labels),)):
                got = getattr(losses, "shape", None)
                what = f"the shape {tuple(got)}" if got is not None else type(losses).__name__
                raise PluginError(
                    f"The loss {own_name(self.loss)!r} returned {what} for {len(labels)} images; it must "
                    f"return one number, or one for each image, as a tensor."
                )
            if logits.requires_grad and not losses.requires_grad:
                raise PluginError(
                    f"The loss {own_name(self.loss)!r} returned a value without a gradient, from which "
                    f"nothing can be learnt. Compute it from the logits by operations of torch, without "
                    f"detach(), item(), numpy() or no_grad()."
                )
            return losses.expand(len(labels))

    def optimiser(
        self, groups: Sequence[Mapping[str, Any]], rate: float
    ) -> torch.optim.Optimizer | None:
        """Return the own optimiser of groups of parameters, or `None`.

        If its function takes `lr`, it is given `rate`; else its learning rate is its own.
        """
        if self.optimizer is None:
            return None
        with _named("optimizer", self.optimizer):
            given = [{"params": list(group["params"])} for group in groups]
            more = {"lr": rate} if _takes(self.optimizer, "lr") else {}
            made = self.optimizer(given, **more)
            if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
                raise PluginError(
                    f"The optimizer {own_name(self.optimizer)!r} returned a {type(made).__name__}; it must "
                    f"return a torch.optim.Optimizer that takes steps without a closure."
                )
            if len(made.param_groups) != len(groups):
                raise PluginError(
                    f"The optimizer {own_name(self.optimizer)!r} has {len(made.param_groups)} groups of "
                    f"parameters in place of the {len(groups)} that it was given. Hand them on as they are."
                )
            return made

    def schedule(self, optimiser: torch.optim.Optimizer, steps: int) -> Callable[[], None] | None:
        """Return what is called after each of so many steps, or `None`."""
        if self.scheduler is None:
            return None
        function = self.scheduler
        with _named("scheduler", function):
            made = function(optimiser, steps)
        if not callable(getattr(made, "step", None)):
            raise PluginError(
                f"The scheduler {own_name(function)!r} returned a {type(made).__name__}; it must return "
                f"what has a `step()`, such as those of torch.optim.lr_scheduler."
            )

        def step() -> None:
            with _named("scheduler", function):
                made.step()

        return step

    def call_back(self, epoch: Epoch) -> bool:
        """Call all callbacks; return whether any ends the phase."""
        ended = False
        for callback in self.callbacks:
            try:
                with _gradients_kept():
                    answer = callback(epoch)
            except AllkitError:
                raise
            except Exception as error:
                raise AllkitError(
                    f"The callback {own_name(callback)!r} failed after epoch {epoch.epoch} ({epoch.phase}): "
                    f"{type(error).__name__}: {str(error)[:300]}."
                ) from error
            if answer is not None and not isinstance(answer, (bool, np.bool_)):
                raise ConfigError(
                    f"The callback {own_name(callback)!r} returned a {type(answer).__name__} after epoch "
                    f"{epoch.epoch} ({epoch.phase}). Let it return True to end the phase, and False or None "
                    f"to go on."
                )
            ended = bool(answer) or ended
        return ended


NOTHING = OwnParts()
"""No own parts."""


def taken(settings: Mapping[str, Any]) -> tuple[dict[str, Any], OwnParts]:
    """Return settings with names in place of objects, and the objects.

    Raises `ConfigError` for what can be no part.
    """
    values = dict(settings)
    parts: dict[str, Any] = {"callbacks": _callbacks(values.pop("callbacks", ()))}
    backbone = values.get("backbone")
    if backbone is not None and not isinstance(backbone, (str, Mapping, Reference)):
        parts |= {"backbone": own_backbone(backbone), "given": backbone}
        values["backbone"] = parts["backbone"].name
    augment = values.get("augment")
    if augment is not None and not isinstance(augment, str):
        values["augment"], parts["augment"] = _augment(augment)
    for setting in ("loss", "optimizer", "scheduler"):
        given = values.get(setting)
        _require_kind(setting, given)
        if callable(given):
            values[setting], parts[setting] = own_name(given), given
    return values, OwnParts(**parts)


def _require_kind(setting: str, given: Any) -> None:
    """Raise `ConfigError` for a class in place of its instance, and an instance in place of its class."""
    require_plain(setting, given)
    name = getattr(given, "__name__", type(given).__name__)
    if setting == "loss" and isinstance(given, type):
        raise ConfigError(f"loss is the class {name}. Give an instance: loss={name}().")
    if setting == "optimizer" and isinstance(given, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer is an {name} that has its parameters already, and those of the training are made "
            f"later. Give a function: optimizer=lambda parameters: {name}(parameters, lr=0.01)."
        )
    schedulers = torch.optim.lr_scheduler.LRScheduler
    made = isinstance(given, schedulers)
    if setting == "scheduler" and (made or _misreads_steps(given)):
        why = (
            "has its optimizer already" if made else "takes no number of steps after the optimizer"
        )
        raise ConfigError(
            f"scheduler is {name}, which {why}. Give a function of both: "
            f"scheduler=lambda optimizer, steps: {name}(optimizer, ...)."
        )


def _misreads_steps(given: Any) -> bool:
    """Say whether a scheduler of torch would take the number of steps as something else."""
    if not isinstance(given, type) or not issubclass(given, torch.optim.lr_scheduler.LRScheduler):
        return False
    if getattr(given.__init__, "__module__", "") != torch.optim.lr_scheduler.__name__:
        return False
    second = list(inspect.signature(given).parameters)[1:2]
    return second not in (["T_max"], ["total_iters"])


def _callbacks(given: Any) -> tuple[Callback, ...]:
    if given is None:
        return ()
    several = tuple(given) if isinstance(given, Iterable) and not callable(given) else (given,)
    for callback in several:
        require_plain("callbacks", callback)
        if not callable(callback) or isinstance(callback, type):
            raise ConfigError(
                f"A callback is a function that takes a record of an epoch, not {callback!r:.100}. Give "
                f"functions: callbacks=[f]."
            )
    return several


def _augment(given: Any) -> tuple[tuple[str, ...], dict[str, OwnAugmentation]]:
    """Return the names of augmentations in order, and the own ones by name."""
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    names: list[str] = []
    own: dict[str, OwnAugmentation] = {}
    for one in several:
        if isinstance(one, (str, Mapping, Reference)):
            try:
                names.append(part_text(one))
            except ValueError as error:
                raise ConfigError(f"augment: {error}.") from None
            continue
        require_plain("augment", one)
        name = called = own_name(one)
        while name in own:
            name = f"{called}-{len(own) + 1}"
        own[name] = own_augmentation(one, name)
        names.append(name)
    return tuple(names), own


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Say whether a function takes an argument that it was not given already."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in known and name not in getattr(function, "keywords", {})


@contextlib.contextmanager
def _gradients_kept() -> Iterator[None]:
    """Leave gradients on or off as they were, whatever an own part does to them."""
    before = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


@contextlib.contextmanager
def _named(setting: str, function: object) -> Iterator[None]:
    """Raise `PluginError` that names the own part in place of whatever it raises."""
    try:
        with _gradients_kept():
            yield
    except AllkitError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise PluginError(
            f"The {setting} {own_name(function)!r} failed: {type(error).__name__}: {str(error)[:300]}."
        ) from error
