"""Every built-in and every package in plugins/ keeps the contract; every check finds its fault."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from allkit import Augmentation, Backbone, Dataset, Exporter, InputSpec, Prediction
from allkit.errors import AllkitError, ExportError, PluginError
from allkit.plugins import Registry
from allkit.records import Finder, Found, View
from allkit.testing import ConformanceError, Skipped, checks_of, conformance, run_checks

ROOT = Path(__file__).parents[1]
BUILT_IN = Registry(discover=False)
AUGMENTATIONS = BUILT_IN.names("augmentation")
EXPLAINERS = BUILT_IN.names("explainer")
FINDERS = BUILT_IN.names("finder")
VIEWS = BUILT_IN.names("view")
PACKAGES = [
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
    for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
]


@pytest.mark.slow
@conformance(
    "timm:test_resnet.r160_in1k", "onnx", "haematoxylin", *AUGMENTATIONS, *EXPLAINERS, *FINDERS
)
def test_a_built_in_keeps_the_contract(check):
    check()


# The other views go the same way through folders and files.
@pytest.mark.parametrize(
    "check",
    [
        check
        for view in VIEWS
        for check in checks_of(view)
        if check.name not in ("goes_through_the_model_folder", "exports_to_onnx")
    ],
    ids=lambda check: f"{check.subject}-{check.name}",
)
def test_a_view_keeps_the_contract(check):
    check()


@pytest.mark.nightly
@conformance(*VIEWS)
def test_every_view_goes_through_folders_and_files(check):
    check()


@pytest.mark.slow
@conformance("vgg16")
def test_vgg16_keeps_the_contract(check):
    check()


# The wide VGG16 is the same network before a longer end: what that end could change.
ENDS = ("states_its_licence", "maps_images_to_features", "features_follow_the_image")


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [c for c in checks_of("vgg16-wide") if c.name in ENDS], ids=lambda check: check.name
)
def test_the_wide_vgg16_makes_features(check):
    check()


@pytest.mark.nightly
@conformance("vgg16-wide")
def test_the_wide_vgg16_keeps_the_contract(check):
    check()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_of_this_repository_runs_the_checks_in_its_own_tests(name):
    folder = ROOT / "plugins" / name / "tests"
    assert any(f'conformance("{name}"' in p.read_text() for p in folder.glob("test_*.py"))


# ── every check finds the fault it is there for ────────────────────────────────────────────


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, inputs):
        hidden = torch.relu(self.first(nn.functional.avg_pool2d(inputs, 4)))
        return self.second(hidden).mean(dim=(2, 3))


def build(weights):
    net = Net()
    if isinstance(weights, Path):
        from allkit import load_weights

        load_weights(net, weights)
    return net


GOOD = Backbone("good", build, InputSpec(32), cam_layer="second", license="MIT")


def run(record, name):
    next(check for check in checks_of(record) if check.name == name)()


@pytest.mark.slow
def test_a_backbone_that_is_not_installed_passes_every_check():
    outcomes = run_checks(GOOD)
    # This file imports torch, so the module of `build` does.
    assert [o.check for o in outcomes if o.state == "failed"] in ([], ["imports_quickly"])
    assert {o.check for o in outcomes if o.state == "skipped"} <= {
        "stages_can_be_cut",
        "imports_quickly",
    }


def built(change):
    def make(weights):
        net = build(weights)
        change(net)
        return net

    return make


def forward(function):
    """A network whose output is changed by `function(output, inputs)`."""

    def change(net):
        plain = net.forward
        net.forward = lambda inputs: function(plain(inputs), inputs)

    return built(change)


def seeding(weights):
    torch.manual_seed(0)
    return build(weights)


def calling(weights):
    import socket

    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    return build(weights)


def setting(weights):
    import os

    os.environ["MINE"] = str(np.random.default_rng().random())
    return build(weights)


def careless(weights):
    return Net()


def frozen(net):
    net.first.forward = lambda x, f=net.first.forward: f(x).detach()


def staged(weights):
    return nn.Sequential(Flipped(), Net())


class Flipped(nn.Module):
    def forward(self, inputs):
        return inputs, inputs


def transposed(net):
    net.second.forward = lambda x, f=net.second.forward: f(x).transpose(2, 3)


BUILT = itertools.count(1)


def growing(net):
    """Every network that is built computes something else."""
    plain, scale = net.forward, next(BUILT)
    net.forward = lambda inputs: plain(inputs) * scale


BAD_BACKBONES = {
    "states_its_licence": replace(GOOD, license="unknown"),
    "builds_quickly_and_without_network": replace(GOOD, build=calling),
    "default_weights_or_one_clear_error": replace(GOOD, build=lambda weights: 1 / 0),
    "maps_images_to_features": replace(GOOD, build=forward(lambda o, i: o[:, :, None, None])),
    "features_follow_the_image": replace(GOOD, build=forward(lambda o, i: o * 0)),
    "answers_alike_every_time": replace(GOOD, build=forward(lambda o, i: o + torch.rand(1))),
    "images_do_not_disturb_each_other": replace(GOOD, build=forward(lambda o, i: o - o.mean(0))),
    "gradients_reach_every_stage": replace(GOOD, build=built(frozen)),
    "changes_no_global_state": replace(GOOD, build=seeding),
    "reads_a_weights_file": replace(GOOD, build=careless),
    "stages_can_be_cut": replace(GOOD, build=staged, stages=("0",)),
    "explanation_layer_is_faithful": replace(GOOD, build=built(transposed)),
    "goes_through_the_model_folder": replace(GOOD, build=built(growing)),
}


@pytest.mark.parametrize("name", BAD_BACKBONES)
def test_a_check_of_backbones_finds_its_fault(name):
    with pytest.raises(ConformanceError):
        run(BAD_BACKBONES[name], name)


def test_a_backbone_that_changes_the_environment_is_found():
    with pytest.raises(ConformanceError, match="environment variables"):
        run(replace(GOOD, build=setting), "changes_no_global_state")


def darken(image, rng):
    return (image * rng.uniform(0.7, 1.0)).astype(np.uint8)


def test_an_augmentation_that_is_not_installed_passes_every_check():
    outcomes = run_checks(Augmentation("darken", darken))
    # This file imports torch, so the module of `apply` does.
    assert {o.check for o in outcomes if o.state != "passed"} <= {"imports_quickly"}, outcomes


def in_place(image, rng):
    image[...] = darken(image, rng)
    return image


def slow(image, rng):
    time.sleep(0.3)
    return darken(image, rng)


KEPT: dict[str, int] = {"calls": 0}


def counting(image, rng):
    KEPT["calls"] += 1
    return np.roll(darken(image, rng), KEPT["calls"], axis=0)


BAD_AUGMENTATIONS = {
    "keeps_shape_and_type": lambda image, rng: image[:32, :32].copy(),
    "takes_blank_images": lambda image, rng: image[: int(1 / (image.std() > 0))],
    "same_seed_gives_same_image": counting,
    "other_seeds_give_other_images": lambda image, rng: image[::-1].copy(),
    "leaves_its_input_untouched": in_place,
    "threads_do_not_disturb_each_other": counting,
    "goes_to_worker_processes": lambda image, rng: darken(image, rng),
    "ignores_and_keeps_global_state": lambda image, rng: (image * np.random.rand()).astype("uint8"),
    "is_quick": slow,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_AUGMENTATIONS)
def test_a_check_of_augmentations_finds_its_fault(name):
    with pytest.raises(ConformanceError):
        run(Augmentation("bad", BAD_AUGMENTATIONS[name]), name)


# ── views ──


class Green(nn.Module):
    def forward(self, image, whole):
        """Green light, on a scale of the whole image."""
        low, high = (
            end(whole[:, 1:2], dim=(2, 3), keepdim=True) for end in (torch.amin, torch.amax)
        )
        return ((image[:, 1:2] - low) / (high - low).clamp(min=0.01)).clamp(0, 1)


GREEN = View("green", lambda size: Green())


def changed_view(function):
    """A view whose result is changed by `function(view, image, whole)`."""

    class Changed(Green):
        def forward(self, image, whole):
            return function(super().forward(image, whole), image, whole)

    return View("bad", lambda size: Changed())


class Learning(Green):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


BAD_VIEWS = {
    "keeps_the_places": changed_view(lambda view, image, whole: view[..., 1:]),
    "takes_blank_images": View("bad", lambda size: Unclamped()),
    "follows_the_image": changed_view(lambda view, image, whole: view * 0),
    "answers_alike_every_time": changed_view(lambda view, image, whole: view * torch.rand(1)),
    "images_do_not_disturb_each_other": changed_view(
        lambda view, image, whole: view * view.mean(dim=0, keepdim=True)
    ),
    "takes_its_measure_from_the_whole": changed_view(
        lambda view, image, whole: view * image.mean(dim=(1, 2, 3), keepdim=True)
    ),
    "learns_nothing": View("bad", lambda size: Learning()),
    "changes_no_global_state": View("bad", lambda size: setting(None) and Green()),
    "is_quick": changed_view(lambda view, image, whole: time.sleep(0.3) or view),
}


class Unclamped(nn.Module):
    def forward(self, image, whole):
        deviation = whole.std(dim=(1, 2, 3), keepdim=True)
        return (image[:, :1] / deviation).clamp(max=1)


@pytest.mark.parametrize("name", BAD_VIEWS)
def test_a_check_of_views_finds_its_fault(name):
    with pytest.raises(ConformanceError):
        run(BAD_VIEWS[name], name)


@pytest.mark.slow
def test_a_view_that_is_not_installed_passes_every_check():
    outcomes = run_checks(GREEN)
    assert {o.check for o in outcomes if o.state != "passed"} <= {"imports_quickly"}, outcomes


# ── finders ──


def dark(image):
    """Finds one cell where the image is darkest, if it is dark anywhere."""
    grey = image.mean(axis=2)
    if np.ptp(grey) < 50:
        return Found(np.zeros((0, 2)), np.zeros(0))
    y, x = np.unravel_index(grey.argmin(), grey.shape)
    return Found(np.array([[x, y]], np.float32), np.array([20.0], np.float32), 15.0)


def test_a_finder_that_is_not_installed_passes_every_check():
    outcomes = run_checks(Finder("dark", dark))
    # This file imports torch, so the module of `find` does.
    allowed = {"imports_quickly", "finds_without_torch"}
    assert {o.check for o in outcomes if o.state != "passed"} <= allowed, outcomes


def find_in_place(image):
    image[:10] = 0
    return dark(image)


def find_slowly(image):
    time.sleep(1.1)
    return dark(image)


def find_by_chance(image):
    return Found(np.random.default_rng().random((1, 2)), np.ones(1))


def find_with_a_changed_environment(image):
    setting(None)
    return dark(image)


def find_outside(image):
    return Found(np.array([[image.shape[1] + 5.0, 2.0]]), np.ones(1))


BAD_FINDERS = {
    "finds_cells_inside_the_image": find_outside,
    "takes_any_size": lambda image: dark(image[:224, :224].reshape(224, 224, 3)),
    "takes_blank_images_and_noise": lambda image: Found(np.ones((1, 2)), np.ones(1)),
    "finds_the_same_every_time": find_by_chance,
    "leaves_its_input_untouched": find_in_place,
    "threads_do_not_disturb_each_other": find_by_chance,
    "finds_without_torch": lambda image: dark(image),
    "changes_no_global_state": find_with_a_changed_environment,
    "is_quick": find_slowly,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_FINDERS)
def test_a_check_of_finders_finds_its_fault(name):
    with pytest.raises(ConformanceError):
        run(Finder("bad", BAD_FINDERS[name]), name)


# ── exporters ──

ONNX: Exporter = BUILT_IN.get("exporter", "onnx")


def unsealed(path):
    """Open whatever is there: the model itself answers, so only the refusals are missing."""
    from allkit.testing.examples import tiny_model

    return tiny_model()


class Twisted:
    """Answers with the classes in another order."""

    def __init__(self, path):
        self.inner = ONNX.open(path)
        self.classes = self.inner.classes

    def probabilities(self, images):
        return np.ascontiguousarray(self.inner.probabilities(images)[:, ::-1])

    def predict(self, images, *, batch_size=16):
        return self.inner.predict(images)

    stream = predict


class First(Twisted):
    """Answers for the first image only."""

    def probabilities(self, images):
        return np.repeat(self.inner.probabilities(images[:1]), len(images), axis=0)

    def predict(self, images, *, batch_size=16):
        return self.inner.predict([i for i in images if not isinstance(i, bytes)])


class Iterating(Twisted):
    """Takes a single image for several, one after another."""

    def predict(self, images, *, batch_size=16):
        return self.inner.predict(list(images))

    stream = predict


class Forgiving(Twisted):
    """Answers for what is no image as if it were a patient's that cannot be read."""

    def predict(self, images, *, batch_size=16):
        try:
            return self.inner.predict(images)
        except AllkitError:
            return [Prediction("image 0", "unreadable")]

    stream = predict


