"""What is promised of slides that were never seen holds on such slides, or is said not to be promised."""

from types import SimpleNamespace

import numpy as np
import pytest

from allkit.trust.groups import groups_of
from allkit.trust.slides import bound, limit_of_slides
from allkit.trust.unseen import notes_on_slides

RISK = 0.02


def needs_of_slides(rng, slides, fields=25):
    """The limit that each synthetic slide needs so that no field of it is accepted wrongly.

    A slide has a shift of its own, a field noise besides; its evidence for the wrong answer is both.
    """
    shift = rng.normal(-3.0, 1.5, size=slides)
    evidence = shift[:, None] + rng.normal(0.0, 1.0, size=(slides, fields))
    return evidence.max(axis=1)


def wrong_on_new_slides(rng, slides, new=500):
    """The share of new slides with a wrong acceptance, with limits from so many other slides."""
    limit = limit_of_slides(needs_of_slides(rng, slides), RISK, 0.1).limit
    return float((needs_of_slides(rng, new) > limit).mean())


def test_with_400_slides_the_asked_risk_holds_on_new_slides():
    rng = np.random.default_rng(0)
    assert not limit_of_slides(needs_of_slides(rng, 400), RISK, 0.1).empirical
    shares = [wrong_on_new_slides(rng, 400) for _ in range(200)]
    # ⌈401 × 0.98⌉ = 393rd of 400: 8 of 401 are expected above it. The limit is not just a high one.
    error = 3 * np.std(shares) / np.sqrt(len(shares))
    assert RISK / 2 < np.mean(shares) <= RISK + error
    assert np.mean(shares) == pytest.approx(8 / 401, abs=error)


def test_from_49_slides_on_the_bound_decides():
    rng = np.random.default_rng(1)
    needs = needs_of_slides(rng, 49)
    assert limit_of_slides(needs, RISK, 0.1) == (needs.max(), False)
    assert limit_of_slides(needs[:48], RISK, 0.1).empirical


def test_with_8_slides_nothing_is_promised_and_the_limit_is_stricter_than_any_needs():
    needs = needs_of_slides(np.random.default_rng(2), 8)
    limit = limit_of_slides(needs, RISK, 0.1)
    assert limit.empirical
    assert limit.limit > needs.max()
    assert limit_of_slides(-np.abs(needs), RISK, 0.1).limit > -np.abs(needs).min()


def test_with_8_slides_the_asked_risk_would_be_missed():
    rng = np.random.default_rng(3)
    shares = [wrong_on_new_slides(rng, 8) for _ in range(200)]
    assert np.mean(shares) > RISK, "so the mark is no formality"


def limits_from(slides_of_group, needs):
    """What is said of the limits of two groups, from what slides of the other group need."""
    both = [limit_of_slides(of_one, RISK, 0.1) for of_one in needs]
    return SimpleNamespace(
        of_group=np.array([limit for limit, _ in both]),
        counts=np.array(slides_of_group),
        tested=np.array(slides_of_group),
        wrong=np.zeros(2),
        risk=RISK,
        margin=0.1,
        empirical=any(empirical for _, empirical in both),
    )


def notes(benign, malignant):
    """What a model says of unseen slides that was trained on so many of each group."""
    rng = np.random.default_rng(5)
    classes = ("Benign", "Early", "Pre", "Pro")
    groups = groups_of(None, classes)
    limits = limits_from(
        (benign, malignant), [needs_of_slides(rng, malignant), needs_of_slides(rng, benign)]
    )
    return " ".join(notes_on_slides(classes, groups, (benign, 1, malignant - 2, 1), limits))


def test_the_text_says_that_8_slides_cannot_guarantee_the_risk():
    text = notes(3, 5)
    assert "A risk of 2% of unseen slides cannot be guaranteed with 3 slides" in text
    assert "empirical" in text
    assert "0 of 8 slides" in text
    assert "malignant: 0 of 5, up to 45%" in text
    assert "Early, Pro: seen on one slide only" in text


def test_the_text_promises_from_enough_slides_on():
    text = notes(200, 200)
    assert "0 of 400 slides" in text
    assert "empirical" not in text
    assert "cannot be guaranteed" not in text


@pytest.mark.parametrize(
    ("wrong", "slides", "share"),
    [(0, 5, 0.451), (0, 8, 0.312), (1, 8, 0.471), (5, 5, 1.0), (0, 400, 0.00746)],
)
def test_the_bound_over_slides_is_exact(wrong, slides, share):
    assert bound(wrong, slides) == pytest.approx(share, abs=6e-4)


def test_a_share_at_the_bound_gives_so_few_errors_once_in_twenty():
    share = bound(2, 30)
    rng = np.random.default_rng(4)
    seen = rng.binomial(30, share, size=40_000)
    assert (seen <= 2).mean() == pytest.approx(0.05, abs=0.004)
