"""When an answer may be accepted: calibration, prediction sets, OOD detection, verdicts."""

import re
from pathlib import Path

import numpy as np
import pytest

import allkit
from allkit.data.drawn import draw_smears
from allkit.images.statistics import STATISTIC_NAMES, cell_mask, image_statistics
from allkit.report.checklist import shown_to
from allkit.trust.calibration import (
    confidence_floor,
    conformal_thresholds,
    examples_needed,
    fit_temperature,
)
from allkit.trust.ood import SpaceInput, fit_spaces, grouped_parts
from allkit.trust.reasons import OTHER, TEXTS, UNUSUAL, codes_of, texts_of
from allkit.trust.space import Space
from allkit.trust.verdict import Outputs, Trust

CLASSES = ("a", "b", "c")


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def sample(count, sharpness=1.0, seed=0):
    """Logits whose softmax is right as often as it says, times `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    return logits * sharpness, labels


# ── calibration ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_over_and_under_confidence(sharpness):
    logits, labels = sample(4000, sharpness)
    temperature, density_slope = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    assert density_slope == 0


def test_unusual_images_get_a_higher_temperature_where_they_are_wrong_more_often():
    logits, labels = sample(4000)
    scores = np.repeat([0.0, 2.0], 2000)
    sharper = logits * np.where(scores > 0, 3.0, 1.0)[:, None]
    temperature, density_slope = fit_temperature(sharper, labels, scores)
    assert temperature == pytest.approx(1, rel=0.1)
    assert np.exp(2 * density_slope) == pytest.approx(3, rel=0.15)
    assert fit_temperature(logits, labels, scores)[1] < 0.05


def test_when_every_image_is_right_the_model_does_not_become_certain():
    logits = np.eye(3)[np.arange(60) % 3]
    temperature, _ = fit_temperature(logits, np.arange(60) % 3)
    highest = softmax(logits / temperature).max()
    assert 0.9 < highest < 0.999


def test_each_class_is_in_its_sets_as_often_as_promised():
    logits, labels = sample(3000)
    new, truth = sample(20_000, seed=1)
    thresholds = conformal_thresholds(softmax(logits), labels, 0.9)
    members = (1 - softmax(new)) <= thresholds
    for index in range(3):
        own = truth == index
        assert 0.9 <= members[own, index].mean() < 0.94


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization:UserWarning")
def test_without_the_margin_the_thresholds_are_those_of_mapie_within_a_class(monkeypatch):
    monkeypatch.setattr("allkit.trust.calibration.SURE", 0.0)
    classification = pytest.importorskip("mapie.classification")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Returns the probabilities that it is given as features."""

        def fit(self, x, y):
            self.classes_ = np.unique(y)
            self.fitted_ = True
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return self.classes_[x.argmax(1)]

    logits, labels = sample(600)
    new = softmax(sample(50, seed=2)[0])
    ours = conformal_thresholds(softmax(logits), labels, 0.9)
    for index in range(3):
        own = labels == index
        model = Given().fit(softmax(logits), labels)
        theirs = classification.SplitConformalClassifier(
            model, confidence_level=0.9, conformity_score="lac", prefit=True
        )
        theirs.conformalize(softmax(logits)[own], labels[own])
        _, sets = theirs.predict_set(new)
        np.testing.assert_array_equal(sets[:, index, 0], (1 - new[:, index]) <= ours[index])


def test_too_few_examples_promise_nothing_and_leave_the_class_in_every_set():
    assert examples_needed(0.95) == 19
    assert examples_needed(0.9) == 9
    logits, _ = sample(40)
    thresholds = conformal_thresholds(softmax(logits), np.zeros(40, int), 0.95)
    assert np.isfinite(thresholds[0])
    assert np.isinf(thresholds[1])
    for count, finite in ((18, False), (19, True)):
        found = conformal_thresholds(softmax(logits)[:count], np.zeros(count, int), 0.95)
        assert np.isfinite(found[0]) == finite


