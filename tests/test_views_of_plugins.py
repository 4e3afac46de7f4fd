"""Views that plugins offer: each is tried when it is built (in models: `test_parts.py`)."""

import pytest
import torch
from torch import nn

from allkit import View
from allkit.errors import PluginError
from allkit.network.standardise import Standardise, seen_as
from allkit.plugins import using
from allkit.records import InputSpec
from parts_of_others import host


class Odd(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, image, whole):
        return self.act(image, whole)


def of(act):
    return host(allkit_views=[View("odd", lambda size: Odd(act))])


def ended(image, whole):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda image, whole: image[:, :2], r"\(2, 2, 64, 64\) float32.*\(2, 1, 64, 64\)"),
        (lambda image, whole: whole, r"\(2, 3, 64, 64\).*for \(2, 3, 40, 56\)"),
        (lambda image, whole: image.double(), "float64"),
        (lambda image, whole: image * 255, "values from .* to .*from 0 to 1"),
        (lambda image, whole: image / 0, "numbers from 0 to 1"),
        (lambda image, whole: image - image.mean() / 9, "otherwise when another is beside it"),
        (lambda image, whole: torch.rand_like(image), "otherwise when another is beside it"),
        (lambda image, whole: image[:1], r"returned \(1, 3, 64, 64\) in `forward` for 2 images"),
        (lambda image, whole: (image, whole), "returned a tuple"),
        (lambda image, whole: image @ whole.mT @ None, "failed in `forward`: TypeError"),
        (ended, r"SystemExit: 0"),
    ],
)
def test_a_view_that_is_none_is_named_with_its_package(act, message):
    with using(of(act)), pytest.raises(PluginError, match=message) as error:
        seen_as("acme/odd", 64)
    assert str(error.value).startswith("acme 1.2: the view 'odd'")


def test_a_view_that_is_no_module_is_named():
    wrong = host(allkit_views=[View("odd", lambda size: None)])
    with using(wrong), pytest.raises(PluginError, match=r"acme 1\.2: the view 'odd' returned None"):
        seen_as("acme/odd", 64)


def test_views_that_are_built_in_are_not_tried_again(monkeypatch):
    monkeypatch.setattr("allkit.network.standardise._require_view", None)
    with using(host()):
        for name in ("rgb", "masked", "haematoxylin", "normalised"):
            Standardise(InputSpec(64, view=name))


def test_hook_allkit_views_offers_one_whose_setting_changes_what_is_seen():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with using(host()):
        light, dark = (
            seen_as(f'acme/gamma{{"gamma":{gamma}}}', 64)(image, image) for gamma in (0.5, 2)
        )
    assert float((light - dark).mean()) > 0.2
