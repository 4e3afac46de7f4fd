"""Images and models for checks: drawn, small, the same every time."""

from __future__ import annotations

import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from allkit.classifier import Classifier
    from allkit.plugins import Registry
    from allkit.records import Backbone

__all__ = ["drawn_images", "host_of", "model_of", "tiny_model", "trained"]

Image = npt.NDArray[np.uint8]


@cache
def drawn_images(count: int = 8) -> tuple[Image, ...]:
    """Return drawn smears `(224, 224, 3)` uint8; two of them cut to other sizes."""
    from allkit.data.drawn import draw_smears

    images = [field.image for field in draw_smears(count, groups=4, seed=20)]
    images[1] = np.ascontiguousarray(images[1][:120, :160])
    images[3] = np.ascontiguousarray(images[3][:200, 20:116])
    return tuple(images)


def trained(backbone: str) -> Classifier:
    """Train on sixteen drawn smears, with random weights, for two epochs."""
    import allkit
    from allkit.data.drawn import write_smears

    with tempfile.TemporaryDirectory() as folder:
        data = allkit.Dataset.open(write_smears(Path(folder), 16, groups=8, seed=3))
        return allkit.Trainer(
            backbone=backbone, weights="none", epochs=2, val=0.0, augment=(), cache=None
        ).fit(data)


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
