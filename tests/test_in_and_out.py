"""What goes into a classifier and a set, and what comes out, as users of other libraries expect it."""

import io
import pickle  # noqa: TID251 - what was just written here
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from torch.utils.data import DataLoader

import allkit
from allkit.errors import ConfigError, DatasetError, ImageError


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn)


@pytest.fixture(scope="module")
def some(data):
    """Three images, each of another class, as a set."""
    return data[[0, len(data) // 2, len(data) - 1]]


@pytest.fixture(scope="module")
def wanted(tiny, some):
    return tiny.predict([some.read(i) for i in range(len(some))]).probabilities


def folder_of(some, place):
    (place / "deeper").mkdir(parents=True)
    for index in range(len(some)):
        folder = place if index else place / "deeper"
        Image.fromarray(some.read(index)).save(folder / f"{index}.png")
    (place / "notes.txt").write_text("not an image")
    return place


# ── answers for whatever holds images ──────────────────────────────────────────────────────


def test_every_form_of_several_images_gets_the_same_answers(tiny, some, wanted, tmp_path):
    arrays = [some.read(i) for i in range(len(some))]
    tensor = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    folder = folder_of(some, tmp_path / "fields")
    names = sorted(str(path) for path in folder.rglob("*.png"))
    forms = {
        "a list of arrays": arrays,
        "one array": np.stack(arrays),
        "Pillow images": [Image.fromarray(array) for array in arrays],
        "a tensor (N, 3, H, W)": tensor,
        "a set": some,
        "samples": list(some),
        "a slice of a set": some[:3],
        "a data frame": pd.DataFrame({"image": arrays}),
        "the frame of a set": some.to_frame(),
        "a generator": (array for array in arrays),
    }
    for form, images in forms.items():
        np.testing.assert_array_equal(tiny.predict_proba(images), wanted, err_msg=form)
    for images in (str(folder), folder, str(folder / "**" / "*.png"), names):
        answers = tiny.predict(images)
        assert [answer.image for answer in answers] == names
        np.testing.assert_allclose(answers.probabilities, wanted[[1, 2, 0]], rtol=1e-5)


def test_one_image_in_any_form_gets_one_answer(tiny, some, wanted, tmp_path):
    pixels = some.read(0)
    file = tmp_path / "one.png"
    Image.fromarray(pixels).save(file)
    with open(file, "rb") as opened:
        forms = [
            pixels, Image.fromarray(pixels), file, str(file), file.read_bytes(), opened, some[0],
            io.BytesIO(file.read_bytes()), torch.from_numpy(pixels).permute(2, 0, 1),
        ]  # fmt: skip
        for image in forms:
            np.testing.assert_array_equal(tiny.predict_proba(image), wanted[:1])


def test_what_a_folder_holds_besides_images_is_said(tiny, some, tmp_path):
    answers = tiny.predict(folder_of(some, tmp_path / "fields"))
    assert "1 file" in answers.left_out
    assert answers.left_out in repr(answers)


def test_a_folder_or_pattern_without_images_is_an_error(tiny, tmp_path):
    with pytest.raises(DatasetError, match="holds no images"):
        tiny.predict(tmp_path)
    with pytest.raises(DatasetError, match="No image matches"):
        tiny.predict(str(tmp_path / "*.png"))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (None, "None"),
        (5, "an int"),
        ({"a": 1}, "a dict"),
        (np.zeros((64, 64, 3)), "float64"),
        (torch.zeros(3, 64, 64), r"\* 255"),
        (pd.DataFrame({"file": ["a.png"]}), "no column 'image'"),
    ],
)
def test_what_holds_no_images_is_an_error_of_allkit(tiny, images, said):
    with pytest.raises(ImageError, match=said):
        tiny.predict(images)


def test_a_batch_of_no_images_is_refused(tiny, some):
    with pytest.raises(ConfigError, match="batch size"):
        tiny.predict(some, batch_size=0)


# ── answers as a list, a table, a page ─────────────────────────────────────────────────────


def test_answers_are_a_list_whose_slices_are_answers_too(tiny, some):
    answers = tiny.predict(some)
    assert isinstance(answers, list)
    assert len(answers) == 3
    assert isinstance(answers[1:], allkit.Predictions)
    assert answers[1:].classes == answers.classes
    assert answers[-1] is list(answers)[-1]
    assert sum(answers.verdicts.values()) == 3
    assert repr(answers).startswith("<Predictions: 3 (")
    assert allkit.Predictions(tiny.stream(some)).to_frame().equals(answers.to_frame())
    assert pickle.loads(pickle.dumps(answers)) == answers  # noqa: S301 - as above


