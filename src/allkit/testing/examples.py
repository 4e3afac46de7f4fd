"""Images and models for checks: drawn, small, the same every time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from allkit.plugins.asked import FUNCTIONS
from allkit.plugins.offers import HOOKS, Record
from allkit.records import Reference
from allkit.types import Pixels

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier
    from allkit.plugins import Registry
    from allkit.records import Backbone, View

__all__ = [
    "asked_as",
    "function_of",
    "host_of",
    "kept",
    "model_of",
    "sample_images",
    "tiny_model",
    "trained",
    "using_images",
]

R = TypeVar("R")
V = TypeVar("V")

_given: tuple[Pixels, ...] = ()


def sample_images() -> tuple[Pixels, ...]:
    """Return the images to check on: those of `using_images`, else eight drawn smears."""
    return _given or _drawn()


@contextlib.contextmanager
def using_images(images: Sequence[Pixels]) -> Iterator[None]:
    """Check on these `(H, W, 3)` uint8 images, or, where there are none, on drawn ones."""
    global _given
    before, _given = _given, tuple(images)
    try:
        yield
    finally:
        _given = before


@cache
def _drawn() -> tuple[Pixels, ...]:
    """Return drawn smears `(224, 224, 3)` uint8; two of them cut to other sizes."""
    from allkit.data.drawn import draw_smears

    images = [field.image for field in draw_smears(8, groups=4, seed=20)]
    images[1] = np.ascontiguousarray(images[1][:120, :160])
    images[3] = np.ascontiguousarray(images[3][:200, 20:116])
    return tuple(images)


def trained(backbone: str, *, view: str = "rgb", bag: str = "field") -> Classifier:
    """Train on sixteen drawn smears, with random weights, for two epochs."""
    import allkit
    from allkit.data.drawn import write_smears

    with tempfile.TemporaryDirectory() as folder:
        data = allkit.Dataset.open(write_smears(Path(folder), 16, groups=8, seed=3))
        trainer = allkit.Trainer(
            backbone=backbone,
            weights="none",
            epochs=2,
            val=0.0,
            augment=(),
            cache=None,
            # What is checked is the backbone as its record says, or the view.
            view=view,
            bag=bag,
        )
        model = trainer.fit(data)
    for head in model.network.heads:
        # Features of random weights hardly differ between images. A head that divides by how much
        # they do magnifies rounding up to ten thousandfold, and processors round differently.
        scale: Any = head.scale
        mean: Any = head.mean
        scale.clamp_(max=1 / (0.1 * float(mean.abs().mean()) + 1e-8))
    return model


@cache
def tiny_model() -> Classifier:
    """Return a classifier on a tiny network with random weights."""
    return trained("timm:test_resnet")


def kept(function: Callable[[R], V]) -> Callable[[R], V]:
    """Keep what a function gave for the last record: one network at a time, some weigh gigabytes.

    Records are told apart by what they are, since their settings need not be hashable.
    """
    last: list[tuple[R, V]] = []

    @wraps(function)
    def run(record: R) -> V:
        if not last or last[0][0] is not record:
            last[:] = []
            last[:] = [(record, function(record))]
        return last[0][1]

    return run


@kept
def host_of(record: Record) -> Registry:
    """Return a registry in which `asked_as(record)` is found, installed or not."""
    from allkit.errors import PluginError
    from allkit.hookspecs import hookimpl
    from allkit.plugins import Registry, registry

    kind, hook = next((k, h) for k, (h, types, _) in HOOKS.items() if isinstance(record, types))
    with contextlib.suppress(PluginError):
        registry().provider(kind, _qualified(record))
        return registry()
    host = Registry(discover=False)
    plugin = SimpleNamespace(api_version=2, **{hook: hookimpl(lambda: [record])})
    host.register(plugin, name="checked", distribution=_package(record))
    return host


def function_of(record: Record) -> tuple[str, Any]:
    """Return the name of the field that makes a record what it is, and the function in it."""
    return next(
        (name, function)
        for name in FUNCTIONS
        if (function := getattr(record, name, None)) is not None
    )


def _package(record: Record) -> str:
    """Return the package of a record, which its guard knows."""
    _, function = function_of(record)
    return getattr(function, "origin", "").rpartition(" ")[0] or "unpackaged"


def _qualified(record: Record) -> str:
    package = _package(record)
    own = package == "allkit"  # goes before all others by its name alone
    return record.name if own or ":" in record.name else f"{package}/{record.name}"


def asked_as(record: Record) -> str:
    """Return the text by which a record is asked for, with the settings that it has."""
    chosen = getattr(record, "chosen", None)
    settings = {} if chosen is None else chosen.model_dump(mode="json")
    return Reference.of(_qualified(record))._replace(settings=settings).text


@kept
def model_of(record: Backbone | View) -> Classifier:
    """Return a classifier on `record`, or that is shown it, which need not be installed."""
    from allkit.plugins import using
    from allkit.records import View

    with using(host_of(record)):
        if isinstance(record, View):
            return trained("timm:test_resnet", view=asked_as(record))
        return trained(asked_as(record))
