"""Fixtures for plugin authors, there wherever pytest runs beside allkit.

Importing this file imports nothing heavy: it is loaded by every run of pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allkit.model.classifier import Classifier
    from allkit.plugins import Registry

__all__ = ["allkit_images", "allkit_model", "allkit_no_network", "allkit_registry"]


@pytest.fixture
def allkit_registry() -> Iterator[Registry]:
    """A registry with the built-ins and what the test registers, which everything in it uses."""
    from allkit.plugins import Registry, using

    with using(Registry(discover=False)) as host:
        yield host


@pytest.fixture
def allkit_images() -> list[npt.NDArray[np.uint8]]:
    """Eight drawn smears, `(H, W, 3)` uint8, two of them of other sizes than 224 × 224."""
    from allkit.testing.examples import sample_images

    return [image.copy() for image in sample_images()]


@pytest.fixture
def allkit_model() -> Classifier:
    """A classifier on a tiny network with random weights, trained on drawn smears."""
    from allkit.testing.examples import tiny_model

    return tiny_model()


@pytest.fixture
def allkit_no_network() -> Iterator[list[str]]:
    """Every connection to another machine is refused; the list holds the attempts."""
    from allkit.testing.surroundings import no_network

    with no_network() as attempts:
        yield attempts
