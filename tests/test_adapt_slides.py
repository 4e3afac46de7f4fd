"""A model without limits for unseen slides gets them from slides of a laboratory, or says why not."""

from dataclasses import replace

import numpy as np
import pytest

import allkit
from allkit.data.drawn import write_smears
from allkit.trust.fit import FEWEST_TO_CALIBRATE
from allkit.trust.reasons import NOT_CALIBRATED_FOR_SLIDES, UNFAMILIAR_SLIDE
from allkit.trust.slides import LEAST_COARSE


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """96 fields of 24 slides that were not named as such."""
    folder = tmp_path_factory.mktemp("home")
    return allkit.Dataset.open(write_smears(folder, 96, groups=24, seed=3, colour_cue=True))


@pytest.fixture(scope="module")
def old(home, tiny_settings):
    """A calibrated model whose training did not know the slides, so without limits for unseen ones."""
    solved = {k: v for k, v in tiny_settings.items() if k not in ("epochs", "head_decay")}
    more = {"calibration_folds": 4, "head_penalty": 0.01, "copies": 1}
    model = allkit.Trainer(**solved | more).fit(home)
    assert model.trust.slides is None
    assert model.trust.calibrated
    return model


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """48 fields of another hospital: three slides of each class, with names of their own."""
    folder = tmp_path_factory.mktemp("hospital")
    data = allkit.Dataset.open(write_smears(folder, 48, groups=12, seed=11, colour_cue=True))
    samples = [replace(s, slide=f"our {s.group}", group=None, case=None) for s in data]
    return allkit.Dataset(samples, data.classes, name="ours")


def slides(data, **count):
    """The first so many slides of each class, and all other images: `slides(data, Benign=2)`."""
    chosen = set()
    for label, number in count.items():
        of_class = dict.fromkeys(s.slide for s in data if s.label == label)
        chosen |= set(list(of_class)[:number])
    rows = [i for i, s in enumerate(data) if s.slide in chosen]
    return data.subset(rows), data.subset(sorted(set(range(len(data))) - set(rows)))


@pytest.fixture(scope="module")
def two_of_each(old, hospital):
    """The model adapted with two Benign and two Pre slides, and the images of all other slides."""
    ours, others = slides(hospital, Benign=2, Pre=2)
    return allkit.adapt(old, ours, strength="medium", cache=None), others


def notes_of(model):
    return " ".join(model.info.adaptations[-1].notes)


def test_an_old_model_accepts_coarse_answers_that_pass_the_limits_of_two_slides_of_each_group(
    old, two_of_each
):
    adapted, others = two_of_each
    before, after = old.judge(others).decisions, adapted.judge(others).decisions
    assert all(d.coarse.verdict != "accepted" for d in before)
    assert all(NOT_CALIBRATED_FOR_SLIDES in d.codes for d in before if d.verdict != "refused")
    limits = adapted.trust.slides
    assert limits.counts.tolist() == [2, 2]
    # No slide of Early and Pro was left out, so nothing says what they need not to be called benign.
    assert np.isinf(limits.of_group).tolist() == [True, False]
    accepted = [d.coarse for d in after if d.coarse.verdict == "accepted"]
    assert len(accepted) > 3
    # On a field that looks like a known slide the probability suffices; on all others the limit rules.
    unknown = [d.coarse for d in after if UNFAMILIAR_SLIDE in d.codes]
    passed = [a for a in unknown if a.verdict == "accepted"]
    assert passed
    assert all(a.evidence[a.group] > limits.of_group[a.group] for a in passed)
    assert all(a.probability >= LEAST_COARSE for a in accepted)
    assert not any(NOT_CALIBRATED_FOR_SLIDES in d.codes for d in after)
    # A weak answer stays for review.
    weak = [d.coarse for d in after if max(d.coarse.evidence) < 2]
    assert weak
    assert all(answer.verdict == "review" for answer in weak)


def test_nothing_is_surer_or_more_familiar_by_the_few_fields_than_it_was(old, two_of_each):
    limits = two_of_each[0].trust.slides
    assert limits.temperatures[0] >= old.trust.temperature
    guess = limits.temperatures * np.log(LEAST_COARSE / (1 - LEAST_COARSE))
    assert (limits.of_fields >= guess[:, None] - 1e-9).all()
    assert (limits.of_fields[0] == limits.of_group).all()
    assert max(limits.appearance, *limits.content, limits.total) <= old.trust.familiar


