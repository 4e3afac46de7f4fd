"""Right or silent: what may be answered on a slide that the model has not seen."""

from dataclasses import replace

import numpy as np
import pytest

import allkit
from allkit.errors import ConfigError
from allkit.trust.groups import ClassGroups, groups_of
from allkit.trust.slides import SIZES, SlideLimits
from allkit.trust.unseen import (
    LeftOut,
    SlideEvidence,
    fit_slide_limits,
    limits_of_known_slides,
    notes_on_slides,
    raised,
)

ALL = ("Benign", "Early", "Pre", "Pro")


# ── groups of classes ──────────────────────────────────────────────────────────────────────────


def test_the_all_classes_are_benign_or_malignant_without_a_word():
    groups = groups_of(None, ALL)
    assert groups.names == ("benign", "malignant")
    assert groups.of_class == (0, 1, 1, 1)
    assert groups_of(None, ("cat", "dog")) is None
    assert groups_of({}, ALL) is None


def test_a_training_without_one_subtype_still_has_the_groups():
    assert groups_of(None, ("Benign", "Pre")).of_class == (0, 1)
    assert groups_of(None, ("Pre", "Pro")) is None  # one group asks nothing


def test_groups_that_do_not_cover_the_classes_are_named():
    with pytest.raises(ConfigError, match="no group holds Pro"):
        groups_of({"benign": ["Benign"], "malignant": ["Early", "Pre"]}, ALL)
    with pytest.raises(ConfigError, match=r"'Pre' is in 'a' and in 'b'"):
        groups_of({"a": ["Benign", "Pre"], "b": ["Early", "Pre", "Pro"]}, ALL)


def test_the_evidence_of_a_group_is_the_log_odds_of_its_summed_probability():
    groups = groups_of(None, ALL)
    p = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert groups.log_odds(np.log(p))[0] == pytest.approx([np.log(0.1 / 0.9), np.log(9)])
    assert groups.probabilities(p)[0] == pytest.approx([0.1, 0.9])


# ── limits by slides that were left out ────────────────────────────────────────────────────────


def slides_like(shifts, fields=60, seed=0):
    """Return evidence and left-out answers of two classes: each slide is off by its own shift."""
    rng = np.random.default_rng(seed)
    labels, slides, left_out, start = [], [], [], 0
    for slide, (label, shift) in enumerate(shifts):
        odds = (1 if label else -1) * 4.0 + shift + rng.normal(0, 1, fields)
        rows = np.arange(start, start + fields)
        logits = np.stack([np.zeros(fields), odds], axis=1)
        left_out.append(LeftOut((slide,), rows, logits, np.zeros(fields)))
        labels += [label] * fields
        slides += [slide] * fields
        start += fields
    known = np.random.default_rng(1).normal(0, 1, start)
    images = SlideEvidence(
        labels=np.array(labels),
        slides=np.array(slides),
        fields=np.arange(start),
        known_appearance=known,
        known_content=known,
        known_total=known,
        appearance=np.full(start, np.inf),
    )
    return images, left_out


def with_a_third_class(left_out):
    """The same answers of heads that also know a class of which there is no slide."""
    return [
        part._replace(logits=np.column_stack([part.logits, part.logits[:, 1] - 9]))
        for part in left_out
    ]


GROUPS = ClassGroups(("benign", "malignant"), (0, 1))
EASY = [(0, 0.0), (0, 0.3), (0, -0.2), (1, 0.0), (1, 0.2), (1, -0.3)]


def fitted(shifts, **settings):
    images, left_out = slides_like(shifts)
    return fit_slide_limits(images, 2, GROUPS, left_out, risk=settings.pop("risk", 0.05))


def test_one_hard_slide_decides_how_sure_an_answer_must_be():
    easy = fitted(EASY)
    hard = fitted([*EASY, (1, -6.0)])  # leukaemia that looks benign
    assert hard.of_group[0] > easy.of_group[0] + 2
    assert hard.of_group[0] > hard.of_group[1]
    # The share of its fields that the limit lets pass as benign is what was allowed.
    _, left_out = slides_like([*EASY, (1, -6.0)])
    as_benign = GROUPS.log_odds(left_out[-1].logits)[:, 0]
    assert (as_benign > hard.of_group[0]).mean() <= 0.005


