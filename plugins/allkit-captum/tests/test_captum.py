import numpy as np
import pytest
import torch
from torch import nn

import allkit
import allkit_captum as captum
from allkit import MapRequest
from allkit.plugins import Registry
from allkit.testing import conformance


@pytest.mark.slow
@conformance("allkit-captum")
def test_conformance(check):
    check()


class Linear(nn.Module):
    """Logits that are sums of pixels: what each adds is known."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 3, 8, 8))

    def forward(self, inputs):
        return (inputs[:, None] * self.weight).sum(dim=(2, 3, 4))


def known(inputs, target, network):
    """What each pixel adds to a sum, in squares of one pixel: weight times distance from the baseline."""
    way = inputs - captum.baseline(inputs, "mean")
    return (way[0] * network.weight[target]).sum(dim=0).clamp(min=0).detach().numpy()


@pytest.mark.parametrize("name", ["integrated-gradients", "gradient-shap"])
def test_of_a_sum_of_pixels_the_map_is_what_each_pixel_adds(name):
    inputs, network = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), Linear()
    chosen = {"baseline": "mean", "noise": 0.0, "grid": 8}
    record = Registry().get("explainer", {name: chosen})
    for target in (0, 1):
        found = record.explain(MapRequest(network, inputs, target))
        np.testing.assert_allclose(found, known(inputs, target, network), atol=1e-5)


def test_the_settings_decide_how_fine_the_map_is_and_how_often_the_network_is_run():
    calls = []

    class Counting(Linear):
        def forward(self, inputs):
            calls.append(len(inputs))
            return super().forward(inputs)

    request = MapRequest(Counting(), torch.rand(1, 3, 8, 8), 0)
    host = Registry()
    few = host.get("explainer", {"integrated-gradients": {"steps": 8, "samples": 2, "grid": 4}})
    assert few.explain(request).shape == (4, 4)
    assert sum(calls) == 16
    calls.clear()
    many = host.get("explainer", {"gradient-shap": {"samples": 50}})
    assert many.explain(request).shape == (8, 8)  # not finer than the input
    assert (sum(calls), max(calls)) == (50, 16)


def test_a_setting_that_is_wrong_is_refused_before_anything_runs():
    with pytest.raises(allkit.AllkitError, match="steps = 1 in the settings"):
        Registry().get("explainer", {"integrated-gradients": {"steps": 1}})
    with pytest.raises(allkit.AllkitError, match="Did you mean 'steps'"):
        Registry().get("explainer", {"integrated-gradients": {"step": 8}})


def test_the_explanation_says_by_what_and_with_which_settings_it_was_made(
    allkit_model, allkit_images
):
    found = allkit_model.explain(
        allkit_images[0], method={"integrated-gradients": {"steps": 4, "samples": 1}}, check=False
    )
    told = found.to_dict()
    assert told["method"] == "allkit-captum/integrated-gradients"
    assert told["settings"] == {
        "baseline": "background", "grid": 28, "noise": 0.1, "seed": 0, "steps": 4, "samples": 1,
    }  # fmt: skip
    assert "(integrated gradients)" in repr(found)
    assert any("steps 4" in line for line in found.lines({}))
