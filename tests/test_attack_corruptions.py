"""Corrupted smears: silent errors stay rare at every grade, and mild corruption costs few answers."""

from collections import Counter

import numpy as np
import pytest

from attacks import corruptions as row


@pytest.fixture(scope="module")
def script(benchmarks):
    import corruptions

    return corruptions


def part(label="Pre", verdicts=("accepted", "accepted"), **columns):
    """Answers on one field of leukaemia as it is and, darker, in grade 1."""
    return {
        "kind": ["as it is", "darker"],
        "grade": [0, 1],
        "codes": [[], []],
        "image": ["a", "a"],
        "slide": ["s", "s"],
        "truth": ["Pre", "Pre"],
        "label": ["Pre", label],
        "seen": [True, True],
        "verdict": list(verdicts),
        "malignant": [True, True],
        "label_malignant": [True, label != "Benign"],
        "coarse_malignant": [True, label != "Benign"],
        "coarse_probability": [0.99, 0.99],
        "coarse_verdict": list(verdicts),
    } | columns


def test_an_accepted_wrong_label_is_a_silent_error_of_its_grade(script):
    figures = script.figures_of(script.Corrupted.of([part(), part("Benign"), part("Early")]))
    assert figures["by grade"]["0"]["silent"][:2] == [0, 3]
    first = figures["by grade"]["1"]
    assert first["silent"][:2] == [2, 3]
    assert first["class accepted wrongly"][:2] == [2, 3]
    assert first["group accepted wrongly"][:2] == [1, 3]
    assert first["leukaemia accepted as benign"][:2] == [1, 3]
    assert "2 of 3" in script.demands(figures)["silent errors in grade 1"]


def test_kept_is_a_share_of_what_was_accepted_without_corruption(script):
    lost = part(verdicts=("accepted", "review"), codes=[[], ["unfamiliar_slide"]])
    never = part(verdicts=("review", "accepted"))
    figures = script.figures_of(script.Corrupted.of([part(), lost, never]))
    assert figures["by grade"]["1"]["class kept"][:2] == [1, 2]
    assert script.demands(figures)["class kept in grade 1"]
    why = figures["why no longer accepted in grade 1"]
    assert why == {"darker": {"unfamiliar_slide": 1}}


def test_a_corruption_is_always_the_same_and_the_random_state_is_given_back(script):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def noisy(pixels, grade):
        import random

        return np.roll(pixels, grade * random.randint(1, 9) + np.random.randint(9), axis=0)

    once, state = script.corrupted(image, noisy, 2, "a"), np.random.get_state()[1].copy()
    assert (script.corrupted(image, noisy, 2, "a") == once).all()
    assert (np.random.get_state()[1] == state).all()
    others = [script.corrupted(image, noisy, 2, name) for name in "bcdef"]
    assert any((other != once).any() for other in others)


def test_fields_are_drawn_from_each_slide_and_no_field_twice(script, drawn):
    from dataclasses import replace

    from allkit import Dataset

    data = Dataset.open(drawn)
    data = data.same_images([replace(s, slide=s.group) for s in data], None)
    rows = script.drawn_fields(data, 3)
    assert Counter(np.array(data.column("slide"))[rows]) == dict.fromkeys(data.column("slide"), 3)
    names = np.array(data.column("near_duplicate_of"))[rows]
    assert len(set(names)) == len(rows)
    assert set(script.drawn_fields(data, 2)) < set(rows), "more fields are further ones"


def test_corrupted_drawn_smears(tmp_path):
    (counts,) = row.run("short", tmp_path).values()
    counts.require_none_failed()
    assert counts.measured["pictures"] > 100
    assert counts.measured["class accepted without corruption %"] > 20, "or nothing could be wrong"


@pytest.mark.nightly
def test_corrupted_real_smears(tmp_path):
    for line, counts in row.run("long", tmp_path).items():
        if not counts.tried:
            pytest.skip(line)
        counts.require_none_failed()


class Untrained:
    """Stands in for the protocol: counts trainings, and answers everything rightly."""

    def __init__(self, data):
        self.data, self.benign_slides, self.malignant_slides = data, ["B1", "B2"], ["E1"]
        self.slides, self.trained, self.looked = ["B1", "B2", "E1"], [], []

    def train(self, images):
        self.trained.append({sample.slide for sample in images})

    def judge(self, model, images):
        from types import SimpleNamespace

        from left_out import Answers

        count, names = len(images), np.array(images.label_names)
        yes, accepted = np.ones(count, bool), np.array(["accepted"] * count)
        answers = Answers(
            np.array([sample.image for sample in images]), np.array(images.column("slide")),
            names, names, yes, accepted, yes, yes, yes, np.ones(count), accepted,
        )  # fmt: skip
        return SimpleNamespace(decisions=[SimpleNamespace(codes=())] * count), answers

    def look(self, model, images, slides, *, step):
        self.looked.append(slides)
        return self.judge(model, images)


@pytest.mark.parametrize(("step", "trainings"), [("known", 1), ("unseen", 3), ("pairs", 2)])
def test_what_was_answered_is_not_answered_again(script, drawn, tmp_path, step, trainings):
    from dataclasses import replace

    from allkit import Dataset

    data = Dataset.open(drawn)
    slide = {"Benign": ("B1", "B2"), "Early": ("E1", "E1"), "Pre": ("E1",) * 2, "Pro": ("E1",) * 2}
    samples = [replace(s, slide=slide[s.label][i // 4 % 2]) for i, s in enumerate(data)]
    protocol = Untrained(data.same_images(samples, None))
    kinds = {"darker": lambda pixels, grade: pixels // (grade + 1)}
    for _ in range(2):
        figures = script.measured(protocol, step, kinds, fields=2, answers=tmp_path)
    assert len(protocol.trained) == trainings, "the second time everything was there"
    assert figures["by grade"]["5"]["silent"][:2] == [0, figures["fields"]]
    if step != "known":
        left = [set(slides) for slides in protocol.looked]
        assert all(not out & known for out, known in zip(left, protocol.trained, strict=True))
    assert "| darker |" in script.text_of(step, figures)
