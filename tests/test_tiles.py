"""Large fields: cut into tiles as large as the fields of the training, and answered as their mean."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import allkit
from allkit.features import Extractor
from allkit.images.bags import shown
from allkit.images.cells import FINDER, Cells, find_cells
from allkit.images.selection import Selection
from allkit.images.statistics import STATISTIC_NAMES
from allkit.model.info import ModelInfo
from allkit.network.modules import Head, Network
from allkit.network.standardise import Standardise
from allkit.plugins import registry
from allkit.runtime.graph import GraphPredictor, format_of
from allkit.runtime.seal import describe
from allkit.trust.groups import ClassGroups
from allkit.trust.reasons import PARTS_DISAGREE
from allkit.trust.slides import SlideLimits
from allkit.trust.verdict import Outputs, Trust


@pytest.fixture(scope="module")
def model(tiny):
    """A model of fields and cells that tiles, with the backbone of `tiny` and an untrained head."""
    of_tiny = tiny.info.backbone
    spec = replace(of_tiny.input, view="haematoxylin", bag="both")
    width = 2 * of_tiny.width
    changed = {"input": spec, "width": width, "finder": FINDER, "tiles": True}
    backbone = of_tiny.model_copy(update=changed)
    torch.manual_seed(0)
    head = Head(width, len(tiny.classes))
    info = tiny.info.model_copy(update={"backbone": backbone})
    return allkit.Classifier(Network(tiny.network.backbone, [head]), info)


@pytest.fixture(scope="module")
def fields(few):
    """Four drawn fields, of different slides."""
    data = allkit.Dataset.open(few)
    return [data.read(i) for i in range(4)]


@pytest.fixture(scope="module")
def large(fields):
    """The four fields side by side, two by two."""
    return np.concatenate([np.concatenate(fields[:2], 1), np.concatenate(fields[2:], 1)])


@pytest.fixture(scope="module")
def older(model):
    """The model as a version saved it that knew no tiles: its description lacks the mark."""
    values = model.info.model_dump(mode="json")
    del values["backbone"]["tiles"]
    return allkit.Classifier(model.network, ModelInfo.model_validate(values), trust=model.trust)


def a_field(shape, centres=((10.0, 10.0),), *, scale=1.0, red_cell=15.0):
    """A field at the scale of the search with white cells at these places, x and y."""
    return Cells(
        np.zeros((*shape, 3), np.uint8),
        np.array(centres, np.float32).reshape(-1, 2),
        np.full(len(centres), 20, np.float32),
        scale=scale,
        red_cell=red_cell,
    )


# ── which tiles there are ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((224, 224), 1, 1),
        ((335, 300), 1, 1),
        ((336, 200), 2, 1),
        ((448, 448), 2, 2),
        ((225, 560), 1, 3),
        ((1080, 1920), 5, 9),
        ((701, 997), 3, 4),
    ],
)
def test_a_large_field_is_cut_into_parts_about_as_large_as_a_field_of_the_training(
    shape, rows, columns
):
    field = a_field(shape)
    tiles = field.tiles()
    assert len(tiles) == rows * columns
    assert len({field.image[tile].shape for tile in tiles}) == 1
    seen = np.zeros(shape, int)
    for tile in tiles:
        seen[tile] += 1
    assert seen.min() == 1
    # Neighbours share at most a line of pixels.
    assert (seen > 1).mean() <= rows / shape[0] + columns / shape[1]
    assert all(2 / 3 <= side / 224 <= 1.5 for side in seen[tiles[0]].shape if max(shape) >= 336)


def test_a_field_that_was_enlarged_for_the_search_is_not_large():
    assert len(a_field((400, 400), scale=1.79).tiles()) == 1
    assert len(a_field((800, 800), scale=1.79).tiles()) == 16


def test_a_field_of_unknown_magnification_stays_whole():
    assert len(a_field((1024, 768), red_cell=None).tiles()) == 1


def test_the_fields_of_one_hospital_stay_whole(shared):
    """Of two of these the red cells measure half of what they do elsewhere, and they are enlarged."""
    for name in ("224", "227", "001"):
        cells = find_cells(shared / "data" / "taleqani" / "Benign" / f"WBC-Benign-{name}.jpg")
        assert len(cells.tiles()) == 1


def test_tiles_without_a_white_cell_do_not_count_where_others_have_some():
    part = shown(a_field((448, 448), [(300, 20), (20, 300), (30, 310)]), Selection(tiles=True))
    assert part.tiles == ((slice(0, 224), slice(224, 448)), (slice(224, 448), slice(0, 224)))
    assert part.cells.tolist() == [0, 1, 2]
    assert part.owners.tolist() == [0, 1, 1]
    assert len(shown(a_field((448, 448), []), Selection(tiles=True)).tiles) == 4


def test_the_cost_of_a_very_large_field_is_bounded():
    """At most 12 tiles, those with the most white cells, and 24 cells of each, the largest."""
    crowded = [(20 + i % 10, 2000 + i // 10) for i in range(30)]
    scattered = [(x, y) for x in range(100, 2000, 224) for y in range(100, 2000, 224)]
    field = a_field((2016, 2016), crowded + scattered)
    part = shown(field, Selection(tiles=True))
    assert len(field.tiles()) == 81
    assert len(part.tiles) == 12
    lowest_left = (slice(1792, 2016), slice(0, 224))
    of_crowded = part.cells[part.owners == part.tiles.index(lowest_left)]
    assert of_crowded.tolist() == list(range(24))
    assert len(shown(field, Selection(tiles=False)).cells) == 24


def test_of_many_cells_those_shown_go_from_the_largest_to_the_smallest():
    """So the mean over them is near that over all; the largest alone look more like blasts."""
    cells = np.arange(100, 124)
    assert Selection(most=4, spread=True).among(cells).tolist() == [103, 109, 115, 121]
    assert Selection(most=4, spread=True).among(cells[:5]).tolist() == [100, 101, 103, 104]
    assert Selection(most=8, spread=True).among(cells[:8]).tolist() == cells[:8].tolist()
    assert Selection(most=4).among(cells).tolist() == [100, 101, 102, 103]


def test_the_number_and_the_size_of_the_pictures_of_cells_are_settings(fields):
    spec = replace(registry().get("backbone", "efficientnet-lite0").input, bag="cells")
    seen = []

    class Sees(torch.nn.Module):
        def forward(self, inputs):
            seen.append(tuple(inputs.shape))
            return inputs.mean((2, 3))

    for size, most in ((64, 8), (32, 3)):
        chosen = replace(spec, cell_size=size, max_cells=most, spread=True)
        Extractor(Sees(), chosen, ("s",), torch.device("cpu")).compute([fields[0]])
    count = find_cells(fields[0]).count
    assert count > 8
    assert seen == [(8, 3, 64, 64), (3, 3, 32, 32)]


def test_a_model_of_before_there_was_a_choice_is_what_it_was(model):
    """Of each tile it sees the 24 largest cells, 96 pixels a side; its file and hash are the same."""
    values = model.info.model_dump(mode="json")
    for name in ("cell_size", "max_cells", "spread"):
        del values["backbone"][name]
    before = allkit.Classifier(model.network, ModelInfo.model_validate(values))
    assert (before.spec.cell_size, before.spec.max_cells, before.spec.spread) == (96, 24, False)
    assert describe(before.info, format=format_of(before.info), precision="float32")["format"] == 2
    assert before.content_hash() != model.content_hash()
    assert "cell_size" not in repr(before.spec)  # the hashes of older models are made of it


# ── what is answered ───────────────────────────────────────────────────────────────────────────


def test_a_large_field_is_answered_as_the_mean_of_its_tiles(model, fields, large):
    outputs = model.outputs([large])
    (cells,) = outputs.cells
    field, of_cells = np.split(outputs.features[0], 2)
    np.testing.assert_allclose(
        field, np.split(model.outputs(fields).features, 2, axis=1)[0].mean(0), rtol=1e-5
    )
    total, count = np.zeros_like(of_cells), 0
    for rows, columns in cells.tiles():
        x, y = cells.centres.T
        inside = (rows.start <= y) & (y < rows.stop) & (columns.start <= x) & (x < columns.stop)
        alone = replace(
            cells,
            image=cells.image[rows, columns],
            centres=cells.centres[inside] - np.float32([columns.start, rows.start]),
            diameters=cells.diameters[inside],
        )
        number = min(model.spec.max_cells, alone.count)
        total += number * np.split(model._extractor.compute([alone])[0], 2)[1]
        count += number
    assert count > model.spec.max_cells
    np.testing.assert_allclose(of_cells, total / count, rtol=1e-4, atol=1e-7)


def test_a_field_of_one_tile_has_the_same_bits_with_and_without_tiles(model, older, fields):
    assert model.tiled
    assert not older.tiled
    images = [*fields, fields[0][:180, :200]]
    np.testing.assert_array_equal(model.outputs(images).features, older.outputs(images).features)


def test_a_small_field_has_the_same_features_beside_a_large_one(model, fields, large):
    frozen = model._extractor.frozen
    beside = frozen([*fields, *[large] * 4, fields[0]], block=16)
    torch.testing.assert_close(beside[:4], frozen(fields, block=16), rtol=0, atol=0)
    torch.testing.assert_close(beside[-1], beside[0], rtol=0, atol=0)
    torch.testing.assert_close(beside[4], beside[7], rtol=0, atol=0)


def test_a_model_without_the_mark_sees_a_large_field_whole(older, large):
    (cells,) = older.find([large])
    standardise = Standardise(older.spec)
    pixels = torch.from_numpy(cells.image[None])
    selection = Selection.of(older.spec, tiles=False)
    few = cells.centres[selection.among(np.arange(cells.count))]
    places = torch.from_numpy(np.c_[np.zeros(len(few)), few].astype(np.float32))
    with torch.inference_mode():
        field = older.network.features(standardise(pixels))[0]
        of_cells = older.network.features(standardise.cells(pixels, places)).mean(0)
    expected = torch.cat([field, of_cells]).numpy()
    np.testing.assert_allclose(older.outputs([large]).features[0], expected, rtol=1e-4, atol=1e-7)


def test_the_mark_is_part_of_the_model(model, older, tmp_path):
    assert model.content_hash() != older.content_hash()
    for each in (model, older):
        name = tmp_path / str(each.tiled)
        assert allkit.Classifier.load(each.save(name)).tiled == each.tiled


def test_cached_features_of_a_field_seen_whole_are_not_taken_for_those_of_its_tiles(model):
    backbone, spec = model._extractor.backbone, model.spec
    tiled, whole = (
        Extractor(backbone, spec, ("backbone",), model.device, tiled=tiled).key("image")
        for tiled in (True, False)
    )
    assert tiled != whole


def test_the_map_of_a_large_field_shows_its_cells_in_several_tiles(model, large):
    explanation = model.explain(large)
    assert explanation.map.shape == large.shape[:2]
    assert explanation.map.max() == pytest.approx(1.0)
    inside = np.zeros(large.shape[:2], bool)
    rows, columns = np.indices(inside.shape)
    for cell in explanation.answer.cells:
        inside |= np.hypot(rows - cell.y, columns - cell.x) <= cell.diameter / 2
    assert not explanation.map[~inside].any()
    quarters = [explanation.map[a : a + 224, b : b + 224] for a in (0, 224) for b in (0, 224)]
    assert sum(quarter.any() for quarter in quarters) > 1


# ── exported files ─────────────────────────────────────────────────────────────────────────────


class InMemory(GraphPredictor):
    """What an exporter writes, before it is written; its description is that of the file."""

    def __init__(self, model, *, described):
        self.graph = model.pipeline()
        super().__init__(Path("none"), described, model.trust.to_bytes())

    def compute(self, feed, names):
        assert tuple(feed) == self.graph.names
        with torch.inference_mode():
            outputs = self.graph(*(torch.from_numpy(values) for values in feed.values()))
        order = ("probabilities", "logits", "features")
        return [outputs[order.index(name)].numpy() for name in names]


def described(model):
    return describe(model.info, format=format_of(model.info), precision="float32")


@pytest.fixture(scope="module")
def mixed(fields, large):
    """Fields of one tile, of several, and without anything in them."""
    empty = np.full((80, 100, 3), 255, np.uint8)
    return [fields[0], large, empty, large[:200], np.full((700, 500, 3), 255, np.uint8), fields[1]]


def test_the_graph_of_a_model_answers_large_fields_as_the_model_does(model, mixed):
    graph = InMemory(model, described=described(model))
    assert (graph.info["format"], graph.info["tiles"]) == (3, True)
    assert graph.graph.names == ("pixels", "places", "shares")
    expected, outputs = model.outputs(mixed), graph.outputs(mixed)
    np.testing.assert_allclose(outputs.features, expected.features, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(outputs.logits, expected.logits, rtol=1e-3, atol=1e-5)


def test_a_graph_without_the_mark_sees_a_large_field_whole(older, mixed):
    of_older_versions = described(older)
    del of_older_versions["tiles"]
    graph = InMemory(older, described=of_older_versions)
    assert graph.graph.names == ("pixels", "places")
    expected = older.outputs(mixed).features
    np.testing.assert_allclose(graph.outputs(mixed).features, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "format",
    [
        pytest.param("pt2", marks=pytest.mark.slow),
        pytest.param("openvino", marks=pytest.mark.nightly),  # its graph is that of ONNX
    ],
)
def test_an_exported_file_answers_large_fields_as_the_model_does(format, model, mixed, tmp_path):
    if format == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra `openvino` is not installed")
    exporter = registry().get("exporter", format)
    path = tmp_path / f"m{exporter.suffix}"
    exporter.write(model, path, precision="float32", calibration=None)
    file = exporter.open(path)
    assert (file.info["format"], file.info["tiles"]) == (3, True)
    expected, outputs = model.outputs(mixed), file.outputs(mixed)
    np.testing.assert_allclose(outputs.features, expected.features, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, expected.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.nightly
def test_an_8_bit_file_answers_large_fields(model, few, large, tmp_path):
    data = allkit.Dataset.open(few)
    images = [*(data.read(i) for i in range(len(data))), *[large] * 8]
    exporter = registry().get("exporter", "onnx")
    exporter.write(model, tmp_path / "m.onnx", precision="int8", calibration=images)
    expected = model.outputs([large]).features
    outputs = exporter.open(tmp_path / "m.onnx").outputs([large])
    assert np.linalg.norm(outputs.features - expected) < 0.1 * np.linalg.norm(expected)


# ── tiles that speak for different groups ──────────────────────────────────────────────────────


def test_each_tile_is_answered_as_a_field_of_its_own(model, fields, large):
    tiles, none = model.outputs([large, fields[0]]).tiles
    assert none is None
    assert tiles.shape == (4, len(model.classes))
    # The cells at the borders differ, so the tiles are near the fields and not equal to them.
    assert np.abs(tiles - model.outputs(fields).logits).max() < 0.5


def test_a_field_whose_tiles_speak_for_different_groups_is_for_review():
    groups = ClassGroups(("benign", "malignant"), (0, 1))
    of_fields = np.full((5, 2), 0.5)
    limits = SlideLimits(
        of_group=of_fields[0],
        of_fields=of_fields,
        temperatures=np.ones(5),
        appearance=np.inf,
        content=np.full(2, np.inf),
        total=np.inf,
        counts=np.ones(2),
        tested=np.ones(2),
        wrong=np.zeros(2),
        one_slide=np.zeros(2),
        risk=0.05,
        margin=0.1,
    )
    trust = Trust(
        ("no", "yes"), temperature=1.0, thresholds=np.full(2, 0.5), groups=groups, slides=limits
    )
    statistics = np.full((1, len(STATISTIC_NAMES)), 5.0, np.float32)
    statistics[:, [STATISTIC_NAMES.index(f"darkest_{c}") for c in "rgb"]] = 9.0
    benign, features = np.array([[9.0, 0.0]], np.float32), np.ones((1, 4), np.float32)
    tiles = {
        "alike": [[9.0, 0.0], [5.0, 0.0]],
        "a guess": [[9.0, 0.0], [0.0, 1.0]],
        "one differs": [[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 5.0]],
    }
    found = {
        name: trust.decide(Outputs(benign, features, None, [np.array(logits)]), statistics)[0]
        for name, logits in tiles.items()
    }
    assert {name: decision.coarse.verdict for name, decision in found.items()} == {
        "alike": "accepted",
        "a guess": "accepted",
        "one differs": "review",
    }
    assert PARTS_DISAGREE in found["one differs"].codes
    assert found["one differs"].verdict == "review"