def test_few_slides_promise_nothing_and_many_do():
    assert fitted(EASY).empirical
    rng = np.random.default_rng(5)
    many = [(n % 2, float(rng.normal(0, 0.5))) for n in range(60)]
    assert not fitted(many, risk=0.05).empirical


def test_a_slide_on_which_wrong_answers_would_have_passed_is_counted():
    limits = fitted([*EASY, (1, -6.0)])
    assert limits.counts.tolist() == [3, 4]
    assert limits.wrong.tolist() == [0, 1]


def test_more_fields_of_a_slide_need_less_evidence_and_settle_it():
    limits = fitted([*EASY, (1, -3.5)])
    assert (np.diff(limits.of_fields, axis=0) <= 0).all()
    assert limits.of_fields.shape == (len(SIZES), 2)
    weak = np.array([[1.0, -1.0]])  # benign, a little
    one = limits.slide(weak, np.zeros(1))
    assert not one.accepted
    assert one.group == 0
    assert one.fields_needed in (2, 4, 9, 19)
    count = 1 + one.fields_needed
    more = limits.slide(np.repeat(weak, count, axis=0), np.zeros(count))
    assert more.accepted
    assert more.fields_needed == 0
    assert more.probability >= 0.9


def test_fields_unlike_the_training_say_nothing_of_their_slide():
    limits = fitted(EASY)
    sure = np.array([[9.0, -9.0]] * 3)
    assert limits.slide(sure, np.zeros(3)).accepted
    verdict = limits.slide(sure, np.full(3, 9.0))
    assert not verdict.accepted
    assert verdict.fields_needed is None  # more such fields would not settle it


def test_a_group_of_several_classes_may_look_less_like_the_training_than_one_of_a_single_class():
    images, left_out = slides_like(EASY)
    classes = ClassGroups(("benign", "malignant"), (0, 1, 1))
    limits = fit_slide_limits(images, 3, classes, with_a_third_class(left_out), risk=0.05)
    assert limits.content[0] < limits.content[1]


def test_wrong_answers_on_what_is_too_unlike_the_training_need_no_evidence_against_them():
    images, left_out = slides_like([*EASY, (1, -6.0)])  # leukaemia that looks benign
    near = fit_slide_limits(images, 2, GROUPS, left_out, risk=0.05)
    left_out[-1] = left_out[-1]._replace(content=np.full(60, 9.0))
    far = fit_slide_limits(images, 2, GROUPS, left_out, risk=0.05)
    assert far.of_group[0] < near.of_group[0] - 2


def test_a_group_is_not_accepted_where_a_class_of_another_one_was_never_left_out():
    images, left_out = slides_like(EASY)
    classes = ClassGroups(("benign", "malignant"), (0, 1, 1))
    limits = fit_slide_limits(
        images, 3, classes, with_a_third_class(left_out), risk=0.05
    )  # no slide of the third class
    assert np.isinf(limits.of_group[0])
    assert np.isinf(limits.of_fields[:, 0]).all()
    assert np.isfinite(limits.of_group[1])


def test_evidence_for_neither_group_is_settled_by_no_number_of_fields():
    verdict = fitted(EASY).slide(np.zeros((4, 2)), np.zeros(4))
    assert not verdict.accepted
    assert verdict.fields_needed is None


def test_no_answer_is_accepted_at_a_probability_that_is_a_guess():
    limits = fitted(EASY)
    for odds in np.linspace(0, 12, 60):
        verdict = limits.slide(np.array([[-odds, odds]]), np.zeros(1))
        assert not verdict.accepted or verdict.probability >= 0.9


def test_limits_only_rise_by_the_fields_of_another_laboratory():
    limits = fitted(EASY)
    odds = np.array([[7.0, -7.0], [-9.0, 9.0], [-5.0, 5.0]])
    higher = raised(limits, odds, np.array([1, 1, 1]))  # leukaemia, of which one looks benign
    assert higher.of_group[0] == pytest.approx(7.7)
    assert higher.of_group[1] == limits.of_group[1]
    assert (higher.of_fields >= limits.of_fields).all()
    same = raised(limits, odds[1:], np.array([1, 1]))
    assert same.of_group == pytest.approx(limits.of_group)


def test_one_slide_of_a_group_sets_no_limit():
    limits = fitted([(0, 0.0), (0, 0.2), (1, 0.0)])
    assert np.isinf(limits.of_group[0])
    assert np.isfinite(limits.of_group[1])


