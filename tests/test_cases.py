"""Several fields of one patient."""

import pytest

import allkit
from allkit.records import Prediction


def field(name, verdict, *probabilities, reasons=()):
    table = dict(zip("abc", probabilities, strict=False))
    label = max(table, key=table.get) if table else None
    return Prediction(name, verdict, reasons, label, table.get(label), table)


def test_the_answer_is_the_mean_of_the_logits_of_the_accepted_fields():
    case = allkit.combine(
        [field("1", "accepted", 0.8, 0.1, 0.1), field("2", "accepted", 0.9, 0.05, 0.05)], "P1"
    )
    assert (case.case, case.verdict, case.label, case.used, case.fields) == (
        "P1",
        "accepted",
        "a",
        2,
        2,
    )
    ratio = case.probabilities["a"] / case.probabilities["b"]
    assert ratio == pytest.approx((8 * 18) ** 0.5)
    assert sum(case.probabilities.values()) == pytest.approx(1)
    assert case.agreement == 1
    assert case.spread == pytest.approx(0.05)


def test_refused_and_unreadable_fields_are_listed_and_take_no_part():
    case = allkit.combine(
        [
            field("1", "accepted", 0.9, 0.1, 0.0),
            field("2", "refused", 0.0, 0.0, 1.0),
            field("3", "unreadable"),
        ]
    )
    assert (case.refused, case.unreadable, case.used, case.fields) == (("2",), ("3",), 1, 3)
    assert case.label == "a"
    assert case.verdict == "accepted"


def test_accepted_fields_that_disagree_are_for_review():
    case = allkit.combine(
        [
            field("1", "accepted", 0.9, 0.1, 0.0),
            field("2", "accepted", 0.9, 0.1, 0.0),
            field("3", "accepted", 0.1, 0.9, 0.0),
        ]
    )
    assert (case.verdict, case.reasons) == ("review", ("fields disagree",))
    assert dict(case.votes) == {"a": 2, "b": 1, "c": 0}
    assert case.agreement == pytest.approx(2 / 3)


def test_one_accepted_field_among_many_doubtful_ones_is_not_enough():
    fields = [field("1", "accepted", 0.9, 0.1, 0.0)]
    fields += [field(str(i), "review", 0.2, 0.8, 0.0, reasons=("ambiguous",)) for i in range(2, 6)]
    case = allkit.combine(fields)
    assert case.verdict == "review"
    assert case.reasons == ("fewer than half of the fields accepted",)
    assert (case.label, case.used) == ("a", 1)


def test_without_an_accepted_field_the_doubtful_ones_are_shown_with_their_reasons():
    case = allkit.combine([field("1", "review", 0.6, 0.4, 0.0, reasons=("unfamiliar slide",))])
    assert (case.verdict, case.label) == ("review", "a")
    assert "unfamiliar slide" in case.reasons


def test_a_case_with_nothing_to_answer_from_is_refused_and_one_without_fields_an_error():
    case = allkit.combine([field("1", "refused", 1.0, 0.0, 0.0), field("2", "unreadable")])
    assert (case.verdict, case.label, case.used) == ("refused", None, 0)
    assert case.to_dict()["reasons"] == ["no field to answer from"]
    with pytest.raises(allkit.AllkitError, match="has no fields"):
        allkit.combine([], "P2")


def test_a_model_answers_for_a_case_and_an_evaluation_judges_cases(tiny, drawn):
    data = allkit.Dataset.open(drawn)
    answer = tiny.predict_case([data.read(0), data.read(1), b"no image"], "P7")
    assert (answer.case, answer.fields, len(answer.unreadable)) == ("P7", 3, 1)
    figures = tiny.evaluate(data, probes=False)
    cases = {s.case for s in data}
    assert figures.extra["cases"]["n"] == len(cases)
    assert sum(figures.extra["cases"]["verdicts"].values()) == len(cases)