def with_companion(model, path, **options):
    path.write_bytes(b"x")
    path.with_suffix(".bin").write_bytes(b"x")


def float32_alone(model, path, *, precision, calibration):
    if precision != "float32":
        raise ExportError("This writes float32.")
    ONNX.write(model, path, precision=precision, calibration=calibration)


def with_a_changed_environment(model, path, **options):
    import os

    os.environ["MINE"] = str(np.random.default_rng().random())
    ONNX.write(model, path, **options)


BAD_EXPORTERS = {
    "writes_one_file": replace(ONNX, write=with_companion),
    "answers_like_the_model": replace(ONNX, open=Twisted),
    "takes_any_number_of_images": replace(ONNX, open=First),
    "answers_unreadable_images_too": replace(ONNX, open=First),
    "takes_one_image_in_every_form": replace(ONNX, open=Iterating),
    "refuses_what_can_be_no_image": replace(ONNX, open=Forgiving),
    "refuses_an_altered_file": replace(ONNX, open=unsealed),
    "refuses_what_is_not_its_own": replace(ONNX, open=unsealed),
    "writes_every_precision_it_declares": replace(ONNX, write=float32_alone),
    "opens_without_torch": replace(ONNX, open=lambda path: ONNX.open(path)),
    "leaves_the_model_as_it_was": replace(ONNX, write=with_a_changed_environment),
}


