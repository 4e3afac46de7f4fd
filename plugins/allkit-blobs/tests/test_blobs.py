"""Nuclei as blobs of both dyes: found once each, measured in pixels of the image, in any stain."""

import time

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("skimage")

import allkit_blobs as blobs
from allkit import ConfigError, find_cells
from allkit.plugins import Registry
from allkit.testing import conformance

NUCLEUS, PINK, BLUE = (95, 50, 170), (225, 150, 150), (160, 175, 205)


@pytest.mark.slow
@conformance("allkit-blobs")
def test_conformance(check):
    check()


def disc(image, x, y, diameter, colour):
    rows, columns = np.indices(image.shape[:2])
    image[np.hypot(rows - y, columns - x) < diameter / 2] = colour


def smear(nuclei, *, red=PINK, diameter=16, pale=True, size=224):
    """A field of red cells, none of which touches a nucleus (x, y, diameter)."""
    image = np.full((size, size, 3), (236, 232, 230), np.uint8)
    step = 1.4 * diameter
    for y in np.arange(step, size - step / 2, step):
        for x in np.arange(step, size - step / 2, step):
            if all(np.hypot(x - a, y - b) > (d + 1.3 * diameter) / 2 for a, b, d in nuclei):
                disc(image, x, y, diameter, red)
                if pale:
                    disc(image, x, y, diameter / 3, (234, 226, 224))
    for x, y, d in nuclei:
        disc(image, x, y, d, NUCLEUS)
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def found(image, **settings):
    return Registry().get("finder", {"blobs": settings}).find(image)


def places(result):
    return sorted((round(x / 6), round(y / 6)) for x, y in result.centres)


@pytest.mark.parametrize("red", [PINK, BLUE], ids=["pink", "blue"])
@pytest.mark.parametrize("diameter", [12, 16, 40])
def test_each_nucleus_is_found_once_and_measured_in_pixels_of_the_image(red, diameter):
    wide = 1.4 * diameter
    size = 14 * diameter
    nuclei = [(3 * diameter, 4 * diameter, wide), (9 * diameter, 8 * diameter, wide)]
    result = found(smear(nuclei, red=red, diameter=diameter, size=size))
    assert len(result.centres) == 2
    order = np.argsort(result.centres[:, 0])
    np.testing.assert_allclose(result.centres[order], [n[:2] for n in nuclei], atol=0.15 * diameter)
    np.testing.assert_allclose(result.diameters, wide, rtol=0.2)
    assert result.red_cell == pytest.approx(diameter, rel=0.2)


@pytest.mark.parametrize("red", [PINK, BLUE], ids=["pink", "blue"])
def test_a_field_of_red_cells_has_none_and_they_are_measured(red):
    result = found(smear([], red=red))
    assert len(result.centres) == 0
    assert result.red_cell == pytest.approx(16, rel=0.15)


def test_two_nuclei_that_touch_are_two():
    assert len(found(smear([(90, 100, 24), (113, 100, 24)])).centres) == 2


def test_platelets_are_too_small_until_they_are_asked_for():
    image = smear([(100, 100, 24), (40, 160, 7)])
    assert len(found(image).centres) == 1
    assert len(found(image, least=0.3).centres) == 2


def test_without_red_cells_nothing_is_said_of_their_size():
    image = np.full((224, 224, 3), 235, np.uint8)
    disc(image, 100, 90, 150, NUCLEUS)
    result = found(image)
    assert result.red_cell is None
    assert len(result.centres) == 1
    assert result.diameters[0] == pytest.approx(150, rel=0.1)


def test_who_knows_the_magnification_says_it():
    image = smear([(100, 100, 24)])
    assert found(image, red_cell=16).red_cell == 16
    assert len(found(image, red_cell=80).centres) == 0


def test_a_large_field_is_searched_at_a_size_that_can_be_paid():
    image = smear([(90, 80, 24)]).repeat(10, axis=0).repeat(10, axis=1)
    start = time.process_time()
    result = found(image)
    assert time.process_time() - start < 5
    np.testing.assert_allclose(result.centres, [(905, 805)], atol=20)
    assert result.diameters[0] == pytest.approx(240, rel=0.15)
    assert result.red_cell == pytest.approx(160, rel=0.2)


def test_allkit_searches_with_it():
    image = smear([(100, 100, 24), (40, 160, 22)])
    cells = find_cells(image, {"allkit-blobs/blobs": {"least": 0.8}})
    assert cells.count == 2
    assert cells.nucleus_ratio == pytest.approx(1.45, rel=0.2)


def test_the_smallest_nucleus_is_smaller_than_the_largest():
    with pytest.raises(ValidationError, match="smaller than the largest"):
        blobs.Settings(least=2.0, largest=1.0)
    with pytest.raises(ConfigError, match="smaller than the largest"):
        find_cells(smear([]), {"blobs": {"least": 2.0, "largest": 1.0}})
