"""The calls that users of timm, fastai and scikit-learn try in their first hour, each in one place.

What each does in all its forms stands in the tests of its own; here nobody needs to look for it.
"""

import copy
import functools
import io
import pickle  # noqa: TID251 - what was just written here
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from torch.utils.data import DataLoader

import allkit
from allkit.sklearn import SmearClassifier
from allkit.telemetry import import_silent

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def d(drawn):
    return allkit.Dataset.open(drawn)


@pytest.fixture(scope="module")
def m(tiny):
    return tiny


@pytest.fixture(scope="module")
def pixels(d):
    return d.read(0)


@pytest.fixture(scope="module")
def evaluation(m, d):
    return m.evaluate(d, probes=False)


@pytest.fixture
def fit(few, tiny_settings):
    """Train a few images with settings of one's own."""
    data = allkit.Dataset.open(few)
    plain = {name: value for name, value in tiny_settings.items() if name != "head_decay"}
    return lambda **own: allkit.Trainer(**(plain | own)).fit(data)


def one_answer(answers):
    assert [answer.verdict != "unreadable" for answer in answers] == [True]
    return True


def test_01_a_pillow_image(m, pixels):
    assert one_answer(m.predict(Image.fromarray(pixels)))


def test_02_an_open_file_and_bytes_in_memory(m, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert one_answer(m.predict(file))
    assert one_answer(m.predict(io.BytesIO((tmp_path / "a.png").read_bytes())))


def test_03_tensors(m, pixels):
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert one_answer(m.predict(tensor))
    assert len(m.predict(torch.stack([tensor, tensor]))) == 2
    with pytest.raises(allkit.ImageError, match="range"):
        m.predict(tensor / 255)


def test_04_floats_say_what_is_wanted(m, pixels):
    with pytest.raises(allkit.ImageError, match="uint8"):
        m.predict(pixels / 255.0)


def test_05_a_folder_and_a_pattern(m, pixels, tmp_path):
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    assert len(m.predict(str(tmp_path))) == len(m.predict(str(tmp_path / "*.png"))) == 2


def test_06_a_set(m, d):
    assert [answer.image for answer in m.predict(d[:3])] == [s.image for s in d[:3]]


def test_07_a_data_frame_keeps_its_index(m, d):
    frame = d[:2].to_frame().set_index(pd.Index([7, 9]))
    assert list(m.predict(frame).to_frame().index) == [7, 9]


@pytest.mark.parametrize("nothing", [None, 5])
def test_08_nothing_is_an_error_of_allkit(m, nothing):
    with pytest.raises(allkit.AllkitError):
        m.predict(nothing)


def test_09_no_batch_is_an_error(m, pixels):
    with pytest.raises(allkit.ConfigError):
        m.predict(pixels, batch_size=0)


def test_10_probabilities(m, d):
    assert m.predict_proba(d[:3]).shape == (3, len(m.classes))


def test_11_the_names_of_scikit_learn(m, d):
    assert list(m.classes_) == list(m.classes)
    assert 0 <= m.score(d) <= 1


def test_12_answers_as_a_table(m, d):
    assert {"image", "label", "verdict"} <= set(m.predict(d[:2]).to_frame().columns)


def test_13_features(m, d):
    assert m.embed(d[:2]).shape == (2, m.info.backbone.width)


def test_14_device_and_module(m):
    assert m.device.type == "cpu"
    assert isinstance(m.module, torch.nn.Module)
    assert copy.copy(m).to("auto").device.type in ("cpu", "cuda", "mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a graphics card")
def test_15_a_device_that_is_not_there(tiny_folder):
    with pytest.raises(allkit.AllkitError, match="cuda"):
        allkit.Classifier.load(tiny_folder, device="cuda")


def test_16_pickle_and_copy(m, pixels):
    for twin in (pickle.loads(pickle.dumps(m)), copy.deepcopy(m)):  # noqa: S301 - as above
        assert (twin.predict_proba(pixels) == m.predict_proba(pixels)).all()


def test_17_positions_slices_iteration(d):
    assert d[0] is next(iter(d))
    assert len(d[:3]) == 3


def test_18_a_division_unpacks(d):
    train, test = d.split(0.3)
    assert len(train) + len(test) == len(d)


def test_19_a_path_in_place_of_samples(drawn):
    with pytest.raises(allkit.DatasetError, match=r"Dataset\.open"):
        allkit.Dataset(str(drawn))


def test_20_arrays(pixels):
    data = allkit.Dataset.from_arrays([pixels, pixels], ["Pro", "Pre"], groups=["s1", "s2"])
    assert len(data) == 2


def test_21_frames_in_and_out(d):
    assert allkit.Dataset.from_frame(d.to_frame()).fingerprint == d.fingerprint


def test_22_positions_of_a_splitter(d):
    train, test = next(GroupKFold(3).split(d.labels, d.labels, groups=d.units))
    assert allkit.Split.from_indices(d, train, test=test).by == "group"


def test_23_the_loader_of_torch(m, d):
    images, labels = next(iter(DataLoader(d.as_torch(m.spec), batch_size=2)))
    assert images.shape[:2] == (2, 3)
    assert len(labels) == 2


def test_24_pictures_of_a_set(d):
    assert d.show().axes
    assert d.show_batch(["orientation", "zoom"]).axes


def test_25_a_name_of_other_tools():
    with pytest.raises(allkit.ConfigError, match="learning_rate") as error:
        allkit.Trainer(lr=1e-3)
    assert len(str(error.value)) < 300


def test_26_a_backbone_of_timm_by_its_plain_name(fit):
    try:
        assert "timm:test_resnet" in repr(fit(backbone="test_resnet"))
    except allkit.AllkitError as error:
        assert "timm:test_resnet" in str(error)  # noqa: PT017 - either will do


def test_27_a_module_of_ones_own(fit, d):
    body = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )  # fmt: skip
    assert len(fit(backbone=body, weights="default").predict(d[:2])) == 2