def test_the_table_of_answers_has_a_column_a_field_and_the_index_that_was_given(tiny, some):
    frame = some.to_frame().set_index(pd.Index(["a", "b", "c"]))
    table = tiny.predict(frame).to_frame()
    assert list(table.index) == ["a", "b", "c"]
    assert {"image", "label", "probability", "verdict", "white_cells"} <= set(table.columns)
    shares = table[[f"p_{name}" for name in tiny.classes]].to_numpy(np.float32)
    np.testing.assert_array_equal(shares, tiny.predict_proba(frame))
    assert list(tiny.predict([]).to_frame().columns[:2]) == ["image", "label"]


def test_an_unreadable_image_has_an_answer_and_a_row_but_no_probabilities(tiny, some):
    images = [some.read(0), b"no image", some.read(1)]
    answers = tiny.predict(images)
    assert [answer.verdict == "unreadable" for answer in answers] == [False, True, False]
    assert len(answers.to_frame()) == 3
    with pytest.raises(ImageError, match=r"1 of 3 images cannot be read.*image 1"):
        tiny.predict_proba(images)
    with pytest.raises(ImageError, match="image 1"):
        tiny.embed(images)


def test_an_answer_in_a_notebook_shows_picture_verdict_bars_and_cells(tiny, some):
    page = tiny.predict(some)._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 3
    assert all(name in page for name in tiny.classes)
    assert "<script" not in page
    seen = allkit.Prediction("a.png", "review", ("few cells",), white_cells=2)
    assert "2 white cells" in seen._repr_html_()
    assert "few cells" in seen._repr_html_()
    one = tiny.predict(some)[0]
    assert one._repr_html_().count(">0.") + one._repr_html_().count("&gt; 0.99") >= 1
    assert len(repr(one)) < 120


def test_names_in_a_notebook_cannot_become_markup(tiny, some, tmp_path):
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(some.read(0)).save(file)
    assert "<img src=x" not in tiny.predict([file])._repr_html_()


def test_large_images_are_not_kept_for_the_notebook(tiny):
    large = np.full((1400, 1600, 3), 200, np.uint8)
    answers = tiny.predict([large])
    assert len(pickle.dumps(answers)) < 200_000
    assert "data:image/jpeg" in answers._repr_html_()


# ── as in scikit-learn and torch ───────────────────────────────────────────────────────────


def test_a_classifier_has_the_names_of_scikit_learn(tiny, data):
    assert list(tiny.classes_) == list(tiny.classes)
    assert tiny.score(data) == tiny.evaluate(data, probes=False).accuracy
    np.testing.assert_allclose(tiny.predict_proba(data[:5]).sum(axis=1), 1, rtol=1e-5)


def test_features_of_images_are_those_of_the_set(tiny, some):
    features = tiny.embed([some.read(i) for i in range(3)])
    np.testing.assert_allclose(features, tiny.features(some), rtol=1e-4, atol=1e-5)
    assert tiny.embed([]).shape == (0, features.shape[1])


def test_a_classifier_moves_and_shows_its_module(tiny, wanted, some):
    import copy

    mine = copy.copy(tiny)
    assert mine.to("cpu") is mine
    assert mine.device.type == "cpu"
    assert isinstance(mine.module, torch.nn.Module)
    np.testing.assert_array_equal(mine.predict_proba(some), wanted)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            mine.to("cuda")


def test_evaluate_takes_the_path_and_the_frame_of_a_set(tiny, drawn, data):
    assert tiny.evaluate(drawn, probes=False).n == len(data)
    assert tiny.evaluate(data.to_frame(), probes=False).accuracy == tiny.score(data)
    with pytest.raises(DatasetError, match=r"Dataset\.open"):
        tiny.evaluate([data.read(0)])


# ── sets ───────────────────────────────────────────────────────────────────────────────────


def test_a_set_is_taken_apart_as_a_list_or_an_array(data):
    assert data[0] is data.samples[0]
    assert data[-1] is data.samples[-1]
    assert [s.image for s in data[2:5]] == [s.image for s in data.samples[2:5]]
    assert [s.image for s in data[[4, 1]]] == [data[4].image, data[1].image]
    benign = data[data.labels == 0]
    assert benign.counts == {data.classes[0]: data.counts[data.classes[0]]}
    assert benign.classes == data.classes
    for wrong in ("Benign", [len(data)], 1.5, [[0, 1]]):
        with pytest.raises(DatasetError, match="takes no images"):
            data[wrong]


