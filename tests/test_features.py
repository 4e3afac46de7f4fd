"""The feature cache and the extraction of features."""

import sqlite3
import threading

import numpy as np
import pytest
import torch

import allkit
from allkit.errors import ConfigError, DatasetError, PluginError
from allkit.features import AugmentedCopy, Extractor, FeatureCache
from allkit.plugins import Registry


class Counted(torch.nn.Module):
    """A backbone that counts the images it was given."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def extractor(cache, identity=("counted",)):
    return Extractor(Counted(), allkit.InputSpec(32), identity, torch.device("cpu"), cache=cache)


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn).subset(range(12))


@pytest.fixture
def standard():
    return [Registry(discover=False).get("augmentation", "standard")]


def test_what_was_computed_once_is_not_computed_again(tmp_path, data):
    first = extractor(FeatureCache(tmp_path))
    rows = first.extract(data)
    again = extractor(FeatureCache(tmp_path))
    np.testing.assert_array_equal(again.extract(data), rows)
    assert (first.backbone.seen, again.backbone.seen) == (12, 0)


def test_other_weights_another_backbone_or_another_view_are_computed_anew(tmp_path, data, standard):
    cache = FeatureCache(tmp_path)
    extractor(cache).extract(data)
    other = extractor(cache, ("counted", "other weights"))
    other.extract(data)
    augmented = extractor(cache)
    augmented.extract(data, copy=AugmentedCopy(1, standard, ["standard"], seed=0))
    augmented.extract(data, copy=AugmentedCopy(1, standard, ["standard"], seed=1))
    assert (other.backbone.seen, augmented.backbone.seen) == (12, 24)


def test_augmented_copies_are_the_same_in_any_order_and_differ_by_number_and_seed(data, standard):
    def rows(dataset, number, seed=0):
        copy = AugmentedCopy(number, standard, ["standard"], seed)
        return extractor(None).extract(dataset, copy=copy)

    forward = rows(data, 1)
    backward = rows(data.subset(range(11, -1, -1)), 1)
    np.testing.assert_array_equal(forward, backward[::-1])
    assert not np.array_equal(forward, rows(data, 2))
    assert not np.array_equal(forward, rows(data, 1, seed=1))


def test_a_cache_stays_below_its_limit_and_drops_what_was_unused_longest(tmp_path):
    cache = FeatureCache(tmp_path, limit=400_000)
    vector = np.zeros(1000, np.float32)
    old = [f"old{i}".encode() for i in range(60)]
    cache.put(dict.fromkeys(old, vector))
    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE features SET used = used - 10000")
    new = [f"new{i}".encode() for i in range(60)]
    cache.put(dict.fromkeys(new, vector))
    assert len(cache.get(new)) == 60
    assert len(cache.get(old)) < 40
    with sqlite3.connect(cache.path) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    assert pages * 4096 <= 400_000


def test_two_writers_at_once_lose_nothing(tmp_path):
    def write(worker):
        cache = FeatureCache(tmp_path)
        for i in range(40):
            cache.put({f"{worker}-{i}".encode(): np.full(8, worker, np.float32)})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    keys = [f"{w}-{i}".encode() for w in range(4) for i in range(40)]
    assert len(FeatureCache(tmp_path).get(keys)) == 160


def test_a_cache_that_cannot_be_used_costs_time_but_no_result(tmp_path, data):
    (tmp_path / "features.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.warns(UserWarning, match="cannot be used") as caught:
        rows = extractor(FeatureCache(tmp_path)).extract(data)
    assert len(caught) == 1
    np.testing.assert_array_equal(rows, extractor(None).extract(data))


def test_the_limit_is_set_by_the_environment_and_checked(monkeypatch):
    monkeypatch.setenv("ALLKIT_CACHE_LIMIT", "5")
    assert FeatureCache().limit == 5 * 2**20
    monkeypatch.setenv("ALLKIT_CACHE_LIMIT", "lots")
    with pytest.raises(ConfigError, match="whole megabytes"):
        FeatureCache()


def test_unreadable_images_stop_the_extraction_and_are_all_listed(tmp_path, drawn):
    import shutil

    shutil.copytree(drawn.parent, tmp_path / "d")
    for index in (3, 7):
        (tmp_path / "d" / "images" / f"drawn-{index:05d}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DatasetError) as caught:
        extractor(None).extract(allkit.Dataset.open(tmp_path / "d" / "index.csv"))
    assert "drawn-00003" in str(caught.value)
    assert "drawn-00007" in str(caught.value)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda image, rng: image[:10], "must keep shape and type"),
        (lambda image, rng: image.astype(float), "must keep shape and type"),
        (lambda image, rng: None, "returned NoneType"),
        (lambda image, rng: 1 / 0, "'odd' failed: ZeroDivisionError"),
    ],
)
def test_an_augmentation_that_breaks_its_promise_is_named(data, apply, message):
    record = allkit.Augmentation("odd", apply)
    with pytest.raises(PluginError, match=message):
        extractor(None).extract(data, copy=AugmentedCopy(1, [record], ["odd"], seed=0))


def test_progress_counts_up_to_the_number_of_images(data):
    calls = []
    extractor(None).extract(data, progress=lambda *call: calls.append(call))
    assert calls[0] == ("features", 0, 12)
    assert calls[-1] == ("features", 12, 12)


@pytest.mark.slow
def test_the_pass_over_the_images_comes_once_and_before_anything_is_learnt(
    drawn, tiny_settings, monkeypatch
):
    from allkit.training.inputs import PreparedInputs
    from allkit.training.session import Session

    events = []

    def noted(what, function):
        def call(*arguments, **settings):
            events.append(what)
            return function(*arguments, **settings)

        return call

    monkeypatch.setattr(PreparedInputs, "prepare", noted("prepare", PreparedInputs.prepare))
    monkeypatch.setattr(Session, "train", noted("train", Session.train))
    passes = []

    def progress(what, done, total):
        if what.startswith("features of 48 images") and not done:
            passes.append(total)

    settings = tiny_settings | {"epochs": 1, "calibration_folds": 2, "copies": 1}
    allkit.Trainer(**settings, progress=progress).fit(allkit.Dataset.open(drawn))
    # One member, the same again on all images, and two heads for calibration.
    assert events == ["prepare", *["train"] * 4]
    assert passes == [96], "the images as they are, and an augmented copy of each"