def test_the_confidence_floor_keeps_the_errors_of_single_answers_down():
    probabilities = np.array([[p, 1 - p] for p in np.linspace(0.99, 0.55, 100)])
    labels = np.zeros(100, int)
    labels[60:] = 1  # all wrong below a confidence
    floor = confidence_floor(probabilities, labels, np.ones(100, bool), 0.01)
    accepted = probabilities.max(1) >= floor
    assert accepted.sum() == 60
    assert confidence_floor(probabilities, 1 - np.zeros(100, int), np.ones(100, bool), 0.01) == 1


# ── OOD detection ──────────────────────────────────────────────────────────────────────────────


def slides(groups=12, each=25, seed=0):
    """Vectors of three classes: each group has its own centre, each class its own place."""
    rng = np.random.default_rng(seed)
    vectors, labels, units = [], [], []
    for group in range(groups):
        centre = np.eye(6)[group % 3] * 10 + rng.normal(0, 0.5, 6)
        vectors.append(centre + rng.normal(0, 1, (each, 6)))
        labels += [group % 3] * each
        units += [group] * each
    return np.concatenate(vectors).astype(np.float32), np.array(labels), np.array(units)


def fitted(vectors, labels, units, familiar=0.95):
    space = SpaceInput(
        read=lambda rows: vectors[rows],
        width=6,
        divisions=grouped_parts(labels, units),
        references=np.arange(len(labels)),
    )
    return fit_spaces([space], labels, units, classes=3, familiar=familiar)


def ood_scores(space, vectors, labels):
    return space.ood_score(space.distances(vectors, 3)[np.arange(len(labels)), labels])


def test_new_groups_of_known_slides_are_familiar_as_often_as_asked():
    found = fitted(*slides())
    vectors, labels, _ = slides(groups=30, seed=9)
    assert (ood_scores(found.spaces[0], vectors, labels) <= found.limit).mean() > 0.88


def test_an_unknown_slide_is_unfamiliar_and_another_world_is_foreign():
    found = fitted(*slides())
    space = found.spaces[0]
    rng = np.random.default_rng(3)
    unknown = np.eye(6)[4] * 8 + rng.normal(0, 1, (50, 6))
    distances = space.distances(unknown.astype(np.float32), 3).min(1)
    assert (space.ood_score(distances) > found.limit).all()
    assert (distances < space.foreign).mean() > 0.9
    elsewhere = space.distances(np.full((1, 6), 300, np.float32), 3).min()
    assert elsewhere > space.foreign


def test_the_class_that_was_answered_must_be_the_one_that_is_near():
    """An image that lies among the slides of one class and is called another is no known slide."""
    found = fitted(*slides())
    vectors, labels, _ = slides(seed=5)
    assert (ood_scores(found.spaces[0], vectors, (labels + 1) % 3) > found.limit).all()


def test_a_slide_that_is_like_no_other_does_not_make_unknown_slides_familiar():
    vectors, labels, units = slides()
    plain = fitted(vectors, labels, units)
    odd = vectors.copy()
    odd[units == 11] += 6 * np.eye(6, dtype=np.float32)[5]
    assert fitted(odd, labels, units).limit < plain.limit + 0.5


def test_with_too_few_images_there_is_no_ood_detection():
    assert fitted(*(part[:15] for part in slides())) is None


# ── what a picture looks like ──────────────────────────────────────────────────────────────────


def test_the_mask_finds_the_stained_cells_and_not_the_red_ones():
    field = next(iter(draw_smears(4, groups=4, seed=4)))
    image = np.full((100, 100, 3), 245, np.uint8)
    image[10:30, 10:30] = (110, 60, 160)  # a nucleus
    image[50:70, 50:70] = (190, 150, 150)  # a red cell
    mask = cell_mask(image)
    assert mask[12:28, 12:28].all()
    assert 370 <= mask.sum() <= 400  # its corners are rounded
    assert 0.005 < cell_mask(field.image).mean() < 0.6


