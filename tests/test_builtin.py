"""The built-in backbones and augmentations do what their records say."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import allkit
from allkit.errors import CheckpointError
from allkit.network.modules import measure_width
from allkit.network.weights import load_weights
from allkit.plugins import Registry

host = Registry(discover=False)
AUGMENTATIONS = host.names("augmentation")


@pytest.fixture(scope="module")
def image():
    from allkit.data.drawn import draw_smears

    return next(iter(draw_smears(1))).image


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_repeats_itself_and_leaves_its_input_alone(name, image):
    apply = host.get("augmentation", name).apply
    before = image.copy()
    first = apply(image, np.random.default_rng(5))
    again = apply(image, np.random.default_rng(5))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    others = [apply(image, np.random.default_rng(seed)) for seed in range(8)]
    assert any(not np.array_equal(first, other) for other in others)


def test_another_laboratory_moves_colours_further_than_the_smears_of_the_set_differ(drawn):
    data = allkit.Dataset.open(drawn)
    images = [data.read(i) for i in range(len(data))]
    slides = np.array([image.reshape(-1, 3).mean(axis=0) for image in images])
    apply, rng = host.get("augmentation", "laboratory").apply, np.random.default_rng(0)
    moved = np.array([apply(images[0], rng).reshape(-1, 3).mean(axis=0) for _ in range(40)])
    assert (moved.std(axis=0) > 1.5 * slides.std(axis=0)).all()
    hue = np.ptp(moved - moved.mean(axis=1, keepdims=True), axis=0)
    assert hue.max() > 20


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_takes_other_sizes(name):
    rng = np.random.default_rng(0)
    for shape in ((96, 96, 3), (72, 64, 3), (64, 96, 3)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        for _ in range(8):
            assert host.get("augmentation", name).apply(image, rng).shape == shape


def test_augmentations_in_threads_give_what_they_give_alone(image):
    from concurrent.futures import ThreadPoolExecutor

    apply = host.get("augmentation", "standard").apply

    def run(seed):
        return apply(image, np.random.default_rng(seed))

    alone = [run(seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, range(16)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_eight_orientations_are_all_reached(image):
    apply = host.get("augmentation", "orientation").apply
    seen = {apply(image, np.random.default_rng(seed)).tobytes() for seed in range(64)}
    assert len(seen) == 8


@pytest.mark.slow
def test_using_an_augmentation_contacts_nobody_and_keeps_the_environment(image):
    code = (
        "import os, socket\n"
        "def no(*a, **k): raise SystemExit('network used')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "import numpy as np; from allkit.plugins import Registry\n"
        "import cv2; before = dict(os.environ)\n"
        "Registry(discover=False).get('augmentation', 'standard').apply("
        "np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0))\n"
        "print(before == dict(os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


@pytest.mark.slow
def test_vgg16_has_1024_features_in_five_stages():
    record = host.get("backbone", "vgg16")
    net = record.build("none")
    assert measure_width(net, record.input, "vgg16") == 1024
    assert tuple(name for name, _ in net.named_children()) == record.stages
    names = dict(net.named_modules())
    assert record.cam_layer in names
    with torch.inference_mode():
        x = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(net[3:](net[:3](x)), net(x))


@pytest.mark.slow
def test_the_wide_vgg16_has_4096_features():
    record = host.get("backbone", "vgg16-wide")
    assert measure_width(record.build("none"), record.input, "vgg16-wide") == 4096


def test_weights_of_imagenet_load_from_the_local_file(shared):
    path = shared / "weights" / "vgg16.safetensors"
    net = host.get("backbone", "vgg16").build(path)
    torch.testing.assert_close(net.block1[0].weight.data, load_file(path)["features.0.weight"])


def test_the_wide_one_refuses_a_file_without_its_wide_layers(shared):
    with pytest.raises(CheckpointError, match="lacks 4 of 30 tensors"):
        host.get("backbone", "vgg16-wide").build(shared / "weights" / "vgg16.safetensors")


def test_a_weights_file_that_is_damaged_or_of_another_shape_is_refused(tmp_path):
    module = torch.nn.Linear(3, 2)
    save_file({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"'weight' has the shape \(2, 4\)"):
        load_weights(module, tmp_path / "other.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"not a readable \.safetensors file"):
        load_weights(module, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_weights(module, tmp_path / "none.safetensors")


@pytest.mark.slow
def test_without_network_and_file_one_error_within_five_seconds_names_both_ways_out(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    code = (
        "from allkit.plugins import Registry\n"
        "from allkit.errors import CheckpointError\n"
        "import time, timm\n"
        "start = time.monotonic()\n"
        "try: Registry(discover=False).get('backbone', 'vgg16').build('default')\n"
        "except CheckpointError as error: print(f'{time.monotonic() - start:.1f}', error)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens there
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    seconds, _, message = done.stdout.partition(" ")
    assert float(seconds) < 5
    assert "--weights FILE.safetensors" in message
    assert "ALLKIT_WEIGHTS" in message


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up_within_five_seconds(tmp_path):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code = (
            "from allkit.plugins import Registry\nfrom allkit.errors import CheckpointError\n"
            "import time, timm, huggingface_hub, os\nstart = time.monotonic()\n"
            "try: Registry(discover=False).get('backbone', 'vgg16').build('default')\n"
            "except CheckpointError as error: print(f'{time.monotonic() - start:.1f}', error, flush=True)\n"
            "os._exit(0)"
        )
        port = silent.getsockname()[1]
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path),
        }  # fmt: skip
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert float(done.stdout.split()[0]) < 5, (done.stdout, time.monotonic() - start)
