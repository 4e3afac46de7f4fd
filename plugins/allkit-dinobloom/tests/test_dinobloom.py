"""The contract on a tiny vision transformer with random weights; the real ones are marked slow."""

import pytest
import torch

import allkit_dinobloom
from allkit import AllkitError
from allkit.plugins import Registry
from allkit.testing import checks_of, conformance
from allkit.testing.surroundings import no_network


def test_both_sizes_are_offered_by_this_package():
    host = Registry()
    for name in ("dinobloom-s", "dinobloom-b"):
        assert host.provider("backbone", name).distribution == "allkit-dinobloom"
        assert host.get("backbone", name).license == "Apache-2.0"


def test_the_stages_give_what_timms_model_gives():
    import timm

    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=64, global_pool="token"
    ).eval()
    net = allkit_dinobloom.staged(model).eval()
    inputs = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net(inputs), model(inputs))
        for cut in range(1, len(net)):
            torch.testing.assert_close(net[cut:](net[:cut](inputs)), model(inputs))


def test_a_file_of_timms_weights_loads_and_one_that_lacks_some_does_not(tmp_path):
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
    save_file(model.state_dict(), tmp_path / "s.safetensors")
    net = allkit_dinobloom.build("dinobloom-s", tmp_path / "s.safetensors")
    assert torch.equal(net.tokens.pos_embed, model.pos_embed)
    assert tuple(name for name, _ in net.named_children()) == allkit_dinobloom.STAGES
    save_file({"cls_token": model.cls_token.data}, tmp_path / "part.safetensors")
    with pytest.raises(AllkitError, match="lacks"):
        allkit_dinobloom.build("dinobloom-s", tmp_path / "part.safetensors")


def test_without_a_network_one_error_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    with no_network(), pytest.raises(AllkitError, match="ALLKIT_WEIGHTS"):
        allkit_dinobloom.build("dinobloom-s", "default")


@pytest.mark.slow
@conformance("dinobloom-s")
def test_the_small_one_keeps_the_contract(check):
    check()


# The larger one is the same network with more channels: what these could change.
SIZES = ("states_its_licence", "maps_images_to_features", "features_follow_the_image")


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [c for c in checks_of("dinobloom-b") if c.name in SIZES], ids=lambda check: check.name
)
def test_the_larger_one_makes_features(check):
    check()


@pytest.mark.nightly
@conformance("allkit-dinobloom")
def test_conformance(check):
    check()