@pytest.mark.parametrize("precisions", [(), ("float3",), ("float32", "int4")])
def test_an_exporter_declares_precisions_that_exist(precisions):
    with pytest.raises(PluginError, match="must be float32, int8 or both"):
        replace(ONNX, precisions=precisions)


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_EXPORTERS)
def test_a_check_of_exporters_finds_its_fault(name):
    with pytest.raises(ConformanceError):
        run(BAD_EXPORTERS[name], name)


# ── how they are run ───────────────────────────────────────────────────────────────────────


def test_an_expected_failure_is_told_with_its_reason_and_must_be_true():
    record = replace(GOOD, license="unknown")
    states = {
        o.check: o
        for o in run_checks(
            Augmentation("bad", in_place),
            expected_failures={"leaves_its_input_untouched": "no room", "is_quick": "slow disk"},
        )
    }
    assert states["leaves_its_input_untouched"].state == "expected"
    assert states["leaves_its_input_untouched"].message == "no room"
    assert states["is_quick"].state == "failed"
    assert "Take it off the list" in states["is_quick"].message
    with pytest.raises(PluginError, match="Did you mean 'states_its_licence'"):
        run_checks(record, expected_failures={"states_its_license": "x"})


def test_a_name_that_is_nowhere_is_answered_with_the_nearest():
    with pytest.raises(PluginError, match="Did you mean 'standard'"):
        checks_of("standart")


