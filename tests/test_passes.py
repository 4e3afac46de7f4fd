"""Each image is decoded once, whatever is made of it, and its cells are looked for once."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import allkit
from allkit.data import passes
from allkit.data.measures import STATISTICS
from allkit.data.relations import REDUCED, SAME_FIELD, SIGNATURE
from allkit.errors import DatasetError
from allkit.features import FeatureCache
from allkit.images import cells, given
from allkit.images.same_field import ReducedStore


@pytest.fixture
def reads(monkeypatch):
    """How often each file was decoded, by its hash, and how often cells were looked for in all."""
    counts = {"decoded": Counter(), "cells": 0}
    read, find = passes.read_image, cells.find_cells

    def counted(source, **named):
        if isinstance(source, bytes):  # an array is decoded already
            counts["decoded"][hash(source)] += 1
        return read(source, **named)

    def finding(image, finder):
        counts["cells"] += 1
        return find(image, finder)

    monkeypatch.setattr(passes, "read_image", counted)
    monkeypatch.setattr(given, "read_image", counted)
    monkeypatch.setattr("allkit.images.cells.find_cells", finding)
    monkeypatch.setattr("allkit.features.bags.find_cells", finding)
    monkeypatch.setattr("allkit.model.answering.find_cells", finding)
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


@pytest.mark.parametrize("with_model", [False, True])
def test_an_audit_decodes_every_image_once(with_model, drawn, tiny, reads):
    reads["decoded"].clear()
    allkit.audit(allkit.Dataset.open(drawn), tiny if with_model else None)
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


def test_without_room_for_reduced_images_the_same_pairs_are_found(tmp_path, monkeypatch):
    from allkit.data.drawn import write_smears

    drawn = write_smears(tmp_path / "set", 16, groups=8, seed=3, same_fields=4)
    found = allkit.Dataset.open(drawn).duplicates
    assert len(found) >= 4
    monkeypatch.setattr("allkit.images.same_field.reduction.ROOM", 0)
    monkeypatch.setattr("allkit.images.same_field.reduction.IN_MEMORY", 0)
    data = allkit.Dataset.open(drawn)
    assert data.duplicates == found
    assert all(grey.size == 0 for grey in data.passes.measured.column(REDUCED.name))


def test_a_disk_without_room_costs_time_and_no_result(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
    store = ReducedStore(2000)
    store.keep(1999, np.ones((200, 256), np.uint8))
    assert store.get(1999).size == 0


def test_what_was_measured_does_not_change_under_whoever_asked_for_it(drawn):
    data = allkit.Dataset.open(drawn)
    (values,) = data.passes.measure([STATISTICS])
    with pytest.raises(TypeError):
        values[0] = None
    with pytest.raises(ValueError, match="read-only"):
        values[0][:] = 0


def test_what_was_measured_on_parts_is_known_of_the_whole_and_of_any_selection(drawn):
    data = allkit.Dataset.open(drawn)
    first, second = (data.subset(range(*ends)).passes for ends in ((0, 30), (30, 48)))
    first.measure([STATISTICS, SIGNATURE])
    second.measure([STATISTICS])
    whole = first.measured.and_then(second.measured)
    every = data.passes.measure([STATISTICS])[0].table()
    np.testing.assert_array_equal(whole.column(STATISTICS.name).table(), every)
    some = whole.at([40, 3, 3])
    np.testing.assert_array_equal(some.column(STATISTICS.name).table(), every[[40, 3, 3]])
    assert some.column(SIGNATURE.name)[0] is None
    assert some.column(SIGNATURE.name)[1].sha256 == data.hashes[3]
    assert some.column(SIGNATURE.name).missing().tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["head", "last"])
def test_a_training_names_every_unreadable_image(strategy, tmp_path, tiny_settings):
    from allkit.data.drawn import write_smears

    table = write_smears(tmp_path / "set", 24, groups=12, seed=3)
    for index in (3, 9):
        (table.parent / "images" / f"drawn-{index:05d}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DatasetError) as caught:
        allkit.Trainer(**tiny_settings, strategy=strategy).fit(allkit.Dataset.open(table))
    assert "2 of 24" in str(caught.value)
    assert "drawn-00003" in str(caught.value)
    assert "drawn-00009" in str(caught.value)


def test_an_image_that_an_exported_file_cannot_read_is_named(drawn):
    from allkit.evaluation.evaluate import ask

    class File:
        classes = ("Benign", "Early", "Pre", "Pro")

        def stream(self, images):
            for number, _ in enumerate(images):
                if number == 5:
                    yield allkit.Prediction("image 5", "unreadable", ("unreadable",), error="odd")
                else:
                    chances = dict.fromkeys(self.classes, 0.25)
                    yield allkit.Prediction("image", "review", (), probabilities=chances)

    with pytest.raises(DatasetError, match=r"drawn-00005.*odd"):
        ask(File(), allkit.Dataset.open(drawn))


def test_what_is_known_already_is_no_pass_and_shows_no_progress(drawn, reads):
    data = allkit.Dataset.open(drawn)
    data.passes.measure(SAME_FIELD)
    calls = []
    data.passes.measure(SAME_FIELD, progress=lambda *call: calls.append(call))
    assert calls == []
    assert often(reads) == 1


@pytest.mark.slow
def test_with_a_cache_a_second_evaluation_reads_only_what_may_show_the_same_field(
    trained, drawn, reads, tmp_path
):
    model, cache = trained(bag="both"), FeatureCache(tmp_path)
    first = model.evaluate(allkit.Dataset.open(drawn), cache=cache)
    reads["decoded"].clear()
    reads["cells"] = 0
    second = model.evaluate(allkit.Dataset.open(drawn), cache=cache)
    assert len(reads["decoded"]) < 24  # of 48: those that are laid over each other
    assert reads["cells"] == 0
    assert second.to_dict() == first.to_dict()
    data = allkit.Dataset.open(drawn)
    (kept,) = data.passes.measure([SIGNATURE], cache=cache)
    (again,) = allkit.Dataset.open(drawn).passes.measure([SIGNATURE])
    for one, other in zip(kept, again, strict=True):
        assert (one.sha256, one.width, one.height) == (other.sha256, other.width, other.height)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.descriptors, other.descriptors)
