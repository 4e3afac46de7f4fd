"""On the real images, when they are there: one set for all tests, opened and looked at once."""

import pytest

import allkit
from allkit.quality.audit import audit
from allkit.quality.check import check

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.nightly)])
def real(request, shared):
    """A third of the groups, and at night all."""
    data = allkit.Dataset.open(shared / "data" / "taleqani" / "index.csv")
    place = {group: number for number, group in enumerate(dict.fromkeys(s.group for s in data))}
    return data.subset([i for i, s in enumerate(data) if place[s.group] % request.param == 0])


def whole(data):
    return len(data) == 1907


def test_the_groups_stay_whole(real):
    if whole(real):
        assert dict(real.counts) == {"Benign": 259, "Early": 444, "Pre": 616, "Pro": 588}
    split = real.split(test=0.3, seed=0)
    assert not {s.group for s in split.train} & {s.group for s in split.test}
    assert not set(split.train.hashes) & set(split.test.hashes)
    assert 0.25 < len(split.test) / len(real) < 0.35


def test_the_near_duplicates_are_found(real):
    names = real.column("near_duplicate_of")
    groups = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    wanted = {(a, b) for g in groups.values() for i, a in enumerate(g) for b in g[i + 1 :]}
    place = {s.image: i for i, s in enumerate(real)}
    found = check(real)
    pairs = {tuple(sorted((place[a], place[b]))) for a, b in found.near_duplicate_pairs}
    copies = {(a, b) for a, b in wanted if real.hashes[a] == real.hashes[b]}
    assert len(found.duplicates) == (40 if whole(real) else len(copies)) > 0
    assert len(pairs & wanted) / len(wanted) >= 0.95
    assert len(pairs & wanted) / len(pairs) >= 0.95
    assert any(mark.box[0] > 0.8 and mark.box[1] > 0.8 for mark in found.burnt_in)


def test_colour_tells_the_classes_and_nothing_about_the_next_series(real):
    found = audit(real, column="series")
    figures = found.to_dict()
    assert figures["verdict"] == "shortcut"
    assert figures["probes"]["colour_histogram"] >= 0.9
    assert "colour" in figures["message"]
    assert found.left_out.balanced_accuracy < 0.6


def test_a_training_is_right_on_other_groups(real):
    split = real.split(test=0.2, seed=0)
    # Whole fields in colour: the cells of 1,907 fields would take minutes.
    trainer = allkit.Trainer(
        backbone="efficientnet-lite0", copies=0, cache=None, view="rgb", bag="field"
    )
    figures = trainer.fit(split.train).evaluate(split.test)
    assert figures.accuracy > (0.95 if whole(real) else 0.85)