@pytest.mark.slow
def test_the_command_takes_failures_that_are_expected_and_images_of_ones_own(
    cli, monkeypatch, drawn
):
    monkeypatch.setattr("allkit.testing.augmentations.SECONDS", -1)
    status, out, _ = cli("plugins", "check", "flip", "--expect", "is_quick=a slow disk")
    assert status == 0
    assert "9 checks passed, 1 failed as announced." in out
    status, _, err = cli("plugins", "check", "flip", "--expect", "is_quick")
    assert (status, "lacks its reason" in err) == (2, True)
    seen = []

    def watched(image, rng):
        seen.append(image.tobytes())
        return image[:, ::-1].copy()

    data = Dataset.open(drawn)
    image = data.read(0)
    run_checks(Augmentation("watched", watched, "flips"), images=[image])
    assert image.tobytes() in seen
    seen.clear()
    run_checks(Augmentation("watched", watched, "flips"))
    assert image.tobytes() not in seen
    status, out, _ = cli("plugins", "check", "onnx", "--data", str(drawn))
    assert (status, "failed" in out) == (0, False)
    status, _, err = cli("plugins", "check", "flip", "--data", "nowhere")
    assert (status, "nowhere" in err) == (2, True)


def test_the_command_reports_every_check_and_fails_when_one_does(cli, monkeypatch):
    status, out, err = cli("plugins", "check", "flip")
    assert (status, err) == (0, "")
    assert "ok       same_seed_gives_same_image" in out
    assert out.rstrip().endswith("10 checks passed.")
    monkeypatch.setattr("allkit.testing.augmentations.SECONDS", -1)
    status, out, _ = cli("plugins", "check", "flip")
    assert status == 1
    assert "FAILED   is_quick" in out
    assert "1 FAILED, 9 passed." in out
    status, _, err = cli("plugins", "check", "nothing")
    assert status == 2
    assert "is called 'nothing'" in err


