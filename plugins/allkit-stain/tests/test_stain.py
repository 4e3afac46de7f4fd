import numpy as np
import pytest
import torch

import allkit
import allkit_stain as stain
from allkit.plugins import Registry
from allkit.telemetry import import_silent
from allkit.testing import conformance

NAMES = ("hed", "strength", "hed-light", "hed-strong", "stain-strength", "lamp")


@pytest.mark.slow
@conformance("allkit-stain")
def test_conformance(check):
    check()


def test_density_and_image_are_each_others_inverse():
    image = np.arange(1, 256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(stain.to_image(stain.density(image)), image)


@pytest.mark.parametrize("name", NAMES)
def test_the_colour_changes_and_the_place_does_not(name, allkit_images):
    image = allkit_images[0]
    apply = Registry().get("augmentation", name).apply
    result = apply(image, np.random.default_rng(4))
    assert np.abs(result.astype(int) - image).mean() > 0.5
    # Where the cells are dark they stay darker than the background.
    before, after = (stain.density(i).sum(axis=2).ravel() for i in (image, result))
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_the_strong_one_moves_the_stain_further_than_the_light_one(allkit_images):
    image = allkit_images[0]
    host = Registry()

    def moved(name):
        apply = host.get("augmentation", name).apply
        rows = [apply(image, np.random.default_rng(s)).astype(int) - image for s in range(12)]
        return np.mean(np.abs(rows))

    assert moved("hed-strong") > 2 * moved("hed-light")


def test_more_stain_makes_the_cells_darker_and_leaves_glass_clear():
    glass = np.full((8, 8, 3), 255, np.uint8)
    cell = np.full((8, 8, 3), (120, 80, 160), np.uint8)
    rng, more = np.random.default_rng(0), stain.Strength(low=1.0, high=1.5)
    assert (stain.strength(glass, rng, settings=more) == 255).all()
    assert (stain.strength(cell, rng, settings=more) < cell).all()


def test_only_one_dye_changes_when_only_one_is_told_to():
    amounts = stain.density(np.full((4, 4, 3), (120, 80, 160), np.uint8)) @ stain.TO_STAINS
    more = (amounts * (1.2, 1.0, 1.0)) @ stain.STAINS @ stain.TO_STAINS
    np.testing.assert_allclose(more[..., 1:], amounts[..., 1:], atol=1e-6)
    np.testing.assert_allclose(more[..., 0], 1.2 * amounts[..., 0], rtol=1e-5)


# What models of earlier versions name: the formulas as they were.
BEFORE = {
    "hed-light": lambda image, rng: hed_as_before(0.1, 0.01, image, rng),
    "hed-strong": lambda image, rng: hed_as_before(0.4, 0.05, image, rng),
    "stain-strength": lambda image, rng: stain.to_image(
        stain.density(image) * rng.uniform(0.6, 1.5)
    ),
    "lamp": lambda image, rng: stain.to_image(stain.density(image) + rng.uniform(-0.06, 0.06, 3)),
}


def hed_as_before(scale, shift, image, rng):
    factors = rng.uniform(1 - scale, 1 + scale, 3)
    offsets = rng.uniform(-shift, shift, 3)
    return stain.to_image(
        (stain.density(image) @ stain.TO_STAINS * factors + offsets) @ stain.STAINS
    )


@pytest.mark.parametrize("name", BEFORE)
def test_a_name_of_earlier_versions_does_what_it_did(name, allkit_images):
    image = allkit_images[0]
    apply = Registry().get("augmentation", name).apply
    wanted = BEFORE[name](image, np.random.default_rng(7))
    np.testing.assert_array_equal(apply(image, np.random.default_rng(7)), wanted)


def test_one_augmentation_takes_what_needed_several_names(allkit_images):
    host, image = Registry(), allkit_images[0]
    strong = host.get("augmentation", {"hed": {"sigma": 0.4, "shift": 0.05}})
    named = host.get("augmentation", "hed-strong")
    seeds = [np.random.default_rng(2) for _ in range(2)]
    np.testing.assert_array_equal(strong.apply(image, seeds[0]), named.apply(image, seeds[1]))
    with pytest.raises(allkit.AllkitError, match="sigma = 3 in the settings"):
        host.get("augmentation", {"hed": {"sigma": 3}})


# ── the view ───────────────────────────────────────────────────────────────────────────────────


def view(**settings):
    return Registry().get("view", {"macenko": settings}).build(224)


def shown(image, **settings):
    inputs = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return view(**settings)(inputs, inputs)[0].permute(1, 2, 0).numpy()


def smear(haematoxylin=(0.45, 0.88, 0.14), eosin=(0.3, 0.6, 0.75), seed=0, tint=(1.0, 1.0, 1.0)):
    """A field `(224, 224, 3)` uint8 of red and white cells, stained by two dyes of these colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:224, :224]
    amounts = np.zeros((224, 224, 2))
    for cell in range(60):
        cy, cx = rng.uniform(0, 224, 2)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (14 if cell < 8 else 9) ** 2
        amounts[inside] = (1.6, 0.1) if cell < 8 else (0.05, 0.5)
    amounts *= rng.uniform(0.8, 1.2, amounts.shape)
    dyes = np.array([np.divide(v, np.linalg.norm(v)) for v in (haematoxylin, eosin)])
    return np.clip(256 * np.exp(-amounts @ dyes) * tint - 1, 0, 255).round().astype(np.uint8)


def by_numpy(image, settings):
    """Macenko's method by NumPy's singular values, angles, percentiles and least squares."""
    densities = -np.log((image.reshape(-1, 3).astype(float) + 1) / 256)
    densities = np.maximum(densities - np.percentile(densities, 10, axis=0), 0)
    kept = densities[densities.mean(axis=1) >= settings.beta]
    plane = np.linalg.svd(kept, full_matrices=False)[2][:2]
    plane[0] *= np.sign(plane[0].sum())
    angles = np.arctan2(kept @ plane[1], kept @ plane[0])
    ends = np.percentile(angles, [settings.alpha, 100 - settings.alpha])
    dyes = [np.clip(np.cos(a) * plane[0] + np.sin(a) * plane[1], 0, None) for a in ends]
    dyes = np.array(sorted((d / np.linalg.norm(d) for d in dyes), key=lambda d: d[2]))
    amounts = np.linalg.lstsq(dyes.T, densities.T, rcond=None)[0]
    amounts *= (settings.strongest / np.percentile(amounts, 99, axis=1))[:, None]
    light = 256 * np.exp(-np.array([settings.haematoxylin, settings.eosin]).T @ amounts) - 1
    return np.clip(light.T.reshape(image.shape) / 255, 0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_view_is_what_numpy_computes_by_other_ways(seed):
    settings = stain.Macenko(mask_corner=False)
    found = shown(smear(seed=seed), mask_corner=False)
    np.testing.assert_allclose(found, by_numpy(smear(seed=seed), settings), atol=2e-4)


def test_two_stainings_of_one_smear_look_the_same():
    one = smear()
    other = smear((0.62, 0.72, 0.3), (0.2, 0.75, 0.63), tint=(0.95, 0.97, 0.85))
    assert np.abs(one / 255 - other / 255).mean() > 0.03
    assert np.abs(shown(one) - shown(other)).mean() < 0.01


def test_nuclei_are_blue_and_red_cells_are_red():
    image = smear()
    densities = -np.log((image + 1.0) / 256)
    nuclei, red = densities.sum(axis=2) > 1.5, densities[..., 2] > 0.25
    picture = shown(image, mask_corner=False)
    assert picture[nuclei].mean(axis=0)[2] > picture[nuclei].mean(axis=0)[0]
    red_cells = picture[red & ~nuclei].mean(axis=0)
    assert red_cells[0] > red_cells[2]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_image_stays_blank(value):
    picture = shown(np.full((224, 224, 3), value, np.uint8), clear_glass=False)
    assert np.isfinite(picture).all()
    assert np.ptp(picture[:180, :180], axis=(0, 1)).max() < 1e-5


def test_noise_on_glass_is_not_taken_for_a_stain():
    rng = np.random.default_rng(0)
    glass = (245 + rng.normal(0, 1.5, (224, 224, 3))).clip(0, 255).astype(np.uint8)
    assert shown(glass).std() < 0.05


@pytest.mark.parametrize("dye", [0, 1])
def test_in_a_field_of_one_dye_the_other_is_not_invented(dye):
    colours = [(0.45, 0.88, 0.14), (0.3, 0.6, 0.75)]
    image = smear(colours[dye], colours[dye])
    picture = shown(image)
    assert np.isfinite(picture).all()
    # As dark places as before, and as clear ones: nothing is blown up.
    before, after = (image / 255).mean(axis=2)[:180, :180], picture.mean(axis=2)[:180, :180]
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


def test_a_burnt_in_scale_bar_is_white_and_changes_nothing_else():
    image = smear()
    marked = image.copy()
    marked[200:, 188:] = 0
    plain, seen = shown(image), shown(marked)
    assert (seen[195:, 185:] == 1).all()
    np.testing.assert_allclose(seen, plain, atol=1e-6)


def test_settings_that_are_no_two_colours_are_refused():
    with pytest.raises(allkit.AllkitError, match="different colours"):
        view(haematoxylin=(0.5, 0.5, 0.5), eosin=(0.6, 0.6, 0.6))


@pytest.mark.nightly  # the checks export a classifier that is shown it
def test_a_file_of_onnx_shows_the_same(tmp_path):
    onnxruntime = import_silent("onnxruntime")
    fields = [torch.from_numpy(smear(seed=s)).permute(2, 0, 1).float() / 255 for s in range(2)]
    inputs, module = torch.stack(fields), view().eval()
    torch.onnx.export(
        module, (inputs, inputs), tmp_path / "view.onnx", dynamo=True, verbose=False,
        input_names=["image", "whole"],
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "view.onnx")
    grey = torch.full((3, 224, 224), 0.5)
    for each in (inputs, torch.stack([grey, fields[0]])):
        (found,) = session.run(None, {"image": each.numpy(), "whole": each.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, module(each, each).numpy(), atol=1e-4)
