"""The ruler and the finder at any magnification and stain, and what says so when they cannot tell."""

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import allkit
from allkit.errors import ConfigError, ImageError
from allkit.images.cells import NO_CELLS, NO_SCALE, find_cells, shortcomings
from allkit.images.regions import distinct_peaks, divided, fill_holes
from allkit.images.ruler import red_cell_diameter
from allkit.images.stain import Field, median
from allkit.images.statistics import image_statistics, statistics_at_scale


@pytest.fixture(scope="module")
def field(drawn):
    return allkit.Dataset.open(drawn).read(0)


def enlarged(image, factor):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def smear(diameter, *, nuclei=(), pale=0.45, size=(480, 640), seed=0):
    """A field of red cells of one diameter with pale centres, and of nuclei (x, y, diameter)."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), (235, 230, 228), np.uint8)
    step = 1.25 * diameter
    for y in np.arange(step / 2, size[0], step):
        for x in np.arange(step / 2, size[1], step):
            if any(np.hypot(x - a, y - b) < (d + diameter) / 1.8 for a, b, d in nuclei):
                continue
            place = (rng.uniform(-0.1, 0.1, 2) * diameter + (x, y)).round().astype(int).tolist()
            cv2.circle(image, place, round(diameter / 2), (205, 165, 165), -1)
            if pale:
                cv2.circle(image, place, round(pale * diameter / 2), (233, 227, 225), -1)
    for x, y, d in nuclei:
        cv2.circle(image, (x, y), round(d / 2), (95, 50, 170), -1)
    noise = rng.normal(0, 2, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.8) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("factor", [2, 3.5, 6])
def test_the_ruler_follows_the_magnification(field, factor):
    once = red_cell_diameter(Field(field))
    assert red_cell_diameter(Field(enlarged(field, factor))) == pytest.approx(
        factor * once, rel=0.2
    )


@pytest.mark.parametrize("diameter", [20, 50, 90])
@pytest.mark.parametrize("pale", [0.0, 0.45, 0.65])
def test_a_red_cell_is_measured_from_rim_to_rim_however_large_its_pale_centre_is(diameter, pale):
    assert red_cell_diameter(Field(smear(diameter, pale=pale))) == pytest.approx(diameter, rel=0.15)


def test_the_gap_between_red_cells_is_no_pale_centre():
    touching = np.full((300, 300, 3), 235, np.uint8)
    for y in range(30, 300, 40):
        for x in range(30, 300, 40):
            cv2.circle(touching, (x, y), 21, (190, 150, 150), -1)
    assert red_cell_diameter(Field(touching)) == pytest.approx(40, rel=0.2)


def test_the_ruler_reads_the_same_in_light_that_falls_off_to_the_corners():
    even = smear(50)
    rows, columns = np.indices(even.shape[:2])
    distance = ((rows / 480 - 0.5) ** 2 + (columns / 640 - 0.5) ** 2) / 0.5
    dark = (even * (1 - 0.4 * distance)[..., None]).astype(np.uint8)
    assert red_cell_diameter(Field(dark)) == pytest.approx(50, rel=0.2)


@pytest.mark.parametrize("power", [0.6, 1.0, 1.6, 2.2])
def test_a_field_of_red_cells_has_no_white_cell_however_strong_its_stain_is(power):
    stained = (255 * (smear(50) / 255) ** power).astype(np.uint8)
    cells = find_cells(stained)
    assert cells.count == 0
    assert cells.nucleus_ratio is None
    assert shortcomings(cells) == (NO_CELLS,)


def test_red_cells_over_each_other_are_no_white_cell():
    layers = np.full((300, 300, 3), (235, 230, 228), np.float32)
    thin = np.array([205, 165, 165]) / (235, 230, 228)
    rows, columns = np.indices((300, 300))
    for y in range(40, 300, 70):
        for x in range(30, 300, 70):
            for shift in (0, 25):
                layers[np.hypot(rows - y, columns - x - shift) < 25] *= thin
    assert find_cells(layers.astype(np.uint8)).count == 0


def test_platelets_do_not_count():
    specks = [(x, 240, 14) for x in range(100, 600, 100)]
    assert find_cells(smear(50, nuclei=specks)).count == 0
    assert find_cells(smear(50, nuclei=[*specks, (320, 120, 70)])).count == 1


@pytest.mark.parametrize("diameter", [18, 50, 100])
def test_every_white_cell_is_found_once_and_measured_in_red_cells(diameter):
    whole = round(1.4 * diameter)
    nuclei = [(160, 140, whole), (480, 140, whole), (300, 340, whole)]
    cells = find_cells(smear(diameter, nuclei=nuclei))
    assert sorted((round(c.x / 20), round(c.y / 20)) for c in cells.cells) == sorted(
        (round(x / 20), round(y / 20)) for x, y, _ in nuclei
    )
    assert cells.count == 3
    assert cells.red_cell == pytest.approx(diameter, rel=0.15)
    assert cells.nucleus_ratio == pytest.approx(1.4, rel=0.2)


def test_lobes_in_one_cytoplasm_are_one_cell_and_two_round_cells_are_two():
    plain = smear(50, nuclei=[(320, 240, 110)])
    one_cell, two_cells = plain.copy(), plain.copy()
    cv2.circle(one_cell, (320, 240), 56, (215, 190, 215), -1)
    cv2.circle(two_cells, (320, 240), 56, (235, 230, 228), -1)
    for image in (one_cell, two_cells):
        for x in (295, 345):
            cv2.circle(image, (x, 240), 22, (95, 50, 170), -1)
    assert find_cells(one_cell).count == 1
    assert find_cells(two_cells).count == 2


def test_a_close_up_has_an_unknown_magnification():
    """Parts of red cells at the border, and the nucleus far larger than what was measured there."""
    rng = np.random.default_rng(0)
    close = np.full((300, 300, 3), (235, 230, 228), np.uint8)
    for x, y in rng.integers(0, 300, (60, 2)):
        if np.hypot(x - 150, y - 150) > 120:
            cv2.circle(close, (int(x), int(y)), 8, (205, 165, 165), -1)
    cv2.circle(close, (150, 150), 100, (95, 50, 170), -1)
    cells = find_cells(close)
    assert cells.red_cell is None
    assert cells.count == 1
    assert cells.nucleus_ratio is None
    assert shortcomings(cells) == (NO_SCALE,)


def test_an_image_may_be_given_in_every_form_that_an_answer_is_asked_for(field, tmp_path):
    path = tmp_path / "field.png"
    Image.fromarray(field).save(path)
    file = io.BytesIO(path.read_bytes())
    expected = allkit.find_cells(field)
    assert expected.count == len(expected.cells) > 0
    for form in (path, str(path), path.read_bytes(), file, Image.fromarray(field)):
        cells = allkit.find_cells(form)
        assert cells.cells == expected.cells
        assert cells.red_cell == expected.red_cell


def test_what_is_no_image_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        allkit.find_cells(tmp_path / "none.png")
    with pytest.raises(ImageError):
        allkit.find_cells(None)


def test_a_finder_that_is_not_there_is_an_error_that_names_those_there_are(field):
    with pytest.raises(ConfigError, match=r"allkit\.cells/9.*cells-1, .*cells-2"):
        find_cells(field, "allkit.cells/9")


def test_the_first_finder_goes_on_as_it_was(field):
    """It measures the rings of large red cells: models that were trained so depend on it."""
    first = find_cells(smear(90, nuclei=[(320, 240, 120)]), "allkit.cells/1")
    assert first.red_cell < 45
    assert find_cells(field, "allkit.cells/1").red_cell == pytest.approx(
        find_cells(field).red_cell, rel=0.15
    )


def test_a_model_of_an_older_version_goes_on_with_the_cells_of_its_finder():
    model = allkit.Classifier.load(Path(__file__).parent / "saved" / "0.1.0" / "model")
    image = smear(90, nuclei=[(320, 240, 120)])
    (cells,) = model.find([image])
    first = find_cells(image, "allkit.cells/1")
    np.testing.assert_array_equal(cells.centres, first.centres)
    assert cells.red_cell == first.red_cell != find_cells(image).red_cell


def test_a_field_as_large_as_those_of_the_training_is_one_tile(field):
    cells = find_cells(field)
    (tile,) = cells.tiles()
    np.testing.assert_array_equal(cells.image[tile], cells.image)


@pytest.mark.parametrize("shape", [(224, 224), (225, 300), (700, 1000), (90, 500)])
def test_squares_cover_a_large_field_evenly(field, shape):
    cells = find_cells(field)
    large = type(cells)(
        np.zeros((*shape, 3), np.uint8), cells.centres, cells.diameters, scale=1.0, red_cell=15.0
    )
    squares = large.squares(224)
    seen = np.zeros(shape, int)
    for square in squares:
        seen[square] += 1
        assert large.image[square].shape[:2] == (min(224, shape[0]), min(224, shape[1]))
    assert seen.min() == 1
    assert len(squares) == np.prod([-(-side // 224) for side in shape])
    starts = sorted({column.start for _, column in squares})
    gaps = np.diff(starts)
    assert not len(gaps) or np.ptp(gaps) <= 1


def test_statistics_at_the_scale_of_the_search_do_not_depend_on_the_magnification():
    field = smear(16, nuclei=[(100, 100, 22)], size=(224, 224))
    cells = find_cells(field)
    np.testing.assert_array_equal(statistics_at_scale(cells), image_statistics(cells.image))
    large = enlarged(field, 4)
    as_searched = statistics_at_scale(find_cells(large))
    wide = np.tile(field, (2, 3, 1))
    of_tiles = statistics_at_scale(find_cells(wide))
    assert np.abs(of_tiles - image_statistics(field)).max() < 0.35
    assert np.abs(as_searched - image_statistics(field)).max() < 0.35


@pytest.fixture(scope="module")
def boxed(shared):
    """Every sixth field of two other laboratories, with the boxes of its cells by kind."""
    folder = shared / "data" / "redcells"
    boxes: dict[str, dict[str, list[list[float]]]] = {}
    with (folder / "boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("x", "y", "width", "height")]
            boxes.setdefault(row["image"], {}).setdefault(row["cell"], []).append(box)
    return [
        (find_cells(Path(folder / image)), {k: np.array(v) for k, v in boxes[image].items()})
        for image in sorted(boxes)[::6]
    ]


def test_the_ruler_is_right_in_fields_of_other_laboratories(boxed):
    ratios = [
        (cells.red_cell or 0) / np.median(np.sqrt(kinds["RBC"][:, 2] * kinds["RBC"][:, 3]))
        for cells, kinds in boxed
        if len(kinds.get("RBC", ())) >= 5
    ]
    assert len(ratios) >= 15
    assert np.mean(np.abs(np.array(ratios) - 1) <= 0.25) >= 0.9


def test_the_finder_is_right_in_fields_of_other_laboratories(boxed):
    white = seen = finds = right = 0
    for cells, kinds in boxed:
        places = np.array([(c.x, c.y) for c in cells.cells]).reshape(-1, 1, 2)
        boxes = kinds["WBC"][None]
        inside = (np.abs(places - boxes[..., :2]) <= boxes[..., 2:] / 2).all(axis=2)
        white += boxes.shape[1]
        seen += int(inside.any(axis=0).sum())
        finds += cells.count
        right += int(inside.any(axis=1).sum())
    assert seen / white >= 0.95
    assert right / finds >= 0.95
    assert finds / white <= 1.15


@pytest.mark.parametrize("seed", range(4))
def test_what_is_computed_in_a_short_way_is_to_the_bit_what_the_plain_way_gives(seed):
    rng = np.random.default_rng(seed)
    mask = (cv2.GaussianBlur(rng.random((150, 170)), (0, 0), 2.0) > 0.5).astype(np.uint8)
    around = np.pad(1 - mask, 1, constant_values=1)
    _, labels, figures, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    small = figures[:, cv2.CC_STAT_AREA] < 60
    small[[0, labels[0, 0]]] = False
    assert small.any()
    np.testing.assert_array_equal(fill_holes(mask, 60), mask | small[labels][1:-1, 1:-1])

    parts = divided(mask, 2.0)
    owners = np.zeros(mask.size, np.int64)
    owners[parts.pixels] = parts.owners
    assert not owners[mask.ravel() == 0].any()
    rows, columns = np.indices(mask.shape)
    for part in range(1, len(parts.area)):
        inside = owners.reshape(mask.shape) == part
        assert parts.area[part] == inside.sum()
        assert (parts.x[part], parts.y[part]) == (columns[inside].mean(), rows[inside].mean())

    peaks = distinct_peaks(mask, np.zeros_like(mask))
    places = np.stack([peaks.rows, peaks.columns], axis=1)
    far = np.linalg.norm(places[:, None] - places, axis=2) > peaks.radius
    assert far[np.tril_indices(len(places), -1)].all()

    for count in (7, 8):
        values = rng.random(count, np.float32)
        assert median(values) == float(np.median(values))
