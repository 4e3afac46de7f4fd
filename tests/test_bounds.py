"""Where no error was seen, a figure still has an interval: an exact one, and words beside it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from allkit import Dataset
from allkit.evaluation.answers import Answers
from allkit.evaluation.compare import compare
from allkit.evaluation.intervals import (
    beside,
    ends,
    interval_of,
    less_of_classes,
    possible,
    widened,
)
from allkit.evaluation.page import evaluation_page
from allkit.evaluation.result import evaluate
from allkit.evaluation.shortcuts import score
from allkit.evaluation.text import evaluation_lines
from allkit.report.card import judged_card, model_card

CLASSES = ("Benign", "Early", "Pre", "Pro")
SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "accepted_accuracy", "set_coverage")


def answered(groups=13, each=6, *, right=True, units=True, sets=True, **further):
    """Evaluate answers that are all right, or all wrong, in groups of one class each."""
    unit = np.repeat(np.arange(groups), each)
    truth = (unit % 4).astype(np.int64)
    probabilities = np.full((len(unit), 4), 0.02)
    probabilities[np.arange(len(unit)), truth if right else (truth + 1) % 4] = 0.94
    return evaluate(
        truth, probabilities, CLASSES, verdicts=["accepted"] * len(unit),
        units=unit if units else None, sets=probabilities > 0.5 if sets else None, **further,
    )  # fmt: skip


def widths(found):
    return {name: high - low for name, (low, high) in found.intervals.items()}


def test_no_error_in_13_groups_leaves_21_percent_possible():
    found = answered(13)
    assert found.accuracy == 1
    low, high = found.intervals["accuracy"]
    assert (low, high) == (pytest.approx(0.05 ** (1 / 13)), 1)
    assert found.exact["accuracy"] == "no error in 13 groups; up to 21 % wrong possible"


@pytest.mark.parametrize("groups", [1, 3, 13, 80])
def test_the_bound_is_that_of_clopper_and_pearson_with_one_side(groups):
    theirs = binomtest(0, groups, alternative="less").proportion_ci(0.95).high
    assert possible(groups) == pytest.approx(theirs)
    assert binom.pmf(0, groups, possible(groups)) == pytest.approx(0.05)


@pytest.mark.parametrize("groups", [1, 2, 5, 40])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("units", [True, False])
def test_no_interval_is_without_a_width(groups, right, units):
    found = answered(groups, right=right, units=units)
    assert {name for name, width in widths(found).items() if width < 1e-6} == set()
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] + 1e-12, name
        assert found.metrics[name] <= high + 1e-12, name


def test_one_group_says_almost_nothing_whatever_it_shows():
    found = answered(1)
    for name in SHARES:
        low, high = found.intervals[name]
        assert (low, high) == (pytest.approx(0.05), 1), name
    assert "1 group only, from which almost nothing follows" in found.exact["accuracy"]
    half = evaluate(
        np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]), ("a", "b"), verdicts=None,
        units=np.zeros(2, int),
    )  # fmt: skip
    low, high = half.intervals["accuracy"]
    assert low < 0.03
    assert high > 0.97


def test_no_silent_error_and_nothing_right_have_a_bound_at_their_other_end():
    found = answered(13)
    low, high = found.intervals["silent_error_rate"]
    assert (low, high) == (0, pytest.approx(possible(13)))
    assert found.exact["silent_error_rate"] == "none in 13 groups; up to 21 % possible"
    wrong = answered(13, right=False)
    assert wrong.intervals["accuracy"] == [0, pytest.approx(possible(13))]
    assert wrong.exact["accuracy"] == "none right in 13 groups; up to 21 % possible"


def test_without_groups_the_bound_is_over_images_and_says_so():
    found = answered(13, units=False)
    assert found.intervals["accuracy"][0] == pytest.approx(0.05 ** (1 / 78))
    assert "78 images (no groups are known)" in found.exact["accuracy"]


def test_recall_precision_and_f1_of_a_class_rest_on_the_groups_of_that_class():
    unit = np.repeat(np.arange(9), 4)
    truth = np.minimum(unit, 4) // 2  # two groups of a, two of b, five of c
    probabilities = np.eye(3)[truth] * 0.7 + 0.1
    found = evaluate(truth, probabilities, ("a", "b", "c"), verdicts=None, units=unit)
    for name, groups in {"a": 2, "b": 2, "c": 5}.items():
        for key in ("recall", "precision", "f1"):
            low, high = found.class_intervals[name][key]
            assert (low, high) == (pytest.approx(0.05 ** (1 / groups)), 1), (name, key)
    assert found.to_dict()["class_intervals"]["c"]["recall"][0] == pytest.approx(0.05 ** (1 / 5))
    assert set(found.intervals) <= set(found.metrics)
    page = evaluation_page(found.to_dict(), title="t", lead="l", names={})
    assert "0.224 to 1.000" in page


def test_what_was_accepted_counts_only_the_groups_in_which_something_was():
    unit = np.repeat(np.arange(10), 4)
    truth = (unit % 2).astype(np.int64)
    probabilities = np.eye(2)[truth] * 0.8 + 0.1
    verdicts = ["accepted" if u < 3 else "review" for u in unit]
    found = evaluate(truth, probabilities, ("a", "b"), verdicts=verdicts, units=unit)
    assert found.intervals["accepted_accuracy"][0] == pytest.approx(0.05 ** (1 / 3))
    assert found.intervals["accuracy"][0] == pytest.approx(0.05 ** (1 / 10))


def test_one_error_is_a_bootstrap_again():
    unit = np.repeat(np.arange(12), 5)
    truth = (unit % 2).astype(np.int64)
    probabilities = np.eye(2)[truth] * 0.8 + 0.1
    probabilities[0] = probabilities[0][::-1]
    found = evaluate(truth, probabilities, ("a", "b"), verdicts=None, units=unit)
    assert "accuracy" not in found.exact
    assert found.intervals["accuracy"][1] == 1


@pytest.mark.parametrize(
    "units", [[3, 3, 3, 4], [1, 30], [2, 2, 9], [13], [0.5, 0.5], [1, 1, 1, 1]]
)
def test_the_bound_of_a_mean_over_classes_is_the_worst_that_is_not_ruled_out(units):
    found = less_of_classes(units)
    rng = np.random.default_rng(0)
    # Any way to divide what is not ruled out: the product of (1 - q)^n is at least 5 %.
    parts = rng.dirichlet(np.full(len(units), 0.5), 20_000) * -np.log(0.05)
    means = (1 - np.exp(-parts / np.array(units))).mean(axis=1)
    assert means.max() <= found + 1e-9
    assert means.max() == pytest.approx(found, abs=5e-3)


def test_the_bound_holds_for_95_of_100_tests():
    rng = np.random.default_rng(3)
    covered = []
    for share in (0.05, 0.2, 0.4):
        seen = [rng.random(9) >= share for _ in range(4000)]
        clean = [s.all() for s in seen]
        # Where no error is seen, the truth is missed only if it is above the bound.
        covered.append(1 - np.mean(clean) * (share > possible(9)))
    assert min(covered) >= 0.95


def test_two_models_that_answer_alike_may_differ_on_the_next_group():
    unit = np.repeat(np.arange(13), 3)
    truth = (unit % 4).astype(np.int64)
    same = Answers(CLASSES, truth, np.eye(4)[truth] * 0.9 + 0.025, None)
    found = compare(same, same, unit)
    for name, (low, high) in found.intervals.items():
        assert low < 0 < high, name
    assert found.intervals["accuracy"] == [
        pytest.approx(-possible(13)),
        pytest.approx(possible(13)),
    ]
    assert "no difference in any of 13 groups" in found.to_text()
    assert found.to_dict()["exact"]["accuracy"] == "no difference in any of 13 groups"


def test_a_probe_without_an_error_has_a_width_too():
    labels = np.repeat([0, 1], 12)
    units = np.repeat(np.arange(8), 3)
    values = {"mean_colour": labels[:, None].astype(np.float32)}
    (probe,) = score(values, labels, units, names=("mean_colour",), folds=2, trees=5)
    assert probe.balanced_accuracy == 1
    assert probe.low == pytest.approx(0.05 ** (1 / 8))


def test_models_of_older_versions_are_shown_with_a_width():
    old = answered(13).to_dict()
    del old["exact"]
    old["intervals"] = {"accuracy": [1.0, 1.0], "ece": [0.1, 0.2]}
    assert interval_of(old, "accuracy") == (pytest.approx(0.05 ** (1 / 13)), 1)
    assert "no error in 13 groups" in beside(old, "accuracy")
    assert interval_of(old, "ece") == (0.1, 0.2)
    assert beside(old, "ece") == ""


def test_what_may_be_otherwise_stays_within_what_a_figure_can_be():
    assert widened(0.7, 0.95) == (pytest.approx(0.035), pytest.approx(0.985))
    assert widened(1.0, 0.2, 0.0, 4.0) == (pytest.approx(0.8), pytest.approx(1.6))


# ── a shortcut that does as well ───────────────────────────────────────────────────────────────


def probe(value, *, blind=False, name="mean_colour"):
    return {
        "name": name, "balanced_accuracy": value, "interval": [value - 0.02, value],
        "chance": 0.25, "blind_to_cells": blind,
    }  # fmt: skip


def beside_probe(value, groups=13, right=True, **options):
    return answered(groups, right=right, extra={"shortcut_probe": probe(value, **options)})


def test_a_figure_that_does_not_exceed_the_strongest_shortcut_says_so():
    found = beside_probe(0.97, right=False)
    note = "not better than the shortcut 'mean colour' (0.970), which sees cells as colour only"
    assert found.extra["shortcut_probe"]["note"] == note
    assert found.extra["shortcut_probe"]["exceeded"] is False
    # What is compared is the balanced accuracy, also where it is said beside the other.
    assert f"balanced, {note}" in beside(found.to_dict(), "accuracy")
    assert beside(found.to_dict(), "balanced_accuracy").endswith(note)
    blind = beside_probe(0.97, right=False, blind=True, name="corner_tl")
    assert "'top left corner' (0.970), which sees no cell" in blind.extra["shortcut_probe"]["note"]


def test_a_figure_whose_interval_reaches_down_to_the_shortcut_is_not_shown_to_be_better():
    found = beside_probe(0.97)  # 1.000, but of 13 groups: 0.79 is possible
    assert "not shown to be better than" in found.extra["shortcut_probe"]["note"]
    few = beside_probe(0.6, groups=4)
    assert few.extra["shortcut_probe"]["exceeded"] is False


def test_a_figure_that_surely_exceeds_the_shortcut_says_nothing():
    found = beside_probe(0.31)
    assert found.extra["shortcut_probe"]["exceeded"] is True
    assert found.extra["shortcut_probe"]["note"] is None
    assert "shortcut" not in beside(found.to_dict(), "balanced_accuracy")


def test_a_set_without_a_probe_is_left_as_it_is():
    extra = {"shortcut_probe": {"name": None, "reason": "there is one class only"}}
    assert answered(extra=extra).extra == extra
    assert answered().extra == {}


def shown_everywhere(found):
    values = found.to_dict()
    return {
        "print": str(found),
        "page": evaluation_page(values, title="t", lead="l", names={}),
        "card": judged_card("# Card\n", "set", values),
    }


def test_the_words_stand_beside_the_figure_on_page_card_and_print():
    for place, text in shown_everywhere(beside_probe(0.97)).items():
        text = text.replace("&#x27;", "'")
        row = next(line for line in text.splitlines() if "accuracy" in line and "1.000" in line)
        assert "no error in 13 groups; up to 21 % wrong possible" in row, place
        assert "not shown to be better than the shortcut 'mean colour' (0.970)" in row, place
        assert "1.000–1.000" not in text, place
        assert "1.000 to 1.000" not in text, place
        assert "0.000–0.000" not in text, place


def test_the_app_and_the_card_of_a_model_say_them_too(tiny):
    values = beside_probe(0.97).to_dict() | {"protocol": "Validation part, divided by group"}
    model = copy.copy(tiny)
    model.info = tiny.info.model_copy(update={"validation": values})
    words = model.validation_sentence  # which the app shows
    assert "0.79–1.00: no error in 13 groups; up to 21 % wrong possible" in words
    assert "not shown to be better than the shortcut 'mean colour'" in words
    card = model_card(model.info.model_dump(mode="json"))
    assert "0.794–1.000; no error in 13 groups; up to 21 % wrong possible" in card
    assert "| 0.368–1.000 |" in card  # the recall of a class, three groups of it


def test_a_comparison_on_the_page_says_what_it_rests_on():
    unit = np.repeat(np.arange(13), 3)
    truth = (unit % 4).astype(np.int64)
    same = Answers(CLASSES, truth, np.eye(4)[truth] * 0.9 + 0.025, None)
    found = compare(same, same, unit).to_dict() | {"with": "other"}
    page = evaluation_page(
        answered().to_dict(), title="t", lead="l", names={}, comparison=found
    )  # fmt: skip
    assert "no difference in any of 13 groups" in page


@pytest.mark.slow
def test_the_command_line_says_them_too(tiny_folder, drawn, cli):
    status, out, _ = cli("evaluate", tiny_folder, drawn)
    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("silent errors")]
    assert len(rows) == 1
    assert "(0.000–0.221)" in rows[0]
    assert "none in 12 groups; up to 23 % possible" in rows[0]


# ── what an evaluation and a model say of themselves ───────────────────────────────────────────


def test_an_evaluation_prints_its_figures_and_is_short_in_a_console():
    found = answered(13, notes=["These images were trained on."])
    lines = str(found).splitlines()
    assert lines[0] == "CAUTION  These images were trained on."
    assert any(line.startswith("accuracy              1.000   (0.794–1.000)") for line in lines)
    assert "Class, accepted / review / refused: 78 / 0 / 0" in lines
    assert repr(found) == (
        "<Evaluation: accuracy 1.000 (0.794–1.000), balanced 1.000 (0.787–1.000), "
        "78 images in only 13 groups, 1 caution>"
    )


@pytest.mark.slow
def test_what_is_printed_is_what_the_command_prints(tiny, tiny_folder, drawn, cli):
    _, out, _ = cli("evaluate", tiny_folder, drawn)
    printed = str(tiny.evaluate(Dataset.open(drawn))).splitlines()
    assert [line for line in printed if line in out.splitlines()] == printed


def test_a_description_is_short_and_names_what_matters(tiny):
    for part in (tiny.info, tiny.info.data, tiny.info.backbone):
        assert len(repr(part)) <= 300
        assert str(part) == repr(part)
    assert "timm:test_resnet" in repr(tiny.info)
    assert "Benign, Early, Pre, Pro" in repr(tiny.info)
    many = tiny.info.model_copy(update={"classes": tuple(f"a long class {i}" for i in range(99))})
    assert len(repr(many)) <= 300


def test_saving_leaves_the_model_as_it_was(tiny, tmp_path):
    info = tiny.info.model_copy(
        update={"backbone": tiny.info.backbone.model_copy(update={"fingerprint": ()})}
    )
    model = copy.copy(tiny)
    model.info = info
    before = info.model_dump()
    model.save(tmp_path / "model")
    assert model.info is info
    assert model.info.model_dump() == before
    assert type(tiny).load(tmp_path / "model").info.backbone.fingerprint


def test_a_model_whose_figures_have_no_curves_is_saved_with_the_other_pictures(tiny, tmp_path):
    old = {k: v for k, v in tiny.info.validation.items() if k != "curves"}
    model = copy.copy(tiny)
    model.info = tiny.info.model_copy(update={"validation": old})
    plots = model.save(tmp_path / "m") / "plots"
    assert {p.name for p in plots.iterdir()} == {"learning_curves.png", "confusion.png"}


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        ((0.81234, 1.0), ("0.812", "1.000")),
        ((0.9996, 1.0), ("0.9996", "1.0000")),
        ((0.0, 0.00004), ("0.00000", "0.00004")),
    ],
)
def test_an_interval_that_is_only_narrow_does_not_look_as_if_it_had_no_width(interval, shown):
    assert ends(*interval) == shown
    figures = answered(13).to_dict()
    figures["intervals"]["macro_roc_auc"] = list(interval)
    figures["exact"] = {}
    line = next(row for row in evaluation_lines(figures) if row.startswith("area under ROC"))
    assert f"({shown[0]}–{shown[1]})" in line
