"""`check`: whatever is wrong with a set is named before anything is trained on it."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from allkit import Dataset, check
from allkit.data.drawn import draw_smears, write_smears
from allkit.errors import DatasetError
from allkit.quality.groups import acquisition, suggest_groups


@pytest.fixture
def folder(tmp_path):
    """A folder of class folders of drawn smears that are what they seem to be."""
    for number, field in enumerate(draw_smears(24, groups=8, seed=11)):
        path = tmp_path / "smears" / field.label / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.image).save(path)
    return tmp_path / "smears"


def some(folder, name="Pro"):
    return sorted((folder / name).iterdir())


def test_a_clean_set_with_groups_has_nothing_to_mend(drawn):
    found = check(drawn)
    assert found.ok
    assert found.findings == ()
    assert found.to_dict()["groups"] == 12
    assert found.to_dict()["label_suspects"] is None
    assert sum(found.to_dict()["balance"].values()) == 48


def test_unreadable_and_blank_images_are_named_with_the_reason_and_still_counted(folder):
    broken, blank, _ = some(folder)[:3]
    broken.write_bytes(broken.read_bytes()[:300])
    Image.new("RGB", (224, 224), (240, 240, 240)).save(blank)
    found = check(folder).to_dict()
    assert found["images"] == 24
    assert found["unreadable"] == [f"Pro/{broken.name}"]
    assert "truncated" in found["errors"][f"Pro/{broken.name}"]
    assert found["blank"] == [f"Pro/{blank.name}"]
    assert any("cannot be read" in line and broken.name in line for line in found["findings"])
    assert any("shows nothing" in line and blank.name in line for line in found["findings"])


def test_copies_are_pairs_and_a_copy_under_another_label_is_a_conflict(folder):
    first, second = some(folder)[:2]
    shutil.copy(first, folder / "Pro" / "copy.png")
    shutil.copy(second, folder / "Pre" / "stolen.png")
    found = check(folder).to_dict()
    assert sorted(map(sorted, found["duplicates"])) == sorted(
        [["Pro/copy.png", f"Pro/{first.name}"][::-1], ["Pre/stolen.png", f"Pro/{second.name}"]]
    )
    assert [sorted(pair) for pair in found["label_conflicts"]] == [
        ["Pre/stolen.png", f"Pro/{second.name}"]
    ]
    assert any("two labels" in line for line in found["findings"])


def test_the_same_field_with_the_stage_moved_is_found_and_its_pairs_are_closed(tmp_path):
    index = write_smears(tmp_path / "set", 12, groups=4, seed=5, same_fields=6)
    import pandas as pd

    table = pd.read_csv(index)
    clusters = table.groupby("near_duplicate_of")["image"].apply(list)
    wanted = {
        frozenset((a, b)) for names in clusters for i, a in enumerate(names) for b in names[i + 1 :]
    }
    assert wanted
    found = check(index).to_dict()
    shared = {
        frozenset(p) for key in ("near_duplicate_pairs", "overlapping_pairs") for p in found[key]
    }
    assert shared <= wanted
    assert len(shared) >= 0.8 * len(wanted)


@pytest.mark.slow
def test_a_scale_bar_is_found_at_its_place_with_the_classes_that_bear_it(tmp_path):
    fields = list(draw_smears(60, groups=6, seed=2))
    for number, field in enumerate(fields):
        image = field.image.copy()
        if field.label == "Benign":
            image[204:210, 180:216] = 255
            image[204:210, 180:182] = 0
        path = tmp_path / field.label / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    found = check(tmp_path)
    (mark,) = found.burnt_in
    left, top, right, bottom = (round(v * 224) for v in mark.box)
    assert left <= 184
    assert right >= 212
    assert top <= 206
    assert bottom >= 208
    bearers = found.bearers(mark)
    assert bearers["Benign"] == found.data.counts["Benign"]
    assert sum(bearers.values()) - bearers["Benign"] <= 3
    assert any("reveals the class" in line for line in found.findings)


def test_no_mark_is_seen_where_none_is(drawn):
    assert check(drawn).burnt_in == ()


def test_a_set_that_open_refuses_is_told_in_full(tmp_path):
    Image.new("RGB", (64, 64), (9, 90, 200)).save(tmp_path / "a.png")
    rows = "image,label\na.png,Pro\na.png,Pre\ngone.png,Pro\n,Pro\n"
    (tmp_path / "index.csv").write_text(rows)
    found = check(tmp_path / "index.csv")
    told = "\n".join(found.findings)
    for text in ("under two labels (Pro, Pre)", "gone.png does not exist", "line 5: no image"):
        assert text in told


def test_a_division_that_leaks_is_named(folder, tmp_path):
    first = some(folder)[0]
    shutil.copy(first, folder / "Pro" / "again.png")
    names = [p.relative_to(tmp_path).as_posix() for p in sorted(folder.rglob("*.png"))]
    lines = [f"{n},{n.split('/')[1]},{'test' if 'again' in n else 'train'}" for n in names]
    (tmp_path / "split.csv").write_text("image,label,split\n" + "\n".join(lines))
    found = check(tmp_path / "split.csv")
    assert any("lie on two sides" in line for line in found.leaks)
    assert set(found.leaks) <= set(found.findings)


def test_a_class_from_one_group_is_named(tmp_path, folder):
    names = [p.relative_to(tmp_path).as_posix() for p in sorted(folder.rglob("*.png"))]
    lines = [
        f"{n},{n.split('/')[1]},{'only' if 'Pro' in n else i % 4}" for i, n in enumerate(names)
    ]
    (tmp_path / "index.csv").write_text("image,label,group\n" + "\n".join(lines))
    found = check(tmp_path / "index.csv")
    assert found.thin == ("Pro",)
    assert any("one group only" in line for line in found.findings)


@pytest.mark.slow
def test_a_wrong_label_is_suspected(drawn, tmp_path):
    import pandas as pd

    table = pd.read_csv(drawn)
    table["image"] = [str(drawn.parent / name) for name in table["image"]]
    # Colour is the class here, so that even random features tell it.
    for name, label in zip(table["image"], table["label"], strict=True):
        tint = {"Benign": 0, "Early": 1, "Pre": 2}.get(label)
        image = np.array(Image.open(name))
        if tint is not None:
            image[..., tint] //= 3
        Image.fromarray(image).save(tmp_path / os.path.basename(name))
    table["image"] = [os.path.basename(name) for name in table["image"]]
    wrong = table.index[table["label"] == "Pro"][0]
    table.loc[wrong, "label"] = "Benign"
    table.to_csv(tmp_path / "index.csv", index=False)
    found = check(tmp_path / "index.csv", backbone="timm:test_resnet", weights="none")
    assert found.label_suspects[0]["image"] == table.loc[wrong, "image"]
    assert found.label_suspects[0]["label"] == "Benign"
    assert found.label_suspects[0]["suggested"] == "Pro"


@pytest.mark.slow
def test_groups_are_suggested_where_none_are_known_with_evidence_and_never_used(tmp_path):
    fields = list(draw_smears(40, groups=40, seed=1))
    for number, field in enumerate(fields):
        tint = np.array([1.0, 0.93, 0.86] if number < 20 else [0.8, 0.9, 1.0])
        image = (field.image * tint).astype(np.uint8)
        path = tmp_path / "smears" / ("Pro" if number < 20 else "Pre") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    found = check(tmp_path / "smears")
    guess = found.suggestion
    by_class = {name: set() for name in ("Pro", "Pre")}
    for sample, series in zip(guess.data, guess.series, strict=True):
        by_class[sample.label].add(series)
    assert not by_class["Pro"] & by_class["Pre"]
    assert not found.data.has_groups
    assert {row["series"] for row in guess.evidence} == set(guess.series)
    assert sum(row["images"] for row in guess.evidence) == 40
    guess.to_csv(tmp_path / "guess.csv")
    again = Dataset.open(tmp_path / "guess.csv")
    assert again.has_groups
    assert [s.group for s in again] == list(guess.groups)
    assert again.column("series") == list(guess.series)


def test_light_and_stain_of_an_image_are_those_of_its_slide():
    fields = list(draw_smears(24, groups=4, seed=3))
    colours = np.stack([acquisition(field.image) for field in fields])
    distance = np.linalg.norm(colours[:, None] - colours, axis=2)
    slide = np.array([field.group for field in fields])
    same = slide[:, None] == slide
    assert np.median(distance[same & (distance > 0)]) < 0.5 * np.median(distance[~same])


def test_suggested_groups_keep_images_of_one_field_together(tmp_path):
    index = write_smears(tmp_path / "set", 8, groups=4, seed=5, same_fields=4)
    data = Dataset.open(index)
    plain = Dataset([s.__class__(s.image, s.source, s.label) for s in data], data.classes)
    colours = np.stack([acquisition(plain.read(i)) for i in range(len(plain))])
    guess = suggest_groups(plain, colours)
    for pair in plain.duplicates:
        assert guess.groups[pair.a] == guess.groups[pair.b]


def test_an_empty_place_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="holds no images"):
        check(tmp_path)


@pytest.mark.slow
def test_what_check_keeps_of_an_image_is_small(drawn):
    import tracemalloc

    data = Dataset.open(drawn)
    data.hashes  # noqa: B018 - what the set itself keeps does not count
    check(data)
    tracemalloc.start()
    found = check(data)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.ok
    assert kept / len(data) < 8192


def test_the_command_prints_names_and_writes_json_and_a_page_that_needs_nothing_else(
    cli, folder, tmp_path
):
    first = some(folder)[0]
    shutil.copy(first, folder / "Pro" / "copy.png")
    status, out, _ = cli("check", folder, "--json", "c.json", "--html", "c.html")
    assert status == 1
    assert "byte-identical pairs" in out
    assert "To fix:" in out
    figures = json.loads((tmp_path / "c.json").read_text())
    assert len(figures["duplicates"]) == 1
    assert figures["groups"] == 0
    page = (tmp_path / "c.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 2
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "Pro/copy.png" in page


@pytest.mark.slow
def test_the_command_says_0_for_a_clean_set_and_2_for_a_mistake(cli, drawn, tmp_path):
    assert cli("check", drawn)[0] == 0
    status, _, err = cli("check", "nowhere")
    assert status == 2
    assert "does not exist" in err
    status, _, err = cli("check", drawn, "--suggest-groups", "g.csv", "--json", "c.json")
    assert status == 2
    assert "has groups already" in err
    assert not (tmp_path / "c.json").exists()


def test_names_in_the_page_cannot_become_markup(tmp_path):
    from allkit.quality.pages import check_page

    folder = tmp_path / "smears"
    for number, field in enumerate(draw_smears(8, groups=8, seed=11)):
        path = folder / field.label / f"<b>{number % 2 and number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.image).save(path)
    page = check_page(check(folder))
    assert "<b>" not in page
