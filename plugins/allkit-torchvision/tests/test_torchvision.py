from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import allkit_torchvision as mine
from allkit import AllkitError
from allkit.plugins import Registry
from allkit.testing import conformance
from allkit.testing.surroundings import no_network


@pytest.mark.slow
@conformance("allkit-torchvision")
def test_conformance(check):
    check()


# One of every way in which a network is taken apart.
OTHERS = (
    "resnet18", "vgg11_bn", "densenet121", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t",
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "maxvit_t",
)  # fmt: skip


@pytest.mark.nightly
@conformance(*(f"torchvision:{name}" for name in OTHERS))
def test_other_networks_keep_the_contract(check):
    check()


QUICK = ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5")


def theirs(name, inputs):
    """The averages of the last maps of torchvision's own network, from the same random weights."""
    net, seen = seeded(mine._made, name), []
    last = {"resnet18": "layer4", "shufflenet_v2_x0_5": "conv5"}.get(name, "features")
    net.get_submodule(last).register_forward_hook(lambda m, i, output: seen.append(output))
    with torch.inference_mode():
        net(inputs)
    return seen[0].mean(dim=(2, 3))


def seeded(make, *given):
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return make(*given).eval()


@pytest.mark.parametrize("name", QUICK)
def test_a_chain_computes_what_torchvisions_network_does(name):
    inputs = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        ours = seeded(mine.build, name, "none")(inputs)
    torch.testing.assert_close(ours, theirs(name, inputs), atol=1e-5, rtol=1e-4)


def test_every_network_on_offer_is_of_a_class_that_is_known():
    import torchvision

    models = torchvision.models
    for name in ("vit_b_16", "densenet201", "efficientnet_v2_l", "swin_v2_b", "vgg19", "alexnet"):
        record = mine.get(name)
        weights = models.get_model_weights(name).DEFAULT.transforms()
        assert record.input.size == weights.crop_size[0]
        assert record.input.mean == tuple(weights.mean)
        assert record.cam_layer.partition(".")[0] in record.stages
    assert set(mine.LEFT_OUT).isdisjoint(mine.names())
    assert len(mine.names()) > 70


def test_a_network_of_one_size_shows_cells_at_that_size():
    assert mine.get("vit_b_16").input.cell_size == 224
    assert mine.get("resnet18").input.cell_size == 96


def test_a_file_of_torchvisions_names_is_read_with_and_without_the_classifier(tmp_path):
    net = seeded(mine._made, "resnet18")
    whole = dict(net.state_dict())
    for kept in (whole, {k: v for k, v in whole.items() if not k.startswith("fc.")}):
        save_file(kept, tmp_path / "resnet18.safetensors")
        again = mine.build("resnet18", tmp_path / "resnet18.safetensors")
        assert torch.equal(again.stem.conv1.weight, net.conv1.weight)
        assert torch.equal(again.layer4[1].bn2.running_var, net.layer4[1].bn2.running_var)
    del whole["layer1.0.conv1.weight"]
    save_file(whole, tmp_path / "part.safetensors")
    with pytest.raises(AllkitError, match="lacks 1 of"):
        mine.build("resnet18", tmp_path / "part.safetensors")


def test_without_a_network_one_error_says_which_file_to_give_and_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with no_network(), pytest.raises(AllkitError) as caught:
        Registry().get("backbone", "torchvision:resnet18").build("default")
    text = str(caught.value)
    assert "torchvision_resnet18.safetensors" in text
    assert "ALLKIT_WEIGHTS" in text


def test_weights_that_were_fetched_are_used_also_under_the_old_names_of_densenets(
    tmp_path, monkeypatch
):
    import torchvision

    net = seeded(mine._made, "densenet121")
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in net.state_dict().items()
    }
    weights = torchvision.models.get_model_weights("densenet121").DEFAULT
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / Path(weights.url).name).touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, **options: old)
    built = mine.build("densenet121", "default")
    assert torch.equal(
        built.stage4.denselayer16.conv2.weight, net.features.denseblock4.denselayer16.conv2.weight
    )
    assert isinstance(built.pool, nn.Sequential)


def test_a_network_that_is_not_there_or_not_offered_is_answered_with_the_reason():
    host = Registry()
    with pytest.raises(AllkitError, match="Did you mean 'resnet18'"):
        host.get("backbone", "torchvision:resnet81")
    with pytest.raises(AllkitError, match="not offered: its only weights may not be used"):
        host.get("backbone", "torchvision:vit_h_14")