def test_statistics_have_names_and_do_not_depend_on_orientation_much():
    image = next(iter(draw_smears(4, groups=4, seed=4))).image
    first = image_statistics(image)
    assert first.shape == (len(STATISTIC_NAMES),)
    turned = image_statistics(np.ascontiguousarray(image[::-1, ::-1]))
    np.testing.assert_allclose(first, turned, atol=0.1)


# ── verdicts ───────────────────────────────────────────────────────────────────────────────────


def smear_statistics():
    return image_statistics(next(iter(draw_smears(4, groups=4, seed=4))).image)[None]


def trusting(**changes):
    """A trust in which the sample image is at home."""
    here = smear_statistics()
    size = here.shape[1]
    space = Space(
        here[0], np.eye(size, dtype=np.float32), np.zeros((3, size), np.float32),
        np.arange(3), centre=0.0, scale=1.0, foreign=50.0,
    )  # fmt: skip
    parts = {
        "temperature": 1.0, "familiar": 0.0, "thresholds": np.array([0.3, 0.3, 0.3]), "confidence": 0.6,
        "appearance": space, "ranges": np.concatenate([here - 1, here + 1]).T,
    }  # fmt: skip
    return Trust(CLASSES, **parts | changes)


def decided(trust, probabilities=(0.9, 0.06, 0.04), statistics=None):
    logits = np.log(np.array([probabilities]))
    given = smear_statistics() if statistics is None else statistics
    return trust.decide(Outputs(logits, np.zeros((1, 4), np.float32)), given)[0]


def test_a_sure_answer_on_a_known_slide_is_accepted():
    decision = decided(trusting())
    assert decision[:3] == ("accepted", (), (0,))


@pytest.mark.parametrize(
    ("changes", "probabilities", "code", "reason"),
    [
        ({}, (0.4, 0.3, 0.3), "empty_set", "empty prediction set"),
        ({"thresholds": np.array([0.6, 0.6, 0.6])}, (0.45, 0.45, 0.1), "ambiguous", "ambiguous"),
        ({"confidence": 0.95}, (0.9, 0.06, 0.04), "low_confidence", "low confidence"),
        (
            {"thresholds": None, "temperature": None},
            (0.9, 0.06, 0.04),
            "not_calibrated",
            "not calibrated",
        ),
        (
            {"appearance": None},
            (0.9, 0.06, 0.04),
            "no_ood_detection",
            "no out-of-distribution detection",
        ),
    ],
)
def test_every_doubt_is_for_review_and_says_why(changes, probabilities, code, reason):
    decision = decided(trusting(**changes), probabilities)
    assert decision.verdict == "review"
    assert code in decision.codes
    assert reason in decision.reasons


def test_a_class_without_enough_examples_says_so_where_it_makes_an_answer_ambiguous():
    decision = decided(trusting(thresholds=np.array([0.3, np.inf, 0.3])))
    assert decision.reasons == ("ambiguous", "too few calibration examples")
    assert decision.prediction_set == (0, 1)


def test_an_unfamiliar_slide_names_what_is_unusual_and_one_far_away_is_no_smear():
    odd = smear_statistics()
    odd[0, STATISTIC_NAMES.index("sharpness")] -= 8
    decision = decided(trusting(), statistics=odd)
    assert decision.verdict == "review"
    assert decision.reasons == ("unfamiliar slide", "unusual sharpness")
    assert decision.codes == ("unfamiliar_slide", "unusual_sharpness")
    odd[0, STATISTIC_NAMES.index("sharpness")] -= 80
    decision = decided(trusting(), statistics=odd)
    assert decision.verdict == "refused"
    assert decision.reasons[0] == "unlike what was learnt of any slide of the training"


