"""Cells: where the white cells of a field are, and answers that rest on them."""

import copy
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import allkit
from allkit.errors import CheckpointError, ConfigError, ExportError
from allkit.images.cells import NO_CELLS, NO_SCALE, find_cells, shortcomings
from allkit.plugins import Registry
from allkit.plugins.host import BUILT_IN
from allkit.runtime.onnx import OnnxPredictor

LABELS = Path(__file__).parent / "labels" / "cells.csv"
RADIUS = 12
"""Pixels within which a find is a labelled cell; see labels/README.md."""


@pytest.fixture(scope="module")
def field(drawn):
    return allkit.Dataset.open(drawn).read(0)


@pytest.fixture(scope="module")
def cells_model(drawn, tiny_settings):
    data = allkit.Dataset.open(drawn)
    return allkit.Trainer(**tiny_settings | {"view": "haematoxylin", "bag": "both"}).fit(data)


def matched(found, cells, uncertain):
    """Return (hits, misses, false finds) of finds `(n, 2)`, one to one, the nearest first."""
    pairs = sorted(
        (float(np.hypot(*(a - b))), i, j) for i, a in enumerate(found) for j, b in enumerate(cells)
    )
    finds, hits = set(), set()
    for distance, i, j in pairs:
        if distance <= RADIUS and i not in finds and j not in hits:
            finds.add(i)
            hits.add(j)
    false = [
        i for i, a in enumerate(found)
        if i not in finds and not any(np.hypot(*(a - b)) <= RADIUS for b in uncertain)
    ]  # fmt: skip
    return len(hits), len(cells) - len(hits), len(false)


def test_it_finds_the_white_cells_that_a_person_marked(shared):
    labels = defaultdict(list)
    with LABELS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["part"] == "test":
                labels[row["image"]].append(row)
    assert len(labels) >= 24
    total = np.zeros(3)
    for image, rows in labels.items():
        with Image.open(shared / "data" / "taleqani" / image) as picture:
            places = find_cells(np.asarray(picture.convert("RGB"))).cells
        marks = {
            kind: [np.array([float(r["x"]), float(r["y"])]) for r in rows if r["kind"] == kind]
            for kind in ("cell", "uncertain")
        }
        found = [np.array([place.x, place.y]) for place in places]
        total += matched(found, marks["cell"], marks["uncertain"])
    hits, misses, false = total
    assert hits / (hits + misses) >= 0.95
    assert hits / (hits + false) >= 0.9


def test_the_magnification_does_not_matter(field):
    places = find_cells(field).cells
    assert places
    for factor in (2, 3):
        large = np.asarray(
            Image.fromarray(field).resize(
                (field.shape[1] * factor, field.shape[0] * factor), Image.Resampling.BICUBIC
            )
        )
        found = find_cells(large)
        assert found.image.shape[0] < 1.6 * field.shape[0]
        others = [(place.x / factor, place.y / factor) for place in found.cells]
        near = [any(np.hypot(place.x - x, place.y - y) < 6 for x, y in others) for place in places]
        assert np.mean(near) > 0.8


def test_the_light_of_the_microscope_does_not_matter(field):
    warm = (field * np.array([1.0, 0.94, 0.85])).astype(np.uint8)
    a, b = find_cells(field).centres, find_cells(warm).centres
    assert abs(len(a) - len(b)) <= 1
    near = [np.hypot(*(a - centre).T).min() < 4 for centre in b]
    assert np.mean(near) > 0.8


@pytest.mark.parametrize("value", [0, 120, 255])
def test_an_empty_field_has_no_cells(value):
    cells = find_cells(np.full((200, 260, 3), value, np.uint8))
    assert len(cells.centres) == 0
    assert cells.red_cell is None
    assert shortcomings(cells) == (NO_CELLS, NO_SCALE)


def test_a_scale_bar_is_no_cell(field):
    marked = field.copy()
    marked[196:, 184:] = (120, 20, 160)
    for place in find_cells(marked).cells:
        assert place.x < 184 or place.y < 192


def test_a_field_without_white_cells_is_refused_with_the_reason(cells_model):
    (answer,) = cells_model.predict(np.full((224, 224, 3), 240, np.uint8))
    assert answer.verdict == "refused"
    assert NO_CELLS in answer.reason_codes
    assert "no white cell found" in answer.reasons
    assert answer.label is not None
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_picture_of_a_single_cell_is_refused_since_no_red_cell_gives_its_size(cells_model):
    rows, columns = np.indices((224, 224))
    single = np.full((224, 224, 3), 245, np.uint8)
    distance = np.hypot(rows - 110, columns - 110)
    single[distance < 45] = (200, 190, 220)
    single[distance < 30] = (110, 50, 150)
    (answer,) = cells_model.predict(single)
    assert answer.verdict == "refused"
    assert NO_SCALE in answer.reason_codes
    assert "magnification unknown: no red cells to measure" in answer.reasons
    assert len(answer.cells) == 1


