"""Benign or malignant: the coarse answer of fields and slides, and what is said when it is not sure."""

import dataclasses

import numpy as np
import pytest

import allkit
from allkit.runtime.answers import answer
from allkit.trust import reasons
from allkit.trust.groups import groups_of
from allkit.trust.slides import SIZES, SlideLimits
from allkit.trust.verdict import CoarseDecision, Decision, Trust

CLASSES = ("Benign", "Early", "Pre", "Pro")
GROUPS = groups_of(None, CLASSES)


def limits():
    """Limits of 4 for one field, 3 for three, 2 for five or more, of both groups."""
    of_fields = np.array([4.0, 3.0, 2.0, 2.0, 2.0])
    values = {part.name: 1.0 for part in dataclasses.fields(SlideLimits)}
    values |= {
        "of_group": np.full(2, 4.0),
        "of_fields": np.stack([of_fields, of_fields], axis=1),
        "temperatures": np.full(len(SIZES), 0.5),
        "content": np.full(2, 1.0),
    }
    return SlideLimits(**values)


def trust_of(**changes):
    parts = {
        "temperature": 1.0,
        "thresholds": np.full(4, 0.9),
        "groups": GROUPS,
        "slides": limits(),
    }
    return Trust(CLASSES, **parts | changes)


def field(evidence, verdict="review", coarse_verdict="review", shares=(0.5, 0.3, 0.2)):
    """An answer with this log-odds of malignant against benign, shared out among the subtypes."""
    malignant = 1 / (1 + np.exp(-evidence))
    table = np.array([1 - malignant, *(malignant * np.array(shares))])
    codes = () if verdict == "accepted" else (reasons.GROUP_UNCERTAIN,)
    coarse = CoarseDecision(
        int(evidence > 0),
        max(malignant, 1 - malignant),
        coarse_verdict,
        evidence=(-evidence, evidence),
        ood_score=0.0,
    )
    decision = Decision(verdict, codes, (), coarse)
    return answer(f"{evidence}.png", table, decision, CLASSES, groups=GROUPS)


def several(evidence, count):
    """Answers on so many fields that differ a little: the same picture would count once."""
    return [field(evidence + number / 1000) for number in range(count)]


# ── several fields of one slide ───────────────────────────────────────────────────────────────


def test_fields_that_are_each_uncertain_settle_together_that_a_slide_is_malignant():
    case = allkit.combine(several(2.5, 5), "A", trust=trust_of())
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "accepted", 0)
    assert case.coarse_probability > 0.99
    assert case.verdict == "review"
    assert case.reason_codes[0] == reasons.SUBTYPE_UNKNOWN
    assert reasons.GROUP_UNCERTAIN not in case.reason_codes
    assert case.label != "Benign"


