import math

import pytest
import torch

from allkit import AllkitError
from allkit.plugins import Registry
from allkit.testing import conformance


@pytest.mark.slow
@conformance("allkit-scattering")
def test_conformance(check):
    check()


@pytest.fixture(scope="module")
def net():
    return Registry().get("backbone", "scattering").build("none").eval()


def test_the_wavelets_have_no_mean_and_six_directions(net):
    real = net.scattering.real
    assert real.shape == (6, 1, 7, 7)
    assert float(real.sum(dim=(2, 3)).abs().max()) < 1e-6


def stripes(period, angle):
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    wave = torch.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
    return (0.6 + 0.3 * wave).expand(1, 3, 224, 224)


def test_stripes_answer_in_their_own_direction(net):
    with torch.inference_mode():
        maps = net.scattering.wavelets(net.density(stripes(2.7, 0.0))[:, :1])
    answers = maps.mean(dim=(0, 2, 3))
    assert int(answers.argmax()) == 0


def test_a_shifted_field_has_nearly_the_same_features_and_another_texture_has_not(net):
    fine, coarse = stripes(4, 0.4), stripes(16, 0.4)
    with torch.inference_mode():
        a, b, c = net(fine), net(fine.roll(5, dims=3)), net(coarse)
    assert float((a - b).norm()) < 0.2 * float((a - c).norm())


def test_scales_and_directions_are_settings():
    host = Registry()
    small = host.get("backbone", {"scattering": {"scales": 2, "directions": 4}}).build("none")
    usual = host.get("backbone", "scattering").build("none")
    widths = [net(torch.rand(1, 3, 224, 224)).shape[1] for net in (small, usual)]
    assert small.scattering.real.shape == (4, 1, 7, 7)
    # Each colour, its wavelets at every scale, and those of the next finer scale once more.
    assert widths == [3 + 2 * 12 + 48, 399]
    with pytest.raises(AllkitError, match="directions = 1"):
        host.get("backbone", {"scattering": {"directions": 1}})
