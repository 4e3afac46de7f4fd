"""Figures of merit, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from allkit.evaluation.answers import Answers
from allkit.evaluation.compare import Comparison, compare
from allkit.evaluation.result import evaluate

CLASSES = ("a", "b", "c", "d")


def answers(count=300, seed=0, classes=4):
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=count)
    logits = rng.normal(size=(count, 4))
    logits[np.arange(count), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth.astype(np.int64), probabilities


def judged(truth, probabilities, verdict="review", units=None):
    return evaluate(truth, probabilities, CLASSES, verdicts=[verdict] * len(truth), units=units)


def test_the_figures_are_those_of_scikit_learn():
    truth, probabilities = answers()
    predicted = probabilities.argmax(1)
    result = judged(truth, probabilities)
    assert result.accuracy == pytest.approx((truth == predicted).mean())
    assert result.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert result.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert result.confusion == confusion_matrix(truth, predicted).tolist()


def test_a_class_without_images_is_left_out_of_the_averages():
    truth, probabilities = answers(classes=3)
    result = judged(truth, probabilities)
    assert result.per_class["d"]["support"] == 0
    assert result.per_class["d"]["recall"] is None
    recalls = [result.per_class[name]["recall"] for name in "abc"]
    assert result.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_intervals_over_groups_are_wider_than_over_images_when_groups_fail_together():
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(20), 30)
    truth = np.tile(np.arange(4), 150).astype(np.int64)
    good = rng.random(20) < 0.8
    probabilities = np.full((600, 4), 0.1)
    answer = np.where(good[units], truth, (truth + 1) % 4)
    probabilities[np.arange(600), answer] = 0.7
    by_group = judged(truth, probabilities, units=units)
    by_image = judged(truth, probabilities)

    def width(r):
        return np.diff(r.intervals["accuracy"])[0]

    assert width(by_group) > 3 * width(by_image)
    assert by_group.interval_unit == "group"
    low, high = by_group.intervals["accuracy"]
    assert low <= by_group.accuracy <= high


def test_calibration_error_is_nought_when_confidence_is_accuracy_and_large_when_it_is_not():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 20_000)
    truth = (rng.random(20_000) > confidence).astype(np.int64)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    once = np.ones((1, 20_000))

    def error(p):
        answers = Answers(("a", "b"), truth, p, None)
        return answers.metrics(once)["ece"][0]

    assert error(probabilities) < 0.015
    assert error(np.tile([1.0, 0.0], (20_000, 1))) == pytest.approx(0.25, abs=0.02)


def test_silent_errors_are_accepted_and_wrong():
    truth = np.array([0, 1, 2, 3])
    probabilities = np.eye(4)[[0, 1, 2, 2]]
    result = evaluate(
        truth, probabilities, CLASSES, units=None,
        verdicts=["accepted", "review", "accepted", "accepted"],
    )  # fmt: skip
    assert result.silent_error_rate == 0.25
    assert result.accepted_accuracy == pytest.approx(2 / 3)
    assert result.verdicts == {"accepted": 3, "review": 1, "refused": 0}


def test_the_same_answers_give_the_same_intervals():
    truth, probabilities = answers()
    assert judged(truth, probabilities).intervals == judged(truth, probabilities).intervals


def test_areas_and_probability_scores_are_those_of_scikit_learn():
    truth, probabilities = answers()
    result = judged(truth, probabilities)
    for index, name in enumerate(CLASSES):
        row = result.per_class[name]
        own = truth == index
        assert row["roc_auc"] == pytest.approx(roc_auc_score(own, probabilities[:, index]))
        assert row["average_precision"] == pytest.approx(
            average_precision_score(own, probabilities[:, index])
        )
        answered = probabilities.argmax(1) == index
        assert row["specificity"] == pytest.approx((~answered)[~own].mean())
    assert result.metrics["log_loss"] == pytest.approx(log_loss(truth, probabilities))
    brier = ((probabilities - np.eye(4)[truth]) ** 2).sum(1).mean()
    assert result.metrics["brier"] == pytest.approx(brier)


def test_weights_of_a_bootstrap_count_an_image_as_often_as_it_was_drawn():
    truth, probabilities = answers(count=60)
    chosen = np.random.default_rng(0).integers(60, size=60)
    weights = np.bincount(chosen, minlength=60).astype(float)
    sets = probabilities > 0.2
    accepted = probabilities.max(1) > 0.5
    whole = Answers(CLASSES, truth, probabilities, accepted, sets)
    drawn = Answers(CLASSES, truth[chosen], probabilities[chosen], accepted[chosen], sets[chosen])
    ours, theirs = whole.metrics(weights[None]), drawn.metrics(np.ones((1, 60)))
    # Bins of equal mass may divide the copies of one image; everything else is exact.
    for name in set(ours) - {"ece", "classwise_ece", "area_risk_coverage"}:
        assert ours[name] == pytest.approx(theirs[name]), name


def test_sensitivity_at_fixed_specificity_keeps_to_it_with_equal_scores():
    truth = np.array([0] * 20 + [1] * 20)
    score = np.array([0.9] * 10 + [0.6] * 10 + [0.6] * 2 + [0.1] * 18)
    result = Answers(("a", "b"), truth, np.stack([score, 1 - score], 1), None).per_class(
        np.ones((1, 40))
    )
    # At 0.6 two of twenty would be false alarms, which is more than 5 %.
    assert result["a"]["sensitivity_at_specificity"] == 0.5


def test_two_models_that_answer_alike_do_not_differ_and_a_better_one_does():
    truth, probabilities = answers(count=400)
    better = probabilities.copy()
    better[np.arange(400), truth] += 1.0
    better /= better.sum(1, keepdims=True)
    first, second = (Answers(CLASSES, truth, p, None) for p in (probabilities, better))
    same = compare(first, first, None)
    assert same.differences["accuracy"] == 0
    low, high = same.intervals["accuracy"]
    assert low < 0 < high  # that 400 images were answered alike does not show that all are
    assert high == pytest.approx(1 - 0.05 ** (1 / 400))
    result: Comparison = compare(first, second, np.repeat(np.arange(40), 10))
    assert result.only_second > 0
    assert result.only_first == 0
    assert result.intervals["accuracy"][0] > 0
    assert "is more than chance" in result.to_text()
    text = result.to_text(first="mine", second="base")
    assert text.startswith(
        f"right in base only: {result.only_second}, in mine only: 0, of 400 images\n"
    )
    assert "base minus mine:\naccuracy              +0." in text
