"""Groups that coincide with classes: every judge says that nothing follows, and why."""

from dataclasses import replace

import pytest

import allkit
from allkit.config import TrainConfig
from allkit.data.confound import alone, coincide, nested
from allkit.errors import DatasetError
from allkit.training.unseen import leave_one_group_out

SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "epochs": 1, "copies": 0, "bag": "field",
}  # fmt: skip
WORDS = "nothing can be learnt about unseen slides"


@pytest.fixture(scope="module")
def coinciding(drawn):
    """The drawn smears as if every class were one slide."""
    data = allkit.Dataset.open(drawn)
    samples = [
        replace(s, group=f"slide of {s.label}", case=None, columns={"slide": s.label}) for s in data
    ]
    return allkit.Dataset(samples, data.classes, name="one slide each")


def test_it_is_told_by_groups_of_one_class_each_class_of_one_group():
    labels = ["a", "a", "b", "b"]
    assert nested(labels, [1, 1, 2, 3])
    assert not nested(labels, [1, 1, 1, 2])
    assert alone(labels, [1, 1, 2, 3]) == ["a"]
    assert alone(labels, [1, 1, 2, 3], fewest=3) == ["a", "b"]
    assert "Every class comes from one slide" in str(coincide(labels, [1, 1, 2, 2], "slide"))
    assert coincide(labels, [1, 1, 2, 3], "slide") is None
    assert coincide(labels, [1, 1, 1, 2], "slide") is None
    assert coincide(["a", "a"], [1, 1], "slide") is None


def test_leaving_out_what_coincides_with_the_classes_is_refused_before_any_training(coinciding):
    with pytest.raises(DatasetError, match=WORDS):
        leave_one_group_out(TrainConfig(**SETTINGS), coinciding, "slide")


def test_the_command_says_so_in_one_sentence_and_ends_with_2(
    cli, tiny_folder, coinciding, tmp_path
):
    import csv

    with (tmp_path / "c.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label", "slide"])
        for sample in coinciding:
            name = sample.image.replace("/", "_")
            (tmp_path / name).write_bytes(sample.source.read())
            writer.writerow([name, sample.label, sample.columns["slide"]])
    status, out, err = cli("evaluate", tiny_folder, "c.csv", "--leave-one-group-out", "slide")
    assert (status, out) == (2, "")
    assert WORDS in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_audit_says_so_beside_its_probes(drawn, coinciding):
    assert WORDS in allkit.audit(coinciding).message
    data = allkit.Dataset.open(drawn)
    named = [replace(s, columns={"slide": s.label}) for s in data]
    found = allkit.audit(allkit.Dataset(named, data.classes, name="d"), column="slide")
    assert WORDS in found.message
    assert WORDS not in allkit.audit(data).message


@pytest.mark.slow
def test_a_training_on_them_warns(coinciding):
    with pytest.warns(UserWarning, match=WORDS):
        allkit.Trainer(**SETTINGS, val=0, calibration_folds=0, cache=None).fit(coinciding)


@pytest.mark.slow
def test_classes_of_one_group_are_named_beside_the_figures(drawn):
    data = allkit.Dataset.open(drawn)
    samples = [
        replace(
            s,
            columns={
                "slide": "pro" if s.label == "Pro" else f"s{int(s.group.split('-')[-1]) // 4 % 2}"
            },
        )
        for s in data
    ]
    found = leave_one_group_out(
        TrainConfig(**SETTINGS, calibration_folds=0, val=0),
        allkit.Dataset(samples, data.classes, name="d"), "slide",
    )  # fmt: skip
    assert any(n.startswith("Pro: images of one slide only") for n in found.figures.notes)
