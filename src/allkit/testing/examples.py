"""Images and models for checks: drawn, small, the same every time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allkit.types import Pixels

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier
    from allkit.plugins import Registry
    from allkit.records import Backbone

__all__ = ["host_of", "model_of", "sample_images", "tiny_model", "trained", "using_images"]


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


def trained(backbone: str, *, bag: str = "field") -> Classifier:
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
            # What is checked is the backbone, as its record says.
            view="rgb",
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


@lru_cache(maxsize=1)
def host_of(record: Backbone) -> Registry:
    """Return a registry in which `record` is found by its name, installed or not."""
    from types import SimpleNamespace

    from allkit.hookspecs import hookimpl
    from allkit.plugins import Registry, registry

    if ":" in record.name or record.name in registry().names("backbone"):
        return registry()
    host = Registry(discover=False)
    plugin = SimpleNamespace(allkit_backbones=hookimpl(lambda: [record]))
    host.register(plugin, name="checked")
    return host


@lru_cache(maxsize=1)
def model_of(record: Backbone) -> Classifier:
    """Return a classifier on `record`, which need not be installed."""
    from allkit.plugins import using

    with using(host_of(record)):
        return trained(record.name)