def test_what_the_limits_rest_on_is_in_the_output_and_on_the_card(two_of_each, tmp_path):
    adapted, _ = two_of_each
    record = adapted.info.adaptations[-1]
    folder = adapted.save(tmp_path / "model")
    card = (folder / "README.md").read_text()
    for text in (record.to_text(), card):
        assert "for 4 of 4 slides that were left out the others were too few" in text
        assert "limits are empirical" in text
        assert "no slide of Early, Pro was left out" in text
        assert "16 fields of 4 slides of one laboratory" in text
    # What the training could not know is answered now.
    assert "the slides of the training images are not known" not in card
    again = allkit.Classifier.load(folder)
    assert (again.trust.slides.of_group == adapted.trust.slides.of_group).all()


@pytest.mark.parametrize(
    ("count", "why"),
    [
        ({"Benign": 2, "Pre": 1}, "malignant has one slide"),
        ({"Benign": 1, "Early": 1, "Pre": 1}, "benign has one slide"),
        ({"Pre": 2, "Pro": 2}, "benign has no slide"),
    ],
)
def test_with_one_slide_of_a_group_it_is_said_what_cannot_be_promised(
    old, hospital, tmp_path, count, why
):
    ours, others = slides(hospital, **count)
    adapted = allkit.adapt(old, ours, strength="weak", cache=None)
    assert adapted.trust.slides is None
    for text in (notes_of(adapted), " ".join(adapted.info.trust_notes)):
        assert f"Unseen slides: {why}, so no limits could be chosen" in text
        assert "is not accepted on a slide that is not known" in text
    assert all(d.coarse.verdict != "accepted" for d in adapted.judge(others).decisions)


def test_where_the_slides_are_unknown_it_is_said_what_to_give(old, hospital):
    ours, _ = slides(hospital, Benign=2, Pre=2)
    unknown = allkit.Dataset([replace(s, slide=None) for s in ours], ours.classes)
    adapted = allkit.adapt(old, unknown, strength="weak", cache=None)
    assert adapted.trust.slides is None
    assert "the slides of these fields are not known" in notes_of(adapted)
    assert "`--slide REGEX`" in notes_of(adapted)


def test_slides_that_were_trained_on_are_no_unseen_ones(old, home):
    known = allkit.Dataset([replace(s, slide=s.group, group=None, case=None) for s in home])
    ours, _ = slides(known, Benign=2, Pre=2)
    adapted = allkit.adapt(old, ours, strength="weak", cache=None)
    assert adapted.trust.slides is None
    assert "4 of 4 slides were trained on before" in notes_of(adapted)
    assert "benign has no slide and malignant has no slide" in notes_of(adapted)


def test_slides_of_one_patient_are_not_independent(old, hospital):
    ours, _ = slides(hospital, Benign=2, Pre=2)
    patient = [replace(s, case="patient 1" if s.label == "Benign" else None) for s in ours]
    adapted = allkit.adapt(old, allkit.Dataset(patient, ours.classes), strength="weak", cache=None)
    assert adapted.trust.slides is None
    assert "benign has no slide that shares no case, group or field" in notes_of(adapted)


def test_groups_of_one_slide_are_held_out_together(old, hospital):
    """Eight groups of two slides are two slides: nothing can be held out of each class."""
    ours, _ = slides(hospital, Benign=1, Pre=1)
    samples = [replace(s, group=f"part {number}") for number, s in enumerate(ours)]
    adapted = allkit.adapt(old, allkit.Dataset(samples, ours.classes), cache=None)
    record = adapted.info.adaptations[-1]
    assert record.groups == 2
    assert record.claim == "not judged"


def test_a_model_with_limits_never_gets_lower_ones(two_of_each, hospital):
    adapted, _ = two_of_each
    _, rest = slides(hospital, Benign=2, Pre=2)
    ours, _ = slides(rest, Benign=1, Early=3, Pro=3, Pre=1)
    assert len(ours) > FEWEST_TO_CALIBRATE
    again = allkit.adapt(adapted, ours, strength="strong", cache=None)
    before, after = adapted.trust.slides, again.trust.slides
    assert (after.of_group >= before.of_group).all()
    assert (after.of_fields >= before.of_fields).all()
    assert (after.temperatures >= before.temperatures).all()