def test_the_cells_come_back_with_the_answer(cells_model, field):
    (answer,) = cells_model.predict(field)
    assert [(c.x, c.y) for c in answer.cells] == [(c.x, c.y) for c in find_cells(field).cells]
    assert answer.to_dict()["cells"][0].keys() == {"x", "y", "diameter"}
    assert "cells" not in answer.to_row(cells_model.classes)


@pytest.mark.slow
@pytest.mark.parametrize("bag", ["cells", "both"])
def test_a_model_of_cells_is_saved_loaded_and_exported(bag, drawn, tmp_path, tiny_settings, field):
    data = allkit.Dataset.open(drawn)
    model = allkit.Trainer(**tiny_settings | {"view": "haematoxylin", "bag": bag}).fit(data)
    images = [data.read(i) for i in range(5)]
    images += [np.full((80, 100, 3), 255, np.uint8), field[:180, :200]]
    images += [np.tile(field, (2, 2, 1))]  # as large as four fields
    expected = model.probabilities(images)
    loaded = allkit.Classifier.load(model.save(tmp_path / "m"))
    np.testing.assert_array_equal(loaded.probabilities(images), expected)
    model.export(tmp_path / "m.onnx", check=images)
    exported = OnnxPredictor(tmp_path / "m.onnx")
    np.testing.assert_allclose(exported.probabilities(images), expected, atol=1e-4)
    ours, theirs = model.predict(images), exported.predict(images)
    assert [a.verdict for a in ours] == [a.verdict for a in theirs]
    assert [a.cells for a in ours] == [a.cells for a in theirs]


def test_judging_a_set_and_answering_decide_alike(cells_model, drawn):
    data = allkit.Dataset.open(drawn).subset(range(12))
    judged = cells_model.judge(data)
    answers = cells_model.predict([data.read(i) for i in range(12)])
    assert [d.verdict for d in judged.decisions] == [a.verdict for a in answers]
    assert [d.reasons for d in judged.decisions] == [a.reasons for a in answers]


def test_an_image_gets_the_same_features_whichever_others_are_computed_with_it(cells_model, drawn):
    data = allkit.Dataset.open(drawn)
    images = [data.read(i) for i in range(6)]
    frozen = cells_model._extractor.frozen
    together = frozen(images, block=16)
    alone = frozen(images[2:3], block=16)
    np.testing.assert_array_equal(together[2:3], alone)


def test_the_explanation_says_what_each_cell_adds(cells_model, field, tmp_path):
    told = cells_model.explain(field)
    assert told.method == "cells"
    assert told.map.shape == field.shape[:2]
    assert told.map.max() == pytest.approx(1.0)
    inside = np.zeros(field.shape[:2], bool)
    rows, columns = np.indices(inside.shape)
    for place in told.answer.cells:
        inside |= np.hypot(rows - place.y, columns - place.x) <= place.diameter / 2
    assert not told.map[~inside].any()
    assert told.on_cells is None
    told.save(tmp_path / "map.png")
    with pytest.raises(ConfigError, match="looks at single cells"):
        cells_model.explain(field, method="hirescam")


def test_the_field_counts_half_beside_its_cells(cells_model):
    (head,) = cells_model.network.heads
    other = copy.deepcopy(head)
    features = torch.rand(30, len(head.mean), generator=torch.Generator().manual_seed(0)) ** 2
    features[:, len(head.mean) // 2 :] = features[:, : len(head.mean) // 2]
    other.fit_scale([features], "both")
    field, cells = other.scale.chunk(2)
    assert torch.allclose(field * 2, cells)


def test_stages_are_not_trained_on_cells(drawn, tiny_settings):
    settings = tiny_settings | {"strategy": "last", "bag": "cells"}
    with pytest.raises(ConfigError, match="only learnt by the strategy head"):
        allkit.Trainer(**settings).fit(allkit.Dataset.open(drawn))


@pytest.mark.slow
def test_another_finder_is_another_model(cells_model, tmp_path, monkeypatch):
    cells_model.save(tmp_path / "m")
    cells_model.export(tmp_path / "m.onnx")
    # An allkit that has other finders.
    monkeypatch.setitem(BUILT_IN, "finder", "allkit.builtin.views")
    monkeypatch.setattr("allkit.plugins.host._instead", [Registry(discover=False)])
    with pytest.raises(CheckpointError, match="cell finder"):
        allkit.Classifier.load(tmp_path / "m")
    with pytest.raises(ExportError, match="cell finder"):
        OnnxPredictor(tmp_path / "m.onnx")


def test_a_model_of_an_older_version_keeps_the_settings_it_was_trained_with(cells_model):
    from allkit.model.info import ModelInfo

    values = cells_model.info.model_dump(mode="json")
    for name in ("view", "bag", "head_decay", "refit", "head_solver", "head_penalty"):
        del values["config"][name]
    for name in ("view", "bag", "finder"):
        del values["backbone"][name]
    older = ModelInfo.model_validate(values)
    assert (older.config.view, older.config.bag, older.config.head_decay) == ("rgb", "field", 0.01)
    assert not older.config.refit
    assert older.config.head_solver == "adamw"
    assert (older.backbone.input.view, older.backbone.input.bag) == ("rgb", "field")
