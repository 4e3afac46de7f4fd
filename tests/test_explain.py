"""Maps: where the network looked, whether that can be believed, and who sees which."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import allkit
from allkit.model.maps import Mapper, enlarge, share_on


class Corner(nn.Module):
    """A network whose second class depends on the brightness of the upper left corner only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU())
        nn.init.constant_(self.body[0].weight, 1.0)
        self.scale = nn.Parameter(torch.tensor([0.5, 1.0, 0.3]))

    def layers(self, name):
        return [self.get_submodule(name)]

    def forward(self, inputs):
        planes = self.body(inputs)
        corner = planes[:, :, :8, :8].mean(dim=(1, 2, 3))
        return corner[:, None] * self.scale


def picture(seed=0):
    # Dark, so that covering with the background's brightness changes the corner.
    rng = np.random.default_rng(seed)
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, :8, :8] = 2.0 + torch.from_numpy(rng.random((8, 8))).float()
    return image


@pytest.mark.parametrize("method", ["hirescam", "occlusion"])
def test_a_map_shows_the_place_that_the_answer_rests_on(method):
    network = Corner().eval()
    mapper = Mapper(network, "body")
    found = mapper.map(picture(), 1, method)
    large = enlarge(found, (32, 32))
    corner = np.zeros((32, 32), bool)
    corner[:12, :12] = True
    assert share_on(large, corner) > 0.95
    assert large.max() == 1


def test_a_true_map_passes_the_check_and_a_map_of_the_wrong_place_does_not():
    network = Corner().eval()
    mapper = Mapper(network, "body")
    found = mapper.map(picture(), 1, "hirescam")
    good = mapper.check(picture(), 1, "hirescam", found)
    assert good.deletion < good.deletion_random
    assert good.insertion > good.insertion_random
    bad = mapper.check(picture(), 1, "hirescam", found[::-1, ::-1].copy())
    assert not bad.faithful
    assert "Do not rely" in bad.in_words()


def test_a_map_that_random_weights_give_too_does_not_pass():
    network = Corner().eval()
    # The place is built in, so that shuffled weights show the same corner.
    mapper = Mapper(network, "body")
    check = mapper.check(picture(), 1, "hirescam", mapper.map(picture(), 1, "hirescam"))
    assert check.random_weights > 0.8
    assert not check.faithful
    assert "random weights" in check.in_words()


def test_hooks_are_gone_afterwards_also_when_it_fails():
    network = Corner().eval()
    mapper = Mapper(network, "body")
    mapper.map(picture(), 1, "gradcam")
    with pytest.raises(allkit.AllkitError, match="'hirescam' failed in `explain`: IndexError"):
        mapper.map(picture(), 7, "hirescam")
    assert not network.body._forward_hooks


def test_two_users_at_once_never_see_each_others_map():
    network = Corner().eval()
    mapper = Mapper(network, "body")
    alone = [mapper.map(picture(seed), 1, "hirescam") for seed in range(4)]
    wrong, stop = [], threading.Event()

    def explain(seed):
        for _ in range(60):
            if not np.array_equal(mapper.map(picture(seed), 1, "hirescam"), alone[seed]):
                wrong.append(seed)

    def answer():
        while not stop.is_set():
            with torch.inference_mode():
                network(picture(9))

    users = [threading.Thread(target=explain, args=(seed,)) for seed in range(4)]
    others = [threading.Thread(target=answer) for _ in range(2)]
    for thread in others + users:
        thread.start()
    for thread in users:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert wrong == []


def test_a_backbone_without_a_layer_is_explained_by_covering_and_says_so(tiny, drawn):
    data = allkit.Dataset.open(drawn)
    found = tiny.explain(data.read(0), check=False)
    assert (found.method, found.layer) == ("occlusion", None)
    assert found.map.shape == data.read(0).shape[:2]
    assert any("names no layer" in note for note in found.notes)
    with pytest.raises(allkit.AllkitError, match="names no layer for hirescam"):
        tiny.explain(data.read(0), method="hirescam")
    with pytest.raises(allkit.AllkitError, match="knows no class 'Plasma'"):
        tiny.explain(data.read(0), target="Plasma")


def test_the_nearest_training_examples_of_a_training_image_begin_with_itself(tiny, drawn):
    data = allkit.Dataset.open(drawn)
    found = tiny.explain(data.read(3), check=False, data=data)
    assert found.neighbours[0].name == data.samples[3].image
    assert found.neighbours[0].distance == pytest.approx(0, abs=1e-2)
    assert len(found.neighbours) == 5
    assert found.to_dict()["neighbours"][0]["image"] == data.samples[3].image


def test_examples_are_training_images_and_others_are_not_shown(tiny, drawn):
    data = allkit.Dataset.open(drawn)
    others = allkit.Dataset.sample(16, groups=8, seed=99)
    with pytest.raises(allkit.AllkitError, match="None of the 16 images"):
        tiny.explain(data.read(3), check=False, data=others)
    mixed = allkit.Dataset([*others.samples, *data.samples[:4]], data.classes)
    found = tiny.explain(others.read(0), check=False, data=mixed)
    assert found.neighbours
    assert {n.name for n in found.neighbours} <= {s.image for s in data.samples[:4]}


def test_allkit_explain_writes_a_picture_and_says_what_it_found(cli, tiny_folder, drawn, tmp_path):
    image = drawn.parent / allkit.Dataset.open(drawn).samples[0].image
    status, _, err = cli("explain", tiny_folder, image, "--out", "map.png", "--json", "map.json")
    assert status == 0
    assert "% of the map lies on stained cells" in err
    with Image.open(tmp_path / "map.png") as picture_:
        assert picture_.width > 800
    assert (tmp_path / "map.json").read_text().startswith("{")
    status, _, err = cli("explain", tiny_folder, image, "--out", "map.png")
    assert status == 2
    assert "Traceback" not in err
    status, _, err = cli("explain", tiny_folder, "none.png", "--out", "other.png")
    assert status == 2
    assert not (tmp_path / "other.png").exists()


@pytest.mark.slow
def test_vgg16_names_a_layer_and_hirescam_is_faithful_to_it(tmp_path, drawn):
    data = allkit.Dataset.open(drawn)
    model = allkit.Trainer(
        backbone="vgg16", weights="none", epochs=2, copies=0, cache=None, view="rgb", bag="field"
    ).fit(data)
    found = model.explain(data.read(0), method="gradcam", check=False)
    assert found.layer == "block5.layers.29"
    assert np.isfinite(found.map).all()