def test_a_distance_that_is_not_a_number_does_not_pass_for_near():
    odd = smear_statistics()
    odd[0, 0] = np.nan
    assert decided(trusting(), statistics=odd).verdict == "refused"


@pytest.mark.parametrize("value", [255, 0, 128])
def test_a_plain_image_is_refused_even_by_a_model_without_any_calibration(tiny, value):
    (answer,) = tiny.predict(np.full((200, 300, 3), value, np.uint8))
    assert answer.verdict == "refused"
    assert answer.reasons == ("nothing to see",)
    assert answer.label in tiny.classes


def test_the_answer_for_an_unusual_image_is_less_certain():
    space = trusting().appearance
    size = space.references.shape[1]
    trust = Trust(CLASSES, 1.0, 0.5, content=space)
    home = np.sign(space.mean) * space.mean**2  # its signed root is where the references are
    logits = np.array([[3.0, 0.0, 0.0]], np.float32)
    near = trust.probabilities(Outputs(logits, home[None]))[0, 0]
    far = trust.probabilities(Outputs(logits, home[None] + np.full((1, size), 900.0)))[0, 0]
    assert near == pytest.approx(softmax(logits)[0, 0], abs=1e-6)
    assert 1 / 3 < far < near - 0.2


def test_the_module_that_is_exported_calibrates_as_the_runtime_does():
    import torch

    from allkit.network.pipeline import Calibrated

    rng = np.random.default_rng(0)
    # Class 1 has fewer references than neighbours are looked for, class 2 has none.
    owners = np.array([0] * 20 + [1] * 3)
    space = Space(
        rng.normal(size=6).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32),
        rng.normal(size=(23, 4)).astype(np.float32), owners, centre=0.2, scale=0.3, foreign=9.0,
    )  # fmt: skip
    trust = Trust(CLASSES, 0.8, 0.4, content=space)
    logits = rng.normal(0, 3, (50, 3)).astype(np.float32)
    features = rng.normal(0, 4, (50, 6)).astype(np.float32)
    found = Calibrated(trust)(torch.from_numpy(logits), torch.from_numpy(features))
    np.testing.assert_allclose(
        found.numpy(), trust.probabilities(Outputs(logits, features)), atol=1e-5
    )


def test_what_a_model_knows_of_itself_survives_as_arrays():
    trust = trusting()
    arrays = trust.to_arrays()
    assert all(
        name.startswith(("calibration.", "familiarity.", "groups.", "slides.")) for name in arrays
    )
    again = Trust.from_arrays(CLASSES, arrays)
    assert decided(again) == decided(trust)
    assert (again.familiar, again.density_slope) == (trust.familiar, trust.density_slope)
    assert Trust.from_arrays(CLASSES, {}).calibrated is False


# ── reasons ────────────────────────────────────────────────────────────────────────────────────


def test_every_code_has_a_text_of_its_own_and_stays_a_word():
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in TEXTS)
    assert len(set(TEXTS.values())) == len(TEXTS)
    assert codes_of(texts_of(TEXTS)) == tuple(TEXTS)


def test_all_that_may_be_said_of_an_image_is_in_the_table():
    from allkit.images.cells import NO_CELLS, NO_SCALE

    assert {name.split("_")[0] for name in STATISTIC_NAMES} == set(UNUSUAL)
    assert {NO_CELLS, NO_SCALE, *UNUSUAL.values()} <= set(TEXTS)


def test_words_of_an_exporter_that_gives_no_codes_are_looked_up():
    assert codes_of(("ambiguous", "not calibrated", "the lamp was off")) == (
        "ambiguous",
        "not_calibrated",
        OTHER,
    )
    assert texts_of(("low_confidence", "lamp_off")) == ("low confidence", "lamp_off")


def test_the_documentation_has_every_code_with_its_text_and_what_to_do():
    page = (Path(__file__).parents[1] / "docs" / "explanation" / "trust.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", page, re.M)
    assert {code: text for code, text, _ in rows} == TEXTS
    assert all(len(advice) > 20 for _, _, advice in rows)


