"""The device that is asked for: the best there is, or an error that says what is missing."""

import pytest
import torch

import allkit
from allkit.errors import ConfigError
from allkit.network.device import choose_device, full_float32

no_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card here")


@no_card
@pytest.mark.parametrize("name", ["auto", "cpu", torch.device("cpu")])
def test_the_processor_computes_where_nothing_better_is(name):
    assert choose_device(name) == torch.device("cpu")


def test_auto_takes_a_graphics_card_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1", "meta", "Cpu", "cuda 1"])
def test_what_is_no_device_is_an_error_that_names_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"is no device. Give auto, cpu, cuda, cuda:1 or mps\."):
        choose_device(name)


@no_card
@pytest.mark.parametrize("name", ["cuda", "cuda:7"])
def test_a_missing_graphics_card_is_an_error_that_says_what_to_do(name):
    with pytest.raises(ConfigError, match=rf"'{name}' cannot be used: .*`cpu` the processor\."):
        choose_device(name)


def test_a_torch_without_support_for_graphics_cards_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    with pytest.raises(ConfigError, match="was built without support for graphics cards; install"):
        choose_device("cuda")


def test_a_graphics_card_of_too_high_a_number_says_how_many_there_are(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="this machine has 2, from cuda:0 to cuda:1"):
        choose_device("cuda:7")


def test_float32_on_a_graphics_card_is_not_tf32_and_the_setting_is_put_back():
    convolutions, card = torch.backends.cudnn.conv, torch.device("cuda")
    before = convolutions.fp32_precision
    with full_float32(card):
        with full_float32(card):
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == "ieee", "another thread still computes"
    assert convolutions.fp32_precision == before
    with full_float32(torch.device("cpu")):
        assert convolutions.fp32_precision == before


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has mps")
def test_another_kind_of_device_that_is_missing_is_an_error():
    with pytest.raises(ConfigError, match="'mps' cannot be used: "):
        choose_device("mps")


def test_a_model_is_loaded_on_the_best_device_there_is(tiny_folder):
    assert allkit.Classifier.load(tiny_folder, device="auto").device == choose_device("auto")
    assert allkit.Classifier.load(tiny_folder).device == torch.device("cpu")


@no_card
def test_a_model_and_a_training_on_a_missing_device_are_errors(tiny_folder, few, tiny_settings):
    with pytest.raises(ConfigError, match="'cuda' cannot be used"):
        allkit.Classifier.load(tiny_folder, device="cuda")
    with pytest.raises(ConfigError, match="'cuda:1' cannot be used"):
        allkit.Trainer(device="cuda:1", **tiny_settings).fit(allkit.Dataset.open(few))


@no_card
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
@pytest.mark.parametrize(
    "command",
    [
        "predict {model} {image}", "evaluate {model} {data}", "explain {model} {image} --out {out}.png",
        "adapt {model} {data} --out {out}", "serve {model}",
        "train {data} --out {out} --backbone timm:test_resnet --weights none",
    ],
)  # fmt: skip
def test_every_command_with_a_device_names_a_missing_one_and_ends_with_2(
    cli, tiny_folder, few, tmp_path, command, device
):
    image = sorted(few.parent.rglob("*.png"))[0]
    places = {"model": tiny_folder, "data": few, "image": image, "out": tmp_path / "out"}
    status, _, err = cli(*command.format(**places).split(), "--device", device)
    assert status == 2
    assert err.splitlines()[-1].startswith("Error: ")
    assert repr(device) in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_exported_file_and_a_graphics_card_are_an_error(cli, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    status, _, err = cli("predict", "model.onnx", "image.png", "--device", "cuda")
    assert status == 2
    assert "model.onnx is an exported file, which computes on the processor, not on 'cuda'" in err
