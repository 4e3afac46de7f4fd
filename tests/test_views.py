"""Views: what a network is shown of an image in place of its colours."""

import numpy as np
import pytest
import torch

import allkit
from allkit.errors import ConfigError
from allkit.network.standardise import Standardise, seen_as
from allkit.records import InputSpec
from allkit.runtime.onnx import OnnxPredictor

SPEC = InputSpec(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), view="haematoxylin")


def seen(image):
    return Standardise(SPEC)(torch.from_numpy(image[None]))[0].numpy()


@pytest.fixture
def field(drawn):
    return allkit.Dataset.open(drawn).read(0)


def test_the_view_has_no_colour_and_uses_its_whole_range(field):
    view = seen(field)
    assert view.shape == (3, 224, 224)
    np.testing.assert_array_equal(view[0], view[1])
    np.testing.assert_array_equal(view[0], view[2])
    assert (view.min(), view.max()) == (0.0, 1.0)


def test_a_stronger_stain_and_a_darker_lamp_are_not_seen(field):
    light = (field.astype(np.float64) + 1) / 256
    strong, dark = light**1.4, light * 0.8
    for other in (strong, dark):
        changed = np.clip(other * 256 - 1, 0, 255).round().astype(np.uint8)
        difference = np.abs(seen(changed) - seen(field))
        assert np.abs(field / 255 - changed / 255).mean() > 0.05
        assert difference.mean() < 0.01


def test_a_burnt_in_scale_bar_is_not_seen(field):
    marked = field.copy()
    marked[200:, 188:] = 0
    marked[205:, 195:] = 255
    view, plain = seen(marked), seen(field)
    assert np.all(view[:, 193:, 182:] == 1.0)
    assert np.abs(view - plain).max() < 0.2


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_image_is_white(value):
    assert np.all(seen(np.full((224, 224, 3), value, np.uint8)) > 0.999)


@pytest.mark.slow
def test_the_view_is_saved_with_the_model_and_part_of_every_export(drawn, tmp_path, tiny_settings):
    data = allkit.Dataset.open(drawn)
    model = allkit.Trainer(**tiny_settings | {"view": "haematoxylin"}).fit(data)
    plain = allkit.Trainer(**tiny_settings).fit(data)
    images = [data.read(i) for i in range(4)]
    assert np.abs(model.probabilities(images) - plain.probabilities(images)).max() > 1e-3
    model.save(tmp_path / "m")
    loaded = allkit.Classifier.load(tmp_path / "m")
    assert loaded.info.backbone.input.view == "haematoxylin"
    np.testing.assert_array_equal(loaded.probabilities(images), model.probabilities(images))
    model.export(tmp_path / "m.onnx")
    predictor = OnnxPredictor(tmp_path / "m.onnx")
    cut = [images[0][:150, :180], *images[1:]]
    np.testing.assert_allclose(predictor.probabilities(cut), model.probabilities(cut), atol=1e-4)
    assert "density of the nuclear stain" in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.slow
def test_features_of_one_view_are_not_taken_for_those_of_another(drawn, tmp_path, tiny_settings):
    from allkit.features import FeatureCache

    data = allkit.Dataset.open(drawn)
    settings = tiny_settings | {"cache": FeatureCache(tmp_path)}
    with_cache = [
        allkit.Trainer(**settings | {"view": v}).fit(data) for v in ("rgb", "haematoxylin")
    ]
    alone = allkit.Trainer(**tiny_settings | {"view": "haematoxylin"}).fit(data)
    image = [data.read(0)]
    np.testing.assert_allclose(
        with_cache[1].probabilities(image), alone.probabilities(image), atol=1e-6
    )


def test_a_view_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="haematoxylin"):
        allkit.Trainer(view="hematoxylin")


def test_the_view_gives_gradients_to_what_comes_before_it():
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    seen_as("haematoxylin", 32)(image, image).sum().backward()
    assert torch.isfinite(image.grad).all()