# ── end to end ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folded(tiny_settings):
    """A model with enough images kept out to be calibrated, and images of new groups."""
    split = allkit.Dataset.sample(120, groups=20, seed=1).split(test=0.2, seed=0)
    return allkit.Trainer(**tiny_settings | {"folds": 3}).fit(split.train), split.test


def test_a_training_calibrates_and_learns_its_slides_and_saving_keeps_it(folded, tmp_path):
    model, test = folded
    assert model.trust.calibrated
    assert model.trust.appearance is not None
    assert model.trust.content is not None
    again = allkit.Classifier.load(model.save(tmp_path / "model"))
    images = [test.read(i) for i in range(4)]
    assert again.predict(images) == model.predict(images)


@pytest.mark.slow
def test_the_exported_file_gives_the_same_verdicts_without_torch(folded, tmp_path):
    from allkit.runtime.onnx import OnnxPredictor

    model, test = folded
    model.export(tmp_path / "model.onnx")
    images = [test.read(i) for i in range(4)] + [np.full((90, 90, 3), 255, np.uint8)]
    ours, theirs = model.predict(images), OnnxPredictor(tmp_path / "model.onnx").predict(images)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.verdict, one.reasons, one.label) == (other.verdict, other.reasons, other.label)
        assert one.reason_codes == other.reason_codes
        assert one.prediction_set == other.prediction_set
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_noise_is_no_smear(folded):
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    (answer,) = folded[0].predict(noise)
    assert (answer.verdict, answer.reasons[0]) == (
        "refused",
        "unlike what was learnt of any slide of the training",
    )


def test_a_validation_part_that_is_too_small_is_named_in_model_and_card(tiny, tmp_path):
    assert any("Not calibrated" in note for note in tiny.info.trust_notes)
    card = (tiny.save(tmp_path / "model") / "README.md").read_text()
    assert "Not calibrated" in card


def test_the_card_fills_the_items_that_the_training_knows_and_names_the_others(folded, tmp_path):
    card = (folded[0].save(tmp_path / "model") / "README.md").read_text()
    assert "Out-of-distribution (OOD) detection by stain" in card
    assert "CLAIM 2024" in card
    assert "TRIPOD+AI" in card
    assert "| external evaluation | C T | not known to the training; fill in |" in card
    assert "temperature and prediction sets" in card
    assert "--leave-one-group-out" in card
    shown = shown_to(folded[0].info.model_dump(mode="json")["backbone"])
    assert f"features of {shown}" in card
    assert f"| preprocessing | C T | {shown};" in card
    assert "(weights: random; SHA-256" in card


@pytest.mark.parametrize(
    ("bag", "said"),
    [
        ("field", "the whole field resized to 96 × 96"),
        ("cells", "its white cells, 32 × 32 each (mean of at most 3, evenly from the largest"),
        ("both", "the whole field resized to 96 × 96 and of its white cells, 32 × 32 each"),
    ],
)
def test_the_card_says_what_the_network_is_shown(bag, said):
    backbone = {"size": 96, "cell_size": 32, "max_cells": 3, "spread": True, "bag": bag}
    assert shown_to(backbone).startswith(said)


@pytest.mark.slow
def test_a_class_that_is_missing_in_the_validation_part_is_named(tiny_settings):
    data = allkit.Dataset.sample(200, groups=20, seed=1)
    split = data.split(test=0.5, seed=0)
    train, val = split.train, split.test
    val = val.subset([i for i, s in enumerate(val) if s.label != "Pro"])
    model = allkit.Trainer(**tiny_settings | {"epochs": 2}).fit(train, val)
    assert any(note.startswith("Pro: 0 held-out images") for note in model.info.trust_notes)
    assert np.isinf(model.trust.thresholds[3])
