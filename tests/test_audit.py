"""`audit`: what a set's classes can be told by without reading a cell."""

import json

import numpy as np
import pytest

import allkit
from allkit import Dataset, audit
from allkit.data.drawn import write_smears
from allkit.errors import DatasetError
from allkit.evaluation import shortcuts as probes


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Drawn smears whose stain follows the class."""
    return write_smears(tmp_path_factory.mktemp("coloured"), 96, groups=24, seed=4, colour_cue=True)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Drawn smears whose stain does not."""
    return write_smears(tmp_path_factory.mktemp("honest"), 96, groups=24, seed=4)


@pytest.fixture(scope="module")
def coloured_audit(coloured):
    return audit(Dataset.open(coloured), column="case")


@pytest.fixture(scope="module")
def few(honest):
    """Two images of each of the first three slides of every class."""
    return Dataset.open(honest).subset([i for i in range(48) if i % 24 < 12])


def test_colour_that_gives_the_class_away_is_a_shortcut_and_the_verdict_says_so(coloured_audit):
    figures = coloured_audit.to_dict()
    assert figures["verdict"] == "shortcut"
    assert figures["probes"]["colour_histogram"] >= 0.9
    assert "alone predicts the class" in figures["message"]
    assert figures["chance"] == 0.25
    assert set(figures["probes"]) == {*probes.BLIND, *probes.COARSE}
    assert figures["advice"]


@pytest.mark.slow
def test_it_stays_quiet_on_drawn_smears_without_a_cue(honest):
    found = audit(Dataset.open(honest))
    assert found.verdict in ("clear", "undecided")
    assert max(probe.balanced_accuracy for probe in found.probes) < 0.6


@pytest.mark.slow
def test_a_burnt_in_corner_is_told_by_its_corner_and_by_no_other(honest, tmp_path):
    import pandas as pd
    from PIL import Image

    table = pd.read_csv(honest)
    for name, label in zip(table["image"], table["label"], strict=True):
        image = np.array(Image.open(honest.parent / name))
        if label in ("Benign", "Pro"):
            image[:20, :30] = 255
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    table.to_csv(tmp_path / "index.csv", index=False)
    found = {
        p.name: p.balanced_accuracy for p in audit(Dataset.open(tmp_path / "index.csv")).probes
    }
    assert found["corner_tl"] > 0.4
    assert found["corner_tl"] > found["corner_br"] + 0.1


def test_the_background_probe_sees_no_stained_cell(honest):
    data = Dataset.open(honest)
    image = data.read(0)
    clear = probes.background_of(image)
    assert 0.05 < clear.mean() < 0.98
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    assert spread[clear].mean() < spread[~clear].mean()


@pytest.mark.slow
def test_the_same_audit_twice_gives_the_same_figures(few):
    assert audit(few).to_dict() == audit(few).to_dict()


def test_leaving_a_column_out_stands_beside_and_a_gap_in_it_is_refused(coloured, coloured_audit):
    left_out = coloured_audit.to_dict()["leave_one_group_out"]
    assert left_out["column"] == "case"
    # Every drawn slide has the colour of its class, so colour holds on slides that are left out.
    assert left_out["balanced_accuracy"] > 0.8
    with pytest.raises(DatasetError, match="has no column 'hospital'"):
        audit(Dataset.open(coloured), column="hospital")


def test_every_unreadable_image_is_named(tmp_path):
    folder = tmp_path / "set"
    data = Dataset.open(write_smears(folder, 8, groups=8, seed=4))
    broken = [folder / data.samples[i].image for i in (1, 5)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError) as told:
        audit(Dataset.open(folder / "index.csv"))
    assert all(path.name in str(told.value) for path in broken)


def test_without_two_units_of_every_class_it_is_undecided_and_says_why(drawn):
    data = Dataset.open(drawn)
    first = {}
    for index, sample in enumerate(data):
        first.setdefault(sample.label, index)
    found = audit(data.subset(sorted(first.values())))
    assert found.verdict == "undecided"
    assert "none can be held out" in found.message
    assert found.to_dict()["probes"] == {}


@pytest.mark.slow
def test_the_model_stands_beside_the_probes(tiny, few):
    found = audit(few, tiny)
    assert found.model == pytest.approx(tiny.evaluate(few, probes=False).balanced_accuracy)
    assert f"The model gets {found.model:.3f}" in found.message


@pytest.mark.slow
def test_evaluate_always_shows_the_strongest_shortcut(cli, tiny_folder, coloured):
    status, out, err = cli("evaluate", tiny_folder, coloured, "--json", "e.json")
    assert status == 0, err
    assert "strongest shortcut" in out
    with open("e.json") as stream:
        probe = json.load(stream)["shortcut_probe"]
    assert probe["balanced_accuracy"] > 0.8
    assert probe["chance"] == 0.25


@pytest.mark.slow
def test_the_command_prints_the_verdict_and_writes_json_and_a_page(cli, coloured, tmp_path):
    status, out, _ = cli("audit", coloured, "--json", "a.json", "--html", "a.html")
    assert status == 0
    assert "SHORTCUT" in out
    assert "Without any cell" in out
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["verdict"] == "shortcut"
    assert figures["groups"] == 24
    page = (tmp_path / "a.html").read_text()
    assert "colour histogram" in page
    assert "colour_histogram" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_evaluate_tells_images_of_a_field_that_was_trained_on(tmp_path, tiny_settings):
    index = write_smears(tmp_path / "set", 40, groups=10, seed=5, same_fields=12)
    data = Dataset.open(index)
    names = data.column("near_duplicate_of")
    first = {}
    again = []
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            again.append(index)
    model = allkit.Trainer(**tiny_settings).fit(data.subset(sorted(first.values())))
    strangers = [s.__class__(s.image, s.source, s.label) for s in data.subset(again)]
    figures = model.evaluate(Dataset(strangers, data.classes))
    assert any("photographed again" in note for note in figures.notes)
    model.save(tmp_path / "model")
    loaded = allkit.Classifier.load(tmp_path / "model")
    assert loaded.evaluate(Dataset(strangers, data.classes)).notes == figures.notes
