"""Explainers of any package: how they are asked for, what they are given, and what becomes of faults."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field
from torch import nn

from allkit import Explainer, hookimpl
from allkit.errors import AllkitError, ConfigError, PluginError
from allkit.model.maps import Mapper
from allkit.network.modules import Head, Network, Plain
from allkit.plugins import Registry, using
from allkit.testing import ConformanceError, checks_of, run_checks


class Grid(BaseModel):
    side: int = Field(8, ge=2, le=64, description="places of the map on a side")


USUAL = Grid()


def gradient(request, *, settings=USUAL):
    """Input times gradient, summed over squares."""
    inputs = request.inputs.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(request.network(inputs)[0, request.target], inputs)
    found = (slope * (inputs - inputs.amin())).sum(dim=1, keepdim=True).detach()
    return nn.functional.adaptive_avg_pool2d(found, settings.side)[0, 0].clamp(min=0).numpy()


GOOD = Explainer("mine", gradient, title="my way", settings=Grid)


def offered(*records):
    host = Registry(discover=False)
    plugin = SimpleNamespace(api_version=2, allkit_explainers=hookimpl(lambda: list(records)))
    loaded = host.register(plugin, name="mine", distribution="allkit-mine", version="1.2")
    assert loaded.error is None, loaded.error
    return host


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Linear(8, 3)

    def layers(self, name):
        return [self.get_submodule(name)]

    def forward(self, inputs):
        return self.last(self.body(inputs).mean(dim=(2, 3)))


def inputs(seed=0):
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


# ── how one is asked for ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "side"),
    [
        ("mine", 8),
        ("allkit-mine/mine", 8),
        ({"mine": {"side": 16}}, 16),
        ('allkit-mine/mine{"side":4}', 4),
    ],
)
def test_hook_allkit_explainers_offers_one_by_name_package_and_settings(method, side):
    mapper = Mapper(Net().eval(), None)
    with using(offered(GOOD)):
        chosen = mapper.choose(method)
        assert (chosen.package, chosen.name, chosen.settings) == (
            "allkit-mine",
            "mine",
            {"side": side},
        )
        assert mapper.map(inputs(), 1, chosen).shape == (side, side)


def test_auto_takes_allkits_own_whatever_is_installed():
    with using(offered(replace(GOOD, name="hirescam"), replace(GOOD, name="aaa"))):
        assert Mapper(Net(), "body").choose("auto").qualified == "allkit/hirescam"
        assert Mapper(Net(), None).choose("auto").qualified == "allkit/occlusion"


def test_a_name_that_nobody_offers_is_answered_with_the_nearest():
    with (
        using(offered(GOOD)),
        pytest.raises(ConfigError, match=r"Did you mean 'mine'.*auto, cells, "),
    ):
        Mapper(Net(), None).choose("nine")
    with using(offered(GOOD)), pytest.raises(ConfigError, match="side = 1 in the settings"):
        Mapper(Net(), None).choose({"mine": {"side": 1}})
    with using(offered(GOOD)), pytest.raises(AllkitError, match="allkit-other"):
        Mapper(Net(), None).choose("allkit-other/mine")


def test_one_that_needs_a_layer_is_refused_where_there_is_none():
    with using(offered(replace(GOOD, needs_layer=True))):
        with pytest.raises(ConfigError, match="names no layer for mine maps"):
            Mapper(Net(), None).choose("mine")
        assert Mapper(Net(), "body").choose("mine").name == "mine"


def test_the_explanation_tells_the_method_its_package_and_its_settings(tiny, drawn):
    import allkit

    image = allkit.Dataset.open(drawn).read(0)
    with using(offered(GOOD)):
        found = tiny.explain(image, method={"mine": {"side": 12}})
    told = found.to_dict()
    assert (told["method"], told["settings"]) == ("allkit-mine/mine", {"side": 12})
    assert found.check is not None
    assert "(my way)" in repr(found)
    assert "The map was made with side 12." in found.lines({})
    own = tiny.explain(image, check=False).to_dict()
    assert (own["method"], own["settings"]) == ("occlusion", {})


def test_the_command_takes_a_name_and_settings_as_in_yaml(cli, tiny_folder, drawn, tmp_path):
    import json

    import allkit

    image = drawn.parent / allkit.Dataset.open(drawn).samples[0].image
    ask = ("explain", tiny_folder, image, "--out", "map.png", "--json", "map.json", "--overwrite")
    with using(offered(GOOD)):
        status, _, err = cli(*ask, "--method", "{mine: {side: 6}}")
        assert (status, "side 6" in err) == (0, True), err
        assert json.loads((tmp_path / "map.json").read_text())["settings"] == {"side": 6}
        for method, wrong in (
            ("{mine: {side: 6}", "--method"),
            ("other", "Unknown method 'other'"),
        ):
            status, _, err = cli(*ask, "--method", method)
            assert (status, wrong in err, "Traceback" in err) == (2, True, False), err


# ── what it is given ───────────────────────────────────────────────────────────────────────────


def test_whatever_it_does_to_the_network_concerns_nobody_else():
    network = Net().eval().requires_grad_(False)
    seen = []

    def careless(request):
        request.network.train().requires_grad_(True)
        request.layers[0].register_forward_hook(lambda *given: seen.append(1))
        request.network(request.inputs).sum().backward()
        return np.ones((4, 4), np.float32)

    before = {name: value.clone() for name, value in network.state_dict().items()}
    with using(offered(Explainer("careless", careless))):
        Mapper(network, "body").map(inputs(), 0, "careless")
    network(inputs())
    assert seen == [1]  # its own call only
    assert not any(module.training for module in network.modules())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_one_that_writes_into_the_weights_changes_no_answer():
    network = Net().eval()
    before = network(inputs())

    def write(request):
        with torch.no_grad():
            next(request.network.parameters()).mul_(2)
        for parameter in request.network.parameters():
            parameter.data.add_(1.0)  # torch does not count this one
        request.network.body[1].running_mean.add_(100.0)
        return np.ones((4, 4), np.float32)

    with using(offered(Explainer("write", write))):
        Mapper(network, None).map(inputs(), 0, "write")
    assert torch.equal(network(inputs()), before)


def test_gradients_are_there_and_finite_where_a_feature_is_zero():
    head = Head(8, 3)
    network = Network(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), [head]
    )
    with torch.no_grad():
        network.backbone[0].bias[0] = -100.0  # a feature that is never there
    mapper = Mapper(Plain(network).eval().requires_grad_(False), None)
    with using(offered(GOOD)), torch.inference_mode():
        found = mapper.map(inputs(), 1, "mine")
    assert np.isfinite(found).all()
    assert found.any()


def test_several_at_once_get_what_each_gets_alone():
    mapper = Mapper(Net().eval(), "body")
    wrong = []
    with using(offered(GOOD)):
        wanted = {m: mapper.map(inputs(), 1, m) for m in ("mine", "hirescam", "gradcam")}

        def run(method):
            for _ in range(20):
                if not np.array_equal(mapper.map(inputs(), 1, method), wanted[method]):
                    wrong.append(method)

        threads = [threading.Thread(target=run, args=(m,)) for m in (*wanted, *wanted)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# ── what becomes of faults ─────────────────────────────────────────────────────────────────────

FAULTS = {
    "returned Tensor": lambda request: torch.ones(4, 4),
    r"returned an array \(1, 4, 4\)": lambda request: np.ones((1, 4, 4), np.float32),
    r"returned an array \(0, 4\)": lambda request: np.ones((0, 4), np.float32),
    "returned an array of int64": lambda request: np.ones((4, 4), np.int64),
    "not finite everywhere": lambda request: np.full((4, 4), np.nan, np.float32),
    "ZeroDivisionError": lambda request: 1 / 0,
    "tried to end the program": lambda request: exit(3),
}


@pytest.mark.parametrize("wrong", FAULTS)
def test_what_is_no_map_is_told_with_package_and_step(wrong):
    with (
        using(offered(Explainer("bad", FAULTS[wrong]))),
        pytest.raises(
            PluginError, match=rf"allkit-mine 1.2: the explainer 'bad'.*`explain`.*{wrong}|{wrong}"
        ),
    ):
        Mapper(Net().eval(), None).map(inputs(), 0, "bad")


def test_what_speaks_against_the_class_is_zero():
    signed = np.array([[1.0, -2.0]])
    with using(offered(Explainer("signed", lambda request: signed))):
        found = Mapper(Net().eval(), None).map(inputs(), 0, "signed")
    np.testing.assert_array_equal(found, np.array([[1, 0]], np.float32))
    assert found.dtype == np.float32


def test_a_map_of_the_image_alone_does_not_pass_the_check_of_random_weights():
    edges = Explainer("edges", lambda request: request.inputs[0].std(dim=0).numpy())
    mapper = Mapper(Net().eval(), None)
    with using(offered(edges)):
        check = mapper.check(inputs(), 1, "edges", mapper.map(inputs(), 1, "edges"))
    assert check.random_weights > 0.99
    assert not check.faithful


# ── every check of explainers finds its fault ──────────────────────────────────────────────────


@pytest.mark.slow
def test_one_that_is_not_installed_passes_every_check():
    outcomes = run_checks(offered(GOOD).get("explainer", {"mine": {"side": 16}}))
    # This file imports torch, so the module of `explain` does.
    assert {o.check for o in outcomes if o.state == "failed"} <= {"imports_quickly"}, outcomes


CALLS = {"count": 0}


def counting(request):
    CALLS["count"] += 1
    return gradient(request) * np.float32(CALLS["count"])


def in_place(request):
    request.network.get_parameter("linear.bias").data.add_(1)
    return gradient(request)


def all_at_once(request):
    request.network(request.inputs.repeat(100, 1, 1, 1))
    return gradient(request)


BAD = {
    "gives_a_map": lambda request: -gradient(request) - 1,
    "shows_the_place": lambda request: gradient(request)[::-1].copy(),
    "follows_the_class": lambda request: gradient(replace(request, target=0)),
    "follows_the_image": lambda request: np.eye(8, dtype=np.float32),
    "follows_the_weights": lambda request: request.inputs[0].std(dim=0).numpy(),
    "answers_alike_every_time": lambda request: gradient(request) + torch.rand(8, 8).numpy(),
    "leaves_the_network_as_it_was": in_place,
    "threads_do_not_disturb_each_other": counting,
    "changes_no_global_state": lambda request: gradient(request) * np.float32(np.random.rand()),
    "is_modest": all_at_once,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_check_of_explainers_finds_its_fault(name):
    check = next(c for c in checks_of(Explainer("bad", BAD[name])) if c.name == name)
    with pytest.raises(ConformanceError):
        check()
