"""`clean`: a new set without copies and marks, in which no corner tells the class any more."""

import csv
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allkit import Dataset, audit, check, read_image
from allkit.data.drawn import draw_smears, write_smears
from allkit.data.sources import says_drawn
from allkit.errors import AllkitError, ConfigError, DatasetError
from allkit.evaluation.shortcuts import Probe
from allkit.quality.clean import clean
from allkit.quality.corners import in_words
from allkit.quality.covered import hidden_cells
from allkit.quality.marks import Mark
from allkit.quality.places import new_names
from allkit.quality.treatment import (
    WHOLE,
    Treatment,
    as_text,
    cut_for,
    from_text,
    grown,
    joined,
    unpainted,
)

BARS = {"Benign": (255, 255, 255), "Early": (0, 0, 0), "Pre": (200, 0, 0)}
"""The colour of the scale bar of each class; the fourth class has none."""


def hashes(folder):
    """SHA-256 of every file of a folder, by its name."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def rows(folder, name="cleaned.csv"):
    with (folder / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def barred(tmp_path_factory):
    """A folder of JPEG files with a table: a scale bar in the colour of the class, and two copies."""
    folder = tmp_path_factory.mktemp("barred")
    lines = ["image,label,group,split,note"]
    for number, field in enumerate(draw_smears(48, groups=24, seed=2)):
        image = field.image.copy()
        if field.label in BARS:
            image[204:211, 184:216] = BARS[field.label]
        name = f"{field.label}/{'=' if number == 7 else ''}{number:02d}.jpg"
        (folder / field.label).mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x010E] = "SECRET PATIENT"
        Image.fromarray(image).save(folder / name, quality=90, exif=exif)
        part = "test" if int(field.group[-2:]) < 8 else "train"
        lines.append(f'{name},{field.label},{field.group},{part},"\'=1+{number}"')
    for number in (0, 5):
        first = lines[1 + number].split(",")
        copy = f"{first[1]}/copy-of-{number}.jpg"
        shutil.copy(folder / first[0], folder / copy)
        lines.append(",".join([copy, *first[1:]]))
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def before(barred):
    return hashes(barred)


@pytest.fixture(scope="module")
def painted(barred, before, tmp_path_factory):
    return clean(barred / "index.csv", tmp_path_factory.mktemp("painted") / "new")


@pytest.fixture(scope="module")
def cropped(barred, before, tmp_path_factory):
    return clean(barred / "index.csv", tmp_path_factory.mktemp("cropped") / "new", marks="crop")


def strongest(found):
    return max(found, key=lambda probe: probe.balanced_accuracy)


# ── what marks told, and no longer tell ───────────────────────────────────────────────────────


def test_a_bar_tells_the_class_before_and_the_painted_corner_does_not(painted):
    worst = strongest(painted.corners.before)
    assert worst.name == "corner_br"
    assert worst.low > 0.6
    after = next(p for p in painted.corners.after if p.name == "corner_br")
    assert after.low <= painted.corners.chance == 0.25 <= after.high
    assert painted.corners.verdict == "chance"
    assert "does not tell the class" in painted.corners.message


def test_no_corner_tells_the_class_once_the_margin_is_cut_off(cropped):
    assert all(probe.low <= 0.25 for probe in cropped.corners.after)
    assert cropped.corners.verdict == "chance"
    left, top, right, bottom = cropped.treatment.kept
    assert (left, top, right) == (0, 0, 1)
    assert 0.8 < bottom < 204 / 224
    shapes = {read_image(cropped.folder / row.written).shape for row in cropped.kept}
    assert shapes == {(round(bottom * 224), 224, 3)}


@pytest.mark.nightly
def test_the_audit_of_the_new_set_finds_the_same_figures(painted):
    found = {p.name: p for p in audit(painted.data).probes}
    for probe in painted.corners.after:
        assert found[probe.name].balanced_accuracy == pytest.approx(probe.balanced_accuracy)


def test_the_same_pixels_are_painted_in_every_image_of_every_class_and_no_others(painted, barred):
    (place,) = {row.painted for row in painted.kept}
    left, top, right, bottom = map(int, place.split(","))
    assert (left % 16, top % 16, right, bottom) == (0, 0, 224, 224)
    assert (left, top) < (184, 204)
    colours = set()
    for row in painted.kept:
        old, new = read_image(barred / row.image), read_image(painted.folder / row.written)
        colours |= set(map(tuple, new[top:, left:].reshape(-1, 3).tolist()))
        old[top:, left:] = new[top:, left:]
        assert np.array_equal(old, new)
    assert colours == {painted.treatment.colour}
    assert min(painted.treatment.colour) > 150, "as pale as the background: no cell"


def probes(**figures):
    """Probes of the corners: `br=0.9` is one of 0.8 to 1.0, the others are at chance."""
    found = [
        Probe(f"corner_{c}", v, v - 0.1, v + 0.1)
        for c, v in ({"tl": 0.25, "tr": 0.25, "bl": 0.25, "br": 0.25} | figures).items()
    ]
    return sorted(found, key=lambda probe: -probe.balanced_accuracy)


BAR = Treatment(((0.8, 0.9, 1.0, 1.0),))


def test_a_corner_that_still_tells_the_class_means_that_cropping_is_needed():
    verdict, text = in_words(probes(br=0.9), probes(br=0.6), probes(), treatment=BAR, chance=0.25)
    assert verdict == "crop"
    assert text.startswith("Cropping is needed (`--marks crop`). The bottom right corner tells")
    assert text.endswith("the strongest corner gets 0.250 (0.150–0.350), within chance.")
    stained = probes(tl=0.7, br=0.7)
    _, text = in_words(probes(br=0.9), probes(br=0.6), stained, treatment=BAR, chance=0.25)
    assert "cropping alone is not enough" in text


def test_a_field_that_tells_the_class_is_not_laid_at_the_door_of_the_mark():
    stained = probes(tl=0.7)
    verdict, text = in_words(probes(br=0.9), stained, (), treatment=BAR, chance=0.25)
    assert verdict == "chance"
    assert "The top left corner, where no mark was found, gets 0.700" in text
    assert "`view: haematoxylin`" in text
    for treatment in (
        Treatment(),
        Treatment(((0.4, 0.4, 0.5, 0.5),)),
        Treatment((), (0, 0, 1, 0.9)),
    ):
        verdict, text = in_words(stained, stained, (), treatment=treatment, chance=0.25)
        assert verdict == "field"
        assert "`--region`" in text


@pytest.mark.nightly
def test_a_bar_that_is_painted_in_part_only_makes_it_say_that_cropping_is_needed(barred, tmp_path):
    found = clean(
        barred / "index.csv", tmp_path / "new", regions=[(0.9, 0.9, 1, 1)], only_regions=True
    )
    assert found.corners.verdict == "crop"
    assert "With the marks cut off" in found.corners.message


@pytest.mark.nightly
def test_kept_marks_still_tell_the_class_and_it_says_so(cli, barred):
    status, out, err = cli("clean", barred / "index.csv", "--out", "new", "--marks", "keep")
    assert status == 0, err
    assert "A CORNER STILL TELLS THE CLASS" in out
    assert "No mark was painted over or cut off." in out


def test_what_is_hidden_is_counted_in_cells(painted):
    assert painted.images_looked_at == 48
    assert 0 <= painted.cells_hidden < painted.cells_looked_at
    assert 0.94 < painted.treatment.shown < 0.98
    assert f"the centres of {painted.cells_hidden} " in painted.summary()
    some = painted.check.data.subset(range(6))
    upper, lower = Treatment(((0.0, 0.0, 1.0, 0.5),)), Treatment((), (0.0, 0.0, 1.0, 0.5))
    (count, hidden), (_, cut) = hidden_cells(some, upper), hidden_cells(some, lower)
    assert 0 < hidden < count
    assert hidden + cut == count, "a centre is in one half or the other"


def test_check_does_not_take_the_paint_for_a_mark_but_still_sees_one_on_it(painted, tmp_path):
    assert check(painted.folder / "index.csv").burnt_in == ()
    again = tmp_path / "again"
    shutil.copytree(painted.folder, again)
    for path in sorted((again / "images" / "Benign").iterdir()):
        image = np.array(Image.open(path))
        image[204:211, 184:216] = 0
        Image.fromarray(image).save(path)
    (mark,) = check(again / "index.csv").burnt_in
    assert mark.box[0] > 0.7


# ── the new folder ────────────────────────────────────────────────────────────────────────────


def test_the_originals_are_untouched_and_copies_are_dropped_by_name(painted, barred, before):
    assert hashes(barred) == before
    assert [(row.image.split("/")[1], row.done) for row in painted.dropped] == [
        ("copy-of-0.jpg", "dropped"),
        ("copy-of-5.jpg", "dropped"),
    ]
    assert all(row.reason == f"a copy: of {row.copy_of}" for row in painted.dropped)
    assert not any("copy" in name for name in hashes(painted.folder))


def test_the_table_has_every_image_with_what_was_done_and_both_hashes(painted, barred, before):
    table = rows(painted.folder)
    assert [row["image"].removeprefix("./") for row in table] == [
        row["image"] for row in rows(barred, "index.csv")
    ]
    files = hashes(painted.folder)
    for row in table:
        assert row["sha256_before"] == before[row["image"]]
        assert row["sha256_after"] == files.get(row["written"], "")
        assert (row["done"] == "kept") == bool(row["written"]) == (not row["reason"])
    assert {row["mark"] for row in table if row["label"] in BARS} == {"yes"}


def test_the_new_set_opens_with_groups_parts_and_further_columns(painted, barred):
    old, new = Dataset.open(barred / "index.csv"), painted.data
    assert len(new) == len(old) - 2 == 48
    for sample, row in zip(new, painted.kept, strict=True):
        one = next(s for s in old if s.image == row.image)
        assert (sample.label, sample.group, sample.part) == (one.label, one.group, one.part)
        assert sample.columns["note"] == one.columns["note"]
    assert new.leaks() == []
    text = (painted.folder / "index.csv").read_text()
    assert "'=1+3" in text
    assert "images/Pro/=07.png" in text


def test_nothing_of_the_files_but_pixels_is_carried_over(painted):
    for row in painted.kept[:8]:
        data = (painted.folder / row.written).read_bytes()
        assert b"SECRET" not in data
        with Image.open(painted.folder / row.written) as image:
            assert (image.format, image.info) == ("PNG", {})
    assert "EXIF" in (painted.folder / "README.txt").read_text()


def test_a_drawn_image_still_says_that_it_was_drawn(tmp_path):
    index = write_smears(tmp_path / "set", 4, groups=4, seed=4)
    found = clean(index, tmp_path / "new", regions=[(0, 0, 0.2, 0.2)])
    assert all(says_drawn(sample.source) for sample in found.data)
    assert found.images[0].written == "images/drawn-00000.png"
    assert "a class has 12 images or more" in found.summary()


def test_images_of_one_field_keep_together_or_all_but_one_are_dropped(tmp_path):
    index = write_smears(tmp_path / "set", 4, groups=4, seed=5, same_fields=4)
    bare = Dataset.open(index)
    samples = [s.__class__(s.image, s.source, s.label, s.group) for s in bare]
    data = Dataset(samples, name="bare")
    kept = clean(data, tmp_path / "kept")
    fields = [row.near_duplicate_of for row in kept.images if row.near_duplicate_of]
    assert fields
    assert all(fields.count(name) > 1 for name in set(fields))
    assert {s.columns.get("near_duplicate_of") for s in kept.data} - {None} == set(fields)
    dropped = clean(data, tmp_path / "dropped", near_duplicates="drop")
    assert dropped.dropped
    assert all(row.reason.startswith("the same field again: of") for row in dropped.dropped)
    names = {row.image for row in kept.images} - {row.image for row in dropped.dropped}
    assert {row.image for row in dropped.kept} == names


def test_a_set_in_a_zip_is_cleaned_too_and_a_cleaned_one_again(tmp_path):
    index = write_smears(tmp_path / "set", 4, groups=4, seed=4)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for row in rows(index.parent, "index.csv"):
            archive.write(index.parent / row["image"], f"{row['label']}/{row['image'][-9:]}")
    once = clean(tmp_path / "set.zip", tmp_path / "once", regions=[(0.5, 0, 1, 0.1)])
    twice = clean(once.data, tmp_path / "twice", regions=[(0, 0.75, 1, 1)], marks="crop")
    (places,) = {s.columns["painted"] for s in twice.data}
    assert from_text(places)[0] == pytest.approx((0.5, 0, 1, 0.1 / 0.75), abs=1e-4)
    image = twice.data.read(0)
    assert image.shape == (168, 224, 3)
    assert len(np.unique(image[:22, 112:].reshape(-1, 3), axis=0)) == 1


# ── what is refused ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    """A folder of class folders of drawn smears: one a class, and a second one of Pro."""
    for number, field in enumerate(draw_smears(8, groups=8, seed=11)):
        if 4 <= number < 7:
            continue
        path = tmp_path / "smears" / field.label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.image).save(path)
    return tmp_path / "smears"


def spoil(folder):
    """Make one image unreadable, one blank, and a copy of one under another label."""
    broken, blank = sorted((folder / "Pro").iterdir())
    broken.write_bytes(broken.read_bytes()[:300])
    Image.new("RGB", (224, 224), (240, 240, 240)).save(blank)
    shutil.copy(next((folder / "Pre").iterdir()), folder / "Early" / "stolen.png")


def test_what_cannot_be_used_is_refused_by_name_and_nothing_is_written(folder, tmp_path):
    spoil(folder)
    with pytest.raises(DatasetError) as told:
        clean(folder, tmp_path / "new")
    for text in ("3 of 6 images", "unreadable", "Early/stolen.png", "two labels", "drop_unusable"):
        assert text in str(told.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["smears"]


def test_what_cannot_be_used_is_dropped_by_name_where_that_is_asked_for(cli, folder, tmp_path):
    spoil(folder)
    arguments = ("clean", folder, "--out", "new", "--drop-unusable", "--json", "c.json")
    status, out, err = cli(*arguments)
    assert status == 0, err
    figures = json.loads((tmp_path / "c.json").read_text())
    assert (figures["images"], figures["kept"]) == (6, 2)
    reasons = sorted(one["reason"].split(":")[0] for one in figures["dropped"])
    assert [r.split(" (")[0] for r in reasons] == [
        "one image under two labels", "one image under two labels", "shows nothing", "unreadable",
    ]  # fmt: skip
    assert "Dropped, unreadable: 1 (Pro/" in out
    assert figures["corners"]["verdict"] == "unknown"
    assert "NOT MEASURED" in out


def test_the_same_pixels_in_two_files_are_one_image_once_cleaned(folder, tmp_path):
    first = sorted((folder / "Pro").iterdir())[0]
    Image.open(first).save(folder / "Pro" / "z.png", compress_level=0)
    found = clean(folder, tmp_path / "new")
    (row,) = found.dropped
    assert row.reason == f"a copy once cleaned: of Pro/{first.name}"
    assert len(hashes(tmp_path / "new" / "images")) == 5
    shutil.move(folder / "Pro" / "z.png", folder / "Pre" / "z.png")
    with pytest.raises(DatasetError, match="two labels"):
        clean(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_of_something_else_is_never_replaced_and_one_of_its_own_only_when_asked(
    folder, tmp_path
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="other things in it"):
        clean(folder, tmp_path / "mine", overwrite=True)
    clean(folder, tmp_path / "new")
    with pytest.raises(ConfigError, match="exists already"):
        clean(folder, tmp_path / "new")
    again = clean(folder, tmp_path / "new", overwrite=True)
    assert len(again.kept) == 5
    with pytest.raises(ConfigError, match="holds images of the set itself"):
        clean(tmp_path / "new" / "index.csv", tmp_path / "new", overwrite=True)
    with pytest.raises(ConfigError, match="lies in the set"):
        clean(folder, folder / "new")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"marks": "blur"}, "paint, crop or keep"),
        ({"near_duplicates": "merge"}, "keep or drop"),
        ({"regions": [(0.5, 0.5, 0.4, 1)]}, "LEFT,TOP,RIGHT,BOTTOM"),
        ({"regions": [(0, 0, 1, 0.1)], "marks": "keep"}, "Choose paint or crop"),
        ({"only_regions": True}, "none is given"),
        ({"colour": (300, 0, 0)}, "from 0 to 255"),
        ({"regions": [(0, 0, 1, 0.6)]}, "hide 60% of every image"),
    ],
)
def test_a_setting_out_of_its_range_is_told(few, tmp_path, settings, text):
    with pytest.raises(AllkitError, match=text):
        clean(Dataset.open(few).subset(range(4)), tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_region_that_is_no_numbers_is_told_on_the_command_line(cli, few):
    for words in (("--region", "left"), ("--region", "0,0,1"), ("--colour", "red")):
        status, out, err = cli("clean", few, "--out", "new", *words)
        assert (status, out) == (2, "")
        assert words[0] in err
    assert not Path("new").exists()


# ── places and names ──────────────────────────────────────────────────────────────────────────


def test_a_place_is_the_same_share_of_images_of_any_size():
    treatment = Treatment(((0.8, 0.9, 1.0, 1.0),), colour=(1, 2, 3))
    for height, width in ((224, 224), (363, 360), (1000, 1500)):
        image = np.full((height, width, 3), 200, np.uint8)
        new = treatment.apply(image)
        assert (image == 200).all()
        share = (new[:, :, 0] == 1).mean()
        assert share == pytest.approx(0.02, abs=2 / height + 2 / width)
        assert (new[-1, -1] == (1, 2, 3)).all()


def test_a_mark_of_a_jpeg_is_painted_in_whole_blocks_and_to_the_border():
    box = (184 / 224, 204 / 224, 216 / 224, 211 / 224)
    assert grown(box, [(224, 224)]) == (176 / 224, 192 / 224, 1.0, 1.0)
    plain = grown((0.4, 0.4, 0.5, 0.5), [])
    assert plain == pytest.approx((0.4 - 1 / 64, 0.4 - 1 / 64, 0.5 + 1 / 64, 0.5 + 1 / 64))
    assert joined([(0, 0, 0.2, 0.2), (0.5, 0, 0.6, 0.1), (0.1, 0.1, 0.3, 0.3)]) == (
        (0, 0, 0.3, 0.3),
        (0.5, 0, 0.6, 0.1),
    )


def test_a_margin_is_cut_where_it_costs_least_and_what_lies_inside_is_painted():
    bar, dust = (0.8, 0.9, 1.0, 1.0), (0.4, 0.4, 0.5, 0.5)
    assert cut_for([bar, dust]) == ((0, 0, 1, 0.9), (dust,))
    assert cut_for([(0, 0, 0.1, 0.3), bar]) == ((0.1, 0, 1, 0.9), ())
    assert cut_for([(0.1, 0.2, 0.2, 0.3)])[0] == WHOLE, "to paint it costs less"
    assert cut_for([(0.0, 0.2, 0.2, 0.3)])[0] == (0.2, 0, 1, 1)
    assert cut_for([]) == (WHOLE, ())


def test_the_column_of_painted_places_is_read_back_and_not_taken_at_its_word():
    places = ((0.8, 0.9, 1.0, 1.0), (0.0, 0.0, 0.1, 0.2))
    assert from_text(as_text(places)) == places
    assert from_text("=1+1") == from_text(None) == from_text("0,0,2,2") == ()
    mark = Mark((0.79, 0.89, 1.0, 1.0), (0,))
    image = np.full((100, 100, 3), 90, np.uint8)
    assert unpainted([mark], ["0.8,0.9,1,1"] * 3, lambda _: image) == []
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    assert unpainted([mark], ["0.8,0.9,1,1"] * 3, lambda _: noise) == [mark]
    assert unpainted([mark], ["0.8,0.9,1,1", None], lambda _: image) == [mark]
    beside = Mark((0.74, 0.9, 0.82, 1.0), (0,))
    assert unpainted([beside], ["0.8,0.9,1,1"] * 3, lambda _: image) == [beside]


def test_no_name_leads_out_of_the_folder_or_is_another_ones():
    assert new_names(["Pro/a.jpg", "Pro/a.png", "Pro/A.TIF", "Pre/a.jpg"]) == [
        "images/Pro/a.png", "images/Pro/a-2.png", "images/Pro/A-3.png", "images/Pre/a.png",
    ]  # fmt: skip
    assert new_names(["../lab/Pro/a.jpg", "/data/x/../../etc/b.jpg"]) == [
        "images/lab/Pro/a.png", "images/data/x/etc/b.png",
    ]  # fmt: skip
    assert new_names(["/home/ann/set/Pro/a.jpg", "/home/ann/set/Pre/b.jpg"]) == [
        "images/set/Pro/a.png", "images/set/Pre/b.png",
    ]  # fmt: skip
    assert new_names(["C:\\x\\con.jpg", "a\u202eb\n.png", "..", ".png"])[0].endswith("/_con.png")
    for name in new_names(["C:\\x\\con.jpg", "a\u202eb\n.png", "..", ".png", "é" * 150 + ".png"]):
        assert name.isprintable()
        assert name.startswith("images/")
        assert ".." not in name
        assert max(len(part.encode()) for part in name.split("/")) < 250
    assert new_names(["images/a.png", "images/b.png"]) == ["images/a.png", "images/b.png"]


def test_what_was_done_to_the_marks_is_said_and_not_the_verdict_on_the_corners(painted, cropped):
    assert "images, marks painted over; " in repr(painted)
    assert "images, marks cut off; " in repr(cropped)
    assert not repr(painted).endswith(", crop>")
