"""The one standardisation."""

import numpy as np
import pytest
import torch

from allkit import InputSpec
from allkit.errors import PluginError
from allkit.network.standardise import Standardise, to_batches

PLAIN = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def pixels(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (100, 120), (224, 300), (1000, 31)])
def test_the_resize_is_the_antialiased_bilinear_one_of_torch(height, width):
    image = pixels(1, height, width)
    ours = Standardise(PLAIN)(image)
    theirs = torch.nn.functional.interpolate(
        image.permute(0, 3, 1, 2).float() / 255, (224, 224), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_an_image_of_the_right_size_is_only_normalised():
    image = pixels(2, 224, 224)
    spec = InputSpec()
    expected = image.numpy().transpose(0, 3, 1, 2) / 255 - np.array(spec.mean)[:, None, None]
    expected = expected / np.array(spec.std)[:, None, None]
    np.testing.assert_allclose(Standardise(spec)(image).numpy(), expected, atol=1e-6)


def test_an_image_gets_the_same_bits_alone_and_in_a_batch():
    for height, width in [(224, 224), (300, 200), (64, 64)]:
        batch = pixels(5, height, width)
        together = Standardise(InputSpec())(batch)
        for index in range(5):
            alone = Standardise(InputSpec())(batch[index : index + 1])
            assert torch.equal(alone[0], together[index])


def test_images_of_several_sizes_are_batched_by_shape_and_none_is_lost():
    images = [np.zeros((h, 40, 3), np.uint8) for h in (32, 50, 32, 60, 50)]
    batches = list(to_batches(images))
    assert sorted(i for indices, _ in batches for i in indices) == [0, 1, 2, 3, 4]
    assert [tuple(stack.shape) for _, stack in batches] == [
        (2, 32, 40, 3),
        (2, 50, 40, 3),
        (1, 60, 40, 3),
    ]


@pytest.mark.parametrize("wrong", [{"size": 4}, {"std": (0.0, 1.0, 1.0)}, {"mean": (0.5,)}])
def test_a_spec_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(PluginError):
        InputSpec(**wrong)
