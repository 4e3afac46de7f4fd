import numpy as np
import pytest

import allkit_stain as stain
from allkit.plugins import Registry
from allkit.testing import conformance

NAMES = ("hed-light", "hed-strong", "stain-strength", "lamp")


@conformance("allkit-stain")
def test_conformance(check):
    check()


def test_density_and_image_are_each_others_inverse():
    image = np.arange(1, 256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(stain.to_image(stain.density(image)), image)


@pytest.mark.parametrize("name", NAMES)
def test_the_colour_changes_and_the_place_does_not(name, allkit_images):
    image = allkit_images[0]
    apply = Registry().get("augmentation", name).apply
    result = apply(image, np.random.default_rng(4))
    assert np.abs(result.astype(int) - image).mean() > 0.5
    # Where the cells are dark they stay darker than the background.
    before, after = (stain.density(i).sum(axis=2).ravel() for i in (image, result))
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_the_strong_one_moves_the_stain_further_than_the_light_one(allkit_images):
    image = allkit_images[0]
    host = Registry()

    def moved(name):
        apply = host.get("augmentation", name).apply
        rows = [apply(image, np.random.default_rng(s)).astype(int) - image for s in range(12)]
        return np.mean(np.abs(rows))

    assert moved("hed-strong") > 2 * moved("hed-light")


def test_more_stain_makes_the_cells_darker_and_leaves_glass_clear():
    glass = np.full((8, 8, 3), 255, np.uint8)
    cell = np.full((8, 8, 3), (120, 80, 160), np.uint8)
    rng = np.random.default_rng(0)
    assert (stain.strength(1.5, 1.5, glass, rng) == 255).all()
    assert (stain.strength(1.5, 1.5, cell, rng) < cell).all()


def test_only_one_dye_changes_when_only_one_is_told_to():
    amounts = stain.density(np.full((4, 4, 3), (120, 80, 160), np.uint8)) @ stain.TO_STAINS
    more = (amounts * (1.2, 1.0, 1.0)) @ stain.STAINS @ stain.TO_STAINS
    np.testing.assert_allclose(more[..., 1:], amounts[..., 1:], atol=1e-6)
    np.testing.assert_allclose(more[..., 0], 1.2 * amounts[..., 0], rtol=1e-5)