@pytest.mark.parametrize(
    ("evidence", "fields", "needed"), [(2.5, 1, 4), (3.5, 1, 2), (2.5, 3, 2), (1.5, 8, None)]
)
def test_how_many_more_fields_would_settle_it_is_said(evidence, fields, needed):
    case = allkit.combine(several(evidence, fields), trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("malignant", "review")
    assert case.reason_codes[0] == reasons.GROUP_UNCERTAIN
    assert case.fields_needed == needed


def test_to_name_a_group_of_one_class_is_to_name_the_class():
    case = allkit.combine(several(-2.5, 5), trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("benign", "accepted")
    assert (case.label, case.verdict, case.reasons) == ("Benign", "accepted", ())
    assert case.probability == pytest.approx(case.coarse_probability)
    assert sum(case.probabilities.values()) == pytest.approx(1)


def test_many_tiles_of_a_slide_make_nothing_surer_than_they_are_on_average():
    tiles = [
        dataclasses.replace(one, reason_codes=(reasons.TILE_OF_SLIDE,)) for one in several(-0.8, 10)
    ]
    tiles += [
        dataclasses.replace(field(3.0 + n / 10), reason_codes=(reasons.TILE_OF_SLIDE,))
        for n in range(3)
    ]
    case = allkit.combine(tiles, "a.svs", trust=trust_of())
    expected = np.mean([tile.probabilities["Benign"] for tile in tiles])
    assert (case.label, case.coarse, case.verdict) == ("Benign", "benign", "review")
    assert case.probability == pytest.approx(expected)
    assert case.coarse_probability == pytest.approx(expected)
    assert (case.coarse_verdict, case.fields_needed) == ("review", None)
    fields = [dataclasses.replace(tile, reason_codes=()) for tile in tiles[:10]]
    assert allkit.combine(fields, trust=trust_of()).coarse_probability > 0.8


def test_fields_of_which_nobody_says_how_unlike_the_training_they_are_settle_nothing():
    unknown = [dataclasses.replace(one, ood_score=None) for one in several(2.5, 5)]
    case = allkit.combine(unknown, trust=trust_of())
    assert case.coarse_verdict == "review"
    assert reasons.UNLIKE_TRAINING in case.reason_codes


def test_the_same_picture_given_again_is_no_further_evidence():
    once = allkit.combine([field(2.5)], trust=trust_of())
    again = allkit.combine([field(2.5)] * 10, trust=trust_of())
    assert (once.coarse_verdict, again.coarse_verdict) == ("review", "review")
    assert allkit.combine(several(2.5, 10), trust=trust_of()).coarse_verdict == "accepted"


def test_where_most_fields_are_unlike_the_training_their_sum_is_not_accepted():
    near = several(5.0, 4)
    far = [dataclasses.replace(one, ood_score=1.5) for one in several(6.0, 5)]
    assert allkit.combine(near, trust=trust_of()).coarse_verdict == "accepted"
    mostly = allkit.combine(near + far, trust=trust_of())
    assert mostly.coarse_verdict == "review"
    assert reasons.UNLIKE_TRAINING in mostly.reason_codes


def test_a_slide_that_is_out_of_focus_is_not_accepted_by_the_sum_of_its_fields():
    code = "unusual_sharpness"
    sharp = several(2.5, 10)
    blurred = [dataclasses.replace(one, reason_codes=(code,)) for one in sharp]
    half = allkit.combine(blurred[:5] + sharp[5:], trust=trust_of())
    mostly = allkit.combine(blurred[:6] + sharp[6:], trust=trust_of())
    assert (half.coarse_verdict, mostly.coarse_verdict) == ("accepted", "review")
    assert code in mostly.reason_codes


def test_fields_of_two_slides_settle_nothing():
    fields = [field(9.0, "accepted", "accepted", (0.98, 0.01, 0.01))] * 4
    fields += [field(-6.0, "accepted", "accepted")] * 2
    case = allkit.combine(fields, trust=trust_of())
    assert (case.coarse_verdict, case.verdict, case.fields_needed) == ("review", "review", None)
    assert reasons.FIELDS_DISAGREE in case.reason_codes


def test_a_known_slide_is_accepted_by_its_fields_and_so_is_its_group():
    # Less evidence than an unseen slide would need, but the fields were recognised.
    fields = [field(3.0, "accepted", "accepted", (0.98, 0.01, 0.01))] * 2
    case = allkit.combine(fields, trust=trust_of())
    assert (case.label, case.verdict) == ("Early", "accepted")
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "accepted", 0)


def test_refused_fields_do_not_count_and_without_others_nothing_is_answered():
    foreign = field(-9.0, "refused", "refused")
    case = allkit.combine([*several(2.5, 5), foreign], trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("malignant", "accepted")
    nothing = allkit.combine([foreign], trust=trust_of())
    assert (nothing.coarse, nothing.coarse_verdict, nothing.verdict) == (None, "refused", "refused")


def test_without_limits_for_slides_the_group_is_for_review_and_the_class_as_before():
    fields = [field(6.0, "accepted", "review", (0.98, 0.01, 0.01))] * 3
    case = allkit.combine(fields, trust=trust_of(slides=None))
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "review", None)
    assert case.reason_codes == (reasons.NOT_CALIBRATED_FOR_SLIDES,)
    assert (case.verdict, case.label) == ("accepted", "Early")
    plain = allkit.combine(fields)
    assert (plain.coarse, plain.coarse_verdict, plain.verdict) == (None, None, "accepted")


def test_a_head_that_followed_a_stain_accepts_no_slide_by_its_sum():
    followed = trust_of(offset=np.zeros(4, np.float32))
    case = allkit.combine(several(2.5, 5), trust=followed)
    assert (case.coarse, case.coarse_verdict) == ("malignant", "review")


def test_classes_without_groups_have_no_coarse_answer():
    decision = Decision("accepted", (), ())
    one = answer("a.png", np.array([0.9, 0.1]), decision, ("x", "y"))
    assert one.coarse is None
    assert one.to_row(("x", "y"))["coarse_verdict"] is None
    assert allkit.combine([one], trust=Trust(("x", "y"))).coarse_verdict is None
