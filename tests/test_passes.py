"""Each image is decoded once, whatever is made of it, and its cells are looked for once."""

from collections import Counter

import pytest

import allkit
from allkit.data import passes
from allkit.data.relations import REDUCED, SAME_FIELD
from allkit.images import cells, given


@pytest.fixture
def reads(monkeypatch):
    """How often each file was decoded, by its hash, and how often cells were looked for in all."""
    counts = {"decoded": Counter(), "cells": 0}
    read, find = passes.read_image, cells.find_cells

    def counted(source, **named):
        if isinstance(source, bytes):  # an array is decoded already
            counts["decoded"][hash(source)] += 1
        return read(source, **named)

    def finding(image):
        counts["cells"] += 1
        return find(image)

    monkeypatch.setattr(passes, "read_image", counted)
    monkeypatch.setattr(given, "read_image", counted)
    monkeypatch.setattr("allkit.images.cells.find_cells", finding)
    monkeypatch.setattr("allkit.features.bags.find_cells", finding)
    monkeypatch.setattr("allkit.model.classifier.find_cells", finding)
    return counts


def often(reads):
    """How often the images were decoded: each as often as every other."""
    (number,) = set(reads["decoded"].values())
    return number


@pytest.mark.slow
@pytest.mark.parametrize("bag", ["field", "both"])
def test_an_evaluation_decodes_every_image_once_and_looks_for_its_cells_once(
    bag, trained, drawn, reads
):
    model = trained(bag=bag)
    reads["decoded"].clear()
    reads["cells"] = 0
    model.evaluate(allkit.Dataset.open(drawn))
    assert len(reads["decoded"]) == 48
    assert often(reads) == 1
    assert reads["cells"] == (0 if bag == "field" else 48)


@pytest.mark.slow
def test_an_exported_file_decodes_every_image_once(tiny, drawn, tmp_path, reads):
    from allkit.cli.models import open_model
    from allkit.evaluation.evaluate import PROBED, ask, evaluation_of

    tiny.export(tmp_path / "model.onnx")
    file = open_model(tmp_path / "model.onnx")
    reads["decoded"].clear()
    data = allkit.Dataset.open(drawn)
    evaluation_of(data, ask(file, data, also=PROBED), file.classes, [])
    assert len(reads["decoded"]) == 48
    assert often(reads) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"copies": 0}, 1),
        ({"copies": 2}, 3),
        ({"folds": 3, "copies": 0}, 1),
        ({"bag": "both", "copies": 1}, 2),
    ],
    ids=["as they are", "two augmented copies", "folds", "cells"],
)
def test_a_training_decodes_every_image_once_and_once_more_for_each_augmented_copy(
    settings, times, few, tiny_settings, reads
):
    settings = tiny_settings | {"refit": False, "val": 0} | settings
    allkit.Trainer(**settings).fit(allkit.Dataset.open(few))
    assert len(reads["decoded"]) == 24
    assert often(reads) == times
    assert reads["cells"] == (24 * times if settings["bag"] == "both" else 0)


@pytest.mark.slow
def test_a_training_that_keeps_some_images_for_validation_augments_the_others_only(
    few, tiny_settings, reads
):
    settings = tiny_settings | {"copies": 1, "refit": False, "val": 0.25}
    model = allkit.Trainer(**settings).fit(allkit.Dataset.open(few))
    learnt = 24 - model.info.validation["n"]
    assert sorted(reads["decoded"].values()) == [1] * (24 - learnt) + [2] * learnt


def test_an_audit_decodes_every_image_once(drawn, reads):
    allkit.audit(allkit.Dataset.open(drawn))
    assert len(reads["decoded"]) == 48
    assert often(reads) == 1


def test_what_was_measured_on_a_set_is_known_of_its_parts(drawn, reads):
    data = allkit.Dataset.open(drawn)
    split = data.split(test=0.3)
    first = often(reads)
    assert first == 1
    assert len(split.train.signatures) + len(split.test.signatures) == 48
    assert often(reads) == 1


def test_only_a_few_decoded_images_are_in_memory_at_a_time(drawn):
    import gc

    data = allkit.Dataset.open(drawn)
    alive, most = 0, 0

    class Kept:
        def __init__(self, frame):
            nonlocal alive, most
            self.pixels = frame.pixels
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    for _ in data.passes.survey((), range(48), Kept, size=4):
        gc.collect()
    assert most <= 20


def test_images_that_are_read_in_an_order_of_their_own_leave_as_little(drawn):
    """Their reduced images lie in the store of the set, which need not fit into the memory."""
    data = allkit.Dataset.open(drawn)
    for index in (7, 2):
        data.passes.take(index, SAME_FIELD)
    stored = data.passes.measured.column(REDUCED.name)
    assert [i for i, grey in enumerate(stored) if grey is not None] == [2, 7]
    assert stored[2].base is stored[7].base
    assert stored[2].base is not None


def test_what_is_known_already_is_no_pass_and_shows_no_progress(drawn, reads):
    data = allkit.Dataset.open(drawn)
    data.passes.measure(SAME_FIELD)
    calls = []
    data.passes.measure(SAME_FIELD, progress=lambda *call: calls.append(call))
    assert calls == []
    assert often(reads) == 1