def test_a_set_goes_through_a_frame_and_stays_itself(data):
    frame = data.to_frame()
    assert list(frame.columns[:2]) == ["image", "label"]
    again = allkit.Dataset.from_frame(frame)
    assert again.fingerprint == data.fingerprint
    assert [s.group for s in again] == [s.group for s in data]
    assert allkit.Dataset.from_dataframe(frame).classes == data.classes


def test_arrays_become_a_set_without_loss(some):
    arrays = [some.read(i) for i in range(3)]
    labels = np.array([s.label for s in some])
    mine = allkit.Dataset.from_arrays(np.stack(arrays), labels, groups=[7, 7, 8], names="abc")
    assert [s.label for s in mine] == [s.label for s in some]
    assert [s.group for s in mine] == ["7", "7", "8"]
    assert [s.image for s in mine] == ["a", "b", "c"]
    assert all((mine.read(i) == arrays[i]).all() for i in range(3))
    assert mine.to_frame()["image"].map(type).eq(bytes).all()
    bare = allkit.Dataset.from_arrays(arrays, None)
    assert not bare.labelled
    assert not bare.classes


def test_arrays_that_do_not_fit_their_labels_are_named(some):
    arrays = [some.read(i) for i in range(3)]
    with pytest.raises(DatasetError, match=r"3 images and 2 values of 'label'"):
        allkit.Dataset.from_arrays(arrays, ["Pro", "Pre"])
    with pytest.raises(DatasetError, match=r"2 values of 'group'"):
        allkit.Dataset.from_arrays(arrays, ["Pro"] * 3, groups=[1, 2])
    with pytest.raises(DatasetError, match="float64"):
        allkit.Dataset.from_arrays([np.zeros((64, 64, 3))], ["Pro"])
    with pytest.raises(DatasetError, match="label"):
        allkit.Dataset.from_arrays(arrays, ["Pro", None, "Pre"])


@pytest.mark.parametrize(
    ("given", "way"),
    [
        ("smears", r"Dataset\.open\(path\)"),
        (pd.DataFrame({"image": ["a.png"]}), r"Dataset\.from_frame"),
        ([np.zeros((8, 8, 3), np.uint8)], r"Dataset\.from_arrays"),
        (5, r"Dataset\.from_arrays"),
    ],
)
def test_a_set_of_something_else_names_the_way(given, way):
    with pytest.raises(DatasetError, match=way):
        allkit.Dataset(given)


def test_a_division_unpacks(data):
    train, test = data.split(0.3)
    assert len(train) + len(test) == len(data)
    train, val, test = data.split(0.3, val=0.2)
    assert len(train) + len(val) + len(test) == len(data)


def test_the_splitters_of_scikit_learn_make_divisions(data):
    y = data.labels
    for splitter in (GroupKFold(3), StratifiedGroupKFold(3)):
        for train, test in splitter.split(y, y, groups=data.units):
            split = allkit.Split.from_indices(data, train, test=test)
            assert [s.image for s in split.test] == [data[int(i)].image for i in test]
            assert split.by == "group"
            assert split.whole.has_parts


def test_a_division_that_tears_groups_apart_says_so(data):
    half = np.random.default_rng(0).random(len(data)) < 0.5
    split = allkit.Split.from_indices(data, half, test=~half)
    assert split.by == "image"
    assert any("two sides" in sentence for sentence in split.whole.leaks())
    with pytest.raises(DatasetError, match="is in the parts train and test"):
        allkit.Split.from_indices(data, [0, 1], test=[1, 2])
    few = allkit.Split.from_indices(data, [0, 1], test=[5])
    assert few.dropped == len(data) - 3


def test_the_loader_of_torch_gets_what_the_network_gets(tiny, data):
    images = data.as_torch(tiny.spec)
    assert len(images) == len(data)
    batch, labels = next(iter(DataLoader(images, batch_size=4)))
    assert batch.shape == (4, 3, tiny.spec.size, tiny.spec.size)
    assert batch.dtype == torch.float32
    assert labels.tolist() == data.labels[:4].tolist()
    wanted = tiny.pipeline().standardise(torch.from_numpy(data.read(0))[None])[0]
    torch.testing.assert_close(batch[0], wanted)


def test_public_types_are_at_the_top():
    from allkit import ConfigError, Evaluation, Explanation, TrainConfig

    assert all(isinstance(one, type) for one in (ConfigError, Evaluation, Explanation, TrainConfig))