def test_28_an_augmentation_of_ones_own(fit):
    albumentations = import_silent("albumentations")
    model = fit(augment=[albumentations.HorizontalFlip(p=0.5), lambda image: image[::-1].copy()])
    assert model.classes


def test_29_a_callback_ends_the_training(fit):
    seen = []

    def stop(epoch):
        seen.append(epoch)
        return True

    fit(callbacks=[stop], head_solver="adamw", epochs=5, refit=False, calibration_folds=0)
    assert len(seen) == 1


def test_30_loss_optimiser_and_schedule_of_ones_own(fit):
    fit(
        loss=lambda logits, labels: torch.nn.functional.cross_entropy(logits, labels),
        optimizer=functools.partial(torch.optim.SGD, lr=0.01),
        scheduler=lambda optimizer, steps: torch.optim.lr_scheduler.LinearLR(optimizer),
        epochs=2,
    )


def test_31_a_trainer_says_what_it_is():
    shown = repr(allkit.Trainer(backbone="vgg16", seed=3))
    assert "vgg16" in shown
    assert "seed" in shown


def test_32_lists_in_place_of_a_set(pixels):
    with pytest.raises(allkit.AllkitError, match="Dataset"):
        allkit.Trainer().fit([pixels], [0])


def test_33_an_evaluation_is_drawn_and_written(evaluation, tmp_path):
    assert len(evaluation.confusion) == len(evaluation.classes)
    assert evaluation.plot().axes
    evaluation.to_html(tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text("utf-8")


def test_34_its_worst_and_its_rows(evaluation, d):
    assert len(evaluation.to_frame()) == len(d)
    assert len(evaluation.worst(3)) == 3
    assert len(evaluation.misclassified) == round((1 - evaluation.accuracy) * len(d))


def test_35_what_a_notebook_shows(m, d, evaluation, pixels):
    for thing in (m, d, evaluation, m.predict(pixels), m.predict(pixels)[0]):
        assert "<" in thing._repr_html_()
        assert len(repr(thing)) < 400


def test_36_an_explanation_is_a_picture(m, pixels):
    explanation = m.explain(pixels, check=False)
    assert explanation._repr_png_().startswith(b"\x89PNG")
    assert hasattr(explanation, "show")


def test_37_progress(fit, capsys):
    told = []
    fit(progress=lambda what, done, total: told.append((what, done, total)))
    assert told


def test_38_scikit_learn(few, tiny_settings):
    data = allkit.Dataset.open(few)
    images = [data.read(i) for i in range(len(data))]
    labels = np.array(data.label_names)
    classifier = SmearClassifier(**tiny_settings)
    assert clone(classifier).get_params() == classifier.get_params()
    scores = cross_val_score(
        classifier,
        images,
        labels,
        groups=data.units,
        cv=GroupKFold(2),
        params={"groups": data.units},
    )
    assert len(scores) == 2


def test_39_plain_onnx_runtime_is_shown_by_an_example():
    text = (ROOT / "examples" / "run_without_allkit.py").read_text("utf-8")
    assert "InferenceSession" in text
    assert "import allkit" not in text
    assert "`places`" in (ROOT / "docs" / "how-to" / "export.md").read_text("utf-8")


def test_40_types_at_the_top():
    from allkit import ConfigError, Evaluation, Explanation, TrainConfig

    assert all(isinstance(one, type) for one in (ConfigError, Evaluation, Explanation, TrainConfig))