def test_what_cannot_be_promised_is_said():
    limits = fitted(EASY)
    text = " ".join(notes_on_slides(("A", "B"), GROUPS, [3, 3], limits))
    assert "0 of 6 slides" in text
    assert "malignant: 0 of 3, up to 63%" in text
    assert "cannot be guaranteed with 3 slides" in text
    unknown = " ".join(notes_on_slides(("A", "B"), GROUPS, None, None))
    assert "not known" in unknown
    assert "`slide`" in unknown
    single = " ".join(notes_on_slides(("A", "B"), GROUPS, [1, 4], None))
    assert "A: seen on one slide only" in single
    assert "benign has one slide" in single


# ── a model ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def slides_known(drawn):
    """The 48 drawn smears of 12 slides."""
    data = allkit.Dataset.open(drawn)
    samples = [replace(sample, slide=sample.group) for sample in data]
    return allkit.Dataset(samples, data.classes, name=data.name)


@pytest.fixture(scope="module")
def model(slides_known, settings):
    return allkit.Trainer(**settings).fit(slides_known)


@pytest.fixture(scope="module")
def settings(tiny_settings):
    return tiny_settings | {"calibration_folds": 4}


def test_a_model_of_known_slides_answers_the_coarse_question(model, slides_known):
    assert isinstance(model.trust.slides, SlideLimits)
    assert model.trust.slides.counts.sum() == 12
    decisions = model.judge(slides_known).decisions
    assert all(d.coarse is not None and 0 <= d.coarse.probability <= 1 for d in decisions)
    # What is accepted by its class is accepted by its group.
    for decision in decisions:
        if decision.verdict == "accepted":
            assert decision.coarse.verdict == "accepted"
        if decision.verdict == "refused":
            assert decision.coarse.verdict == "refused"
    notes = " ".join(model.info.trust_notes)
    assert "left out of the training" in notes
    assert "limits are empirical" in notes


def test_a_saved_model_judges_as_it_did(model, slides_known, tmp_path):
    again = allkit.Classifier.load(model.save(tmp_path / "model"))
    before, after = model.judge(slides_known).decisions, again.judge(slides_known).decisions
    for old, new in zip(before, after, strict=True):
        assert (old.codes, old.coarse.verdict) == (new.codes, new.coarse.verdict)
        assert old.coarse.probability == pytest.approx(new.coarse.probability, abs=1e-4)


def test_a_set_whose_slides_are_unknown_is_told_so(drawn, settings):
    model = allkit.Trainer(**settings).fit(allkit.Dataset.open(drawn))
    assert model.trust.slides is None
    assert any("slides of the training images are not known" in n for n in model.info.trust_notes)
    decisions = model.judge(allkit.Dataset.open(drawn)).decisions
    assert all(d.coarse.verdict != "accepted" for d in decisions)
    assert all("not_calibrated_for_slides" in d.codes for d in decisions if d.verdict != "refused")


def test_one_slide_a_class_promises_nothing(slides_known, settings):
    samples = [replace(sample, slide=sample.label) for sample in slides_known]
    data = allkit.Dataset(samples, slides_known.classes, name="one slide a class")
    model = allkit.Trainer(**settings).fit(data)
    notes = " ".join(model.info.trust_notes)
    assert "seen on one slide only" in notes
    # Without its one slide there is no benign image left, so nothing bounds what is called malignant.
    assert "malignant cannot be accepted on unseen slides" in notes
    assert model.trust.slides.of_group[1] == np.inf


def test_a_class_of_one_slide_is_known_as_such_also_where_no_slide_could_be_left_out():
    known = np.zeros((2, 30))
    limits = limits_of_known_slides(known, [1, 2], GROUPS, 0.05)
    assert limits.one_slide.tolist() == [1, 0]
    assert np.isinf(limits.of_group).all()


def test_a_subtype_that_was_never_seen_is_not_named(slides_known, settings):
    rows = [i for i, s in enumerate(slides_known) if s.label != "Pro"]
    learnt = slides_known.subset(rows, classes=["Benign", "Early", "Pre"])
    model = allkit.Trainer(**settings).fit(learnt)
    new = slides_known.subset([i for i, s in enumerate(slides_known) if s.label == "Pro"])
    for decision in model.judge(new).decisions:
        assert decision.verdict != "accepted" or decision.coarse.group == 0
        if decision.coarse.verdict == "accepted" and decision.coarse.group == 1:
            assert "subtype_unknown" in decision.codes
