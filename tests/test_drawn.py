from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from allkit.data.drawn import DrawnField, as_png, draw_smears, write_smears
from allkit.data.labels import ALL_CLASSES
from allkit.errors import ConfigError


@pytest.fixture(scope="module")
def fields() -> list[DrawnField]:
    return list(draw_smears(144))


def colour_probe(fields: list[DrawnField]) -> float:
    """Balanced accuracy of a 48-number colour histogram on slides it has not seen."""
    histograms = [
        np.concatenate([np.bincount(f.image[..., c].ravel() >> 4, minlength=16) for c in range(3)])
        for f in fields
    ]
    labels, groups = [f.label for f in fields], [f.group for f in fields]
    forest = RandomForestClassifier(60, min_samples_leaf=2, random_state=0)
    folds = StratifiedGroupKFold(6, shuffle=True, random_state=0)
    guesses = cross_val_predict(forest, np.array(histograms), labels, groups=groups, cv=folds)
    return float(balanced_accuracy_score(labels, guesses))


def test_a_field_is_an_rgb_image_with_its_names(fields: list[DrawnField]) -> None:
    assert all(f.image.shape == (224, 224, 3) and f.image.dtype == np.uint8 for f in fields)
    assert len({f.group for f in fields}) == len({f.case for f in fields}) == 24
    assert len({(f.group, f.label, f.case) for f in fields}) == 24
    assert [f.label for f in fields[:4]] == list(ALL_CLASSES)
    assert len({f.near_duplicate_of for f in fields}) == len(fields)
    assert all(f.group.startswith("drawn-") for f in fields)
    for f in fields:
        assert f.cells
        assert all(-r < x < 224 + r and -r < y < 224 + r for x, y, r in f.cells)


def test_a_field_depends_on_seed_and_index_alone(fields: list[DrawnField]) -> None:
    for again, first in zip(draw_smears(6, same_fields=2), fields[:6], strict=False):
        assert as_png(again) == as_png(first)
        assert again.cells == first.cells
    assert (next(draw_smears(1, seed=1)).image != fields[0].image).any()


def test_shape_follows_the_class(fields: list[DrawnField]) -> None:
    def mean(label: str, what: str) -> float:
        mine = [f for f in fields if f.label == label]
        if what == "count":
            return float(np.mean([len(f.cells) for f in mine]))
        return float(np.mean([r for f in mine for *_, r in f.cells]))

    assert mean("Benign", "radius") < mean("Early", "radius") < mean("Pro", "radius")
    assert mean("Benign", "radius") < 12 < 17 < mean("Pre", "radius")
    assert mean("Benign", "count") > 1.5 * mean("Pro", "count")  # the area is shared out


@pytest.mark.slow
def test_colour_does_not_give_the_class_away_unless_asked(fields: list[DrawnField]) -> None:
    assert colour_probe(fields) < 0.45
    assert colour_probe(list(draw_smears(72, colour_cue=True))) > 0.7


@pytest.mark.slow
def test_the_stained_area_is_the_same_in_every_class() -> None:
    share: dict[str, list[float]] = {label: [] for label in ALL_CLASSES}
    for f in draw_smears(240, groups=240, size=64):  # many slides, so that chance evens out
        share[f.label].append(float((f.image[..., 1] < 130).mean()))
    means = [float(np.mean(values)) for values in share.values()]
    assert max(means) < 1.3 * min(means)


def test_moved_fields_overlap_their_first_showing() -> None:
    fields = list(draw_smears(8, groups=4, same_fields=4))
    first = {f.near_duplicate_of: f for f in fields[:8]}
    for moved in fields[8:]:
        f = first[moved.near_duplicate_of]
        assert (moved.label, moved.group, moved.case) == (f.label, f.group, f.case)
        steps = {
            (round(x - u, 3), round(y - v, 3))
            for x, y, r in f.cells for u, v, s in moved.cells if r == s
        }  # fmt: skip
        assert len(steps) == 1  # every cell they share moved alike
        dx, dy = (round(step) for step in steps.pop())
        assert 9 <= np.hypot(dx, dy) <= 61
        here = f.image[max(dy, 0) : 224 + min(dy, 0), max(dx, 0) : 224 + min(dx, 0)]
        there = moved.image[max(-dy, 0) : 224 + min(-dy, 0), max(-dx, 0) : 224 + min(-dx, 0)]
        assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.8
        assert (here != there).mean() > 0.3


def test_the_scale_bar_is_the_same_in_every_image(fields: list[DrawnField]) -> None:
    marked = [f.image for f in draw_smears(4, scale_bar=True)]
    corners = {image[203:220, 184:].tobytes() for image in marked}
    assert len(corners) == 1
    for image, plain in zip(marked, fields, strict=False):
        changed = (image != plain.image).any(axis=-1)
        changed[196:, 184:] = False
        assert not changed.any()


def test_another_size_shows_the_same_spot(fields: list[DrawnField]) -> None:
    small = next(draw_smears(1, size=64))
    assert small.image.shape == (64, 64, 3)
    reduced = np.asarray(Image.fromarray(fields[0].image).resize((64, 64), Image.Resampling.BOX))
    assert np.corrcoef(small.image.ravel(), reduced.ravel())[0, 1] > 0.9


def test_a_written_set_reads_back(tmp_path: Path) -> None:
    table = write_smears(tmp_path / "set", 6, groups=4, size=64, same_fields=2)
    assert table == tmp_path / "set" / "index.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    fields = list(draw_smears(6, groups=4, size=64, same_fields=2))
    assert list(rows[0]) == ["image", "label", "group", "case", "near_duplicate_of"]
    assert rows[0]["image"] == "images/drawn-00000.png"
    for row, f in zip(rows, fields, strict=True):
        assert (row["label"], row["group"], row["case"]) == (f.label, f.group, f.case)
        assert row["near_duplicate_of"] == f.near_duplicate_of
        data = (table.parent / row["image"]).read_bytes()
        assert data == as_png(f).read()
        assert (np.asarray(Image.open(io.BytesIO(data))) == f.image).all()
    assert sorted(p.name for p in table.parent.iterdir()) == ["images", "index.csv"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"groups": 3}, "groups is 3"), ({"count": -1}, "count is -1"), ({"size": 8}, "size is 8"),
     ({"count": 0, "same_fields": 1}, "no field")],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_at_once(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        draw_smears(**settings)  # type: ignore[arg-type]