@pytest.mark.slow
def test_the_fixtures_are_there_for_a_plugin_of_any_author(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "import socket, pytest\n"
        "from allkit.testing import conformance\n"
        "from allkit.plugins import registry\n"
        "def test_alone(allkit_registry):\n"
        "    assert registry() is allkit_registry\n"
        "    assert {p.distribution for p in registry().plugins} == {'allkit'}\n"
        "def test_images(allkit_images):\n"
        "    assert len({i.shape for i in allkit_images}) == 3\n"
        "def test_model(allkit_model, allkit_images):\n"
        "    assert len(allkit_model.predict(allkit_images)) == 8\n"
        "def test_network(allkit_no_network):\n"
        "    with pytest.raises(OSError, match='blocked'):\n"
        "        socket.create_connection(('192.0.2.1', 80))\n"
        "    assert allkit_no_network == ['192.0.2.1']\n"
        "@conformance('flip')\n"
        "def test_flip(check):\n"
        "    check()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "14 passed" in done.stdout, done.stdout[-2000:]


SLOW = """
import time
from allkit import Augmentation
begin = time.process_time()
while time.process_time() - begin < {0}: pass
def fade(image, rng): return image
"""


def test_a_slow_import_is_blamed_for_its_own_work_and_not_for_a_busy_machine(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "working.py").write_text(SLOW.format(0.3))
    (tmp_path / "waiting.py").write_text(SLOW.format(0) + "time.sleep(0.3)\n")
    working, waiting = map(importlib.import_module, ("working", "waiting"))
    monkeypatch.setattr("allkit.testing.alone.IMPORT_SECONDS", 0.25)
    run(Augmentation("fade", waiting.fade), "imports_quickly")
    with pytest.raises(
        ConformanceError, match=r"working takes 0\.3 s .*best of three.* 0\.25 s is"
    ):
        run(Augmentation("fade", working.fade), "imports_quickly")


def test_the_pytest_plugin_brings_nothing_heavy():
    code = (
        "import sys, allkit.testing.pytest_plugin;"
        "print([n for n in ('torch', 'numpy', 'pluggy.fake', 'timm', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_skipping_is_not_failing(cli, monkeypatch):
    with pytest.raises(Skipped, match="declares no stages"):
        run(GOOD, "stages_can_be_cut")
    (outcome,) = (o for o in run_checks(GOOD) if o.check == "stages_can_be_cut")
    assert outcome.state == "skipped"

    def nothing_to_do(record):
        """There is nothing to check."""
        raise Skipped("there is nothing to check")

    monkeypatch.setattr("allkit.testing.augmentations.CHECKS", (nothing_to_do,))
    status, out, _ = cli("plugins", "check", "flip")
    assert status == 0
    assert "flip  nothing_to_do: there is nothing to check" in out
    assert out.rstrip().endswith("0 checks passed, but 1 was skipped.")