def test_a_folder_and_an_exported_file_are_opened_by_one_call(tiny_folder, tiny_onnx, some, tiny):
    for place in (tiny_folder, tiny_onnx, str(tiny_onnx)):
        opened = allkit.load(place)
        assert opened.classes == tiny.classes
        np.testing.assert_allclose(
            opened.predict(some).probabilities, tiny.predict_proba(some), atol=1e-4
        )
    with pytest.raises(ConfigError, match="Leave the device out"):
        allkit.load(tiny_onnx, device="cuda")
    with pytest.raises(allkit.CheckpointError, match="does not exist"):
        allkit.load("nowhere.onnx")


# ── what a division keeps apart ────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def on_slides(some, data):
    """Twelve images of four slides with no group, three a slide."""
    arrays = [data.read(i) for i in range(12)]
    labels = ["Pro", "Pre"] * 6
    return allkit.Dataset.from_arrays(arrays, labels, slides=[f"s{i // 3}" for i in range(12)])


def test_a_division_by_slide_keeps_slides_whole(on_slides):
    train, test = on_slides.split(0.5, by="slide")
    assert not {s.slide for s in train} & {s.slide for s in test}
    for fold in on_slides.folds(2, by="slide"):
        assert not {s.slide for s in fold.train} & {s.slide for s in fold.test}
    assert on_slides.split(0.5, by="slide").whole.leaks() == []


@pytest.mark.parametrize("by", ["Image", "images", "group ", None, "series"])
def test_a_division_by_another_word_is_refused(data, by):
    with pytest.raises(DatasetError, match="is no way to divide"):
        data.split(0.3, by=by)


def test_a_division_by_unknown_slides_is_refused(some):
    with pytest.raises(DatasetError, match="slides of its images are unknown"):
        allkit.Dataset.from_arrays([some.read(0)], ["Pro"]).split(0.3, by="slide")


def test_slides_on_two_sides_are_told_before_and_after_the_training(on_slides, tiny_settings):
    half = np.arange(12) % 3 == 0
    split = allkit.Split.from_indices(on_slides, ~half, test=half)
    assert any("4 slides (12 images) lie on two sides" in line for line in split.whole.leaks())
    with pytest.warns(UserWarning, match="divide by slide"):
        on_slides.split(0.5)
    model = allkit.Trainer(**(tiny_settings | {"val": 0.0})).fit(split.train)
    notes = model.evaluate(split.test, probes=False).notes
    assert any("4 of these 4 images come from slides that were trained on" in n for n in notes)


def test_a_validation_part_that_was_trained_on_is_refused(data, tiny_settings):
    with pytest.raises(DatasetError, match="would judge nothing"):
        allkit.Trainer(**tiny_settings).fit(data, data[::3])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: allkit.Trainer("vgg16"), "settings by their names"),
        (lambda d: allkit.Trainer().fit(None), "NoneType"),
        (lambda d: d.split(0.3, "group"), "give shares"),
        (lambda d: d.split(test="0.3"), "give shares"),
        (lambda d: d.folds(0), "number of folds"),
        (lambda d: allkit.check([1]), "a list"),
        (lambda d: allkit.Dataset.open(None), "None"),
        (lambda d: allkit.Dataset.open(""), "''"),
        (lambda d: allkit.Dataset.from_arrays([d.read(0)] * 2, ["a", "b"], names=["x", "x"]), "one name"),
        (lambda d: allkit.Dataset.from_arrays(np.zeros((2, 64, 64, 3)), ["a", "b"]), r"The array .*\* 255"),
        (lambda d: allkit.Dataset.from_arrays(np.zeros((2, 3, 64, 64), np.uint8), ["a", "b"]), "transpose"),
        (lambda d: allkit.Dataset.from_frame(pd.DataFrame({"image": [d.read(0)], "label": ["a"]})), "from_arrays"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(data, call, said):
    with pytest.raises(allkit.AllkitError, match=said):
        call(data)


def test_labels_may_be_numbers_and_tensors(some):
    arrays = [some.read(i % 3) for i in range(11)]
    for labels in (list(range(11)), np.arange(11), torch.arange(11), list(torch.arange(11))):
        data = allkit.Dataset.from_arrays(arrays, labels)
        assert data.classes == tuple(map(str, range(11)))


def test_a_set_of_a_set_or_a_frame_is_that_set(data):
    assert allkit.Dataset.open(data) is data
    assert len(allkit.Dataset.open(data.to_frame())) == len(data)


def test_score_takes_images_with_their_labels(tiny, some):
    images = [some.read(i) for i in range(3)]
    assert tiny.score(images, [s.label for s in some]) == tiny.score(some)


def test_modules_that_the_documentation_names_need_no_import():
    code = (
        "import allkit; print(allkit.config.TrainConfig().seed, allkit.errors.AllkitError.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "AllkitError"]
