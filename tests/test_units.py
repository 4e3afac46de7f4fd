"""Answers by slide, case and folder, and the tables that `predict` reads."""

import csv
import json
import shutil
import zipfile

import pytest

from allkit.errors import ConfigError, DatasetError
from allkit.volume.inputs import Shard, find_images
from allkit.volume.units import find_units


@pytest.fixture(scope="module")
def smears(tmp_path_factory, drawn):
    """A table of 6 images, without labels, of three slides that lie mixed in it."""
    folder = tmp_path_factory.mktemp("smears")
    images = sorted(drawn.parent.rglob("*.png"))[:6]
    for number, image in enumerate(images):
        shutil.copy(image, folder / f"{number}.png")
    rows = [f"{n}.png,{'BAC'[n % 3]},P{n // 3},note {n}" for n in range(6)]
    (folder / "fields.csv").write_text("\n".join(["image,slide,case,remark", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def slides(smears, tmp_path_factory):
    """The same images in a folder for each slide."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(6):
        place = folder / "lab" / "BAC"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(smears / f"{number}.png", place)
    return folder


def rows_of(out):
    return [json.loads(line) for line in out.splitlines()]


# ── tables and zips as images ─────────────────────────────────────────────────────────────────


def test_a_table_without_labels_stands_for_its_images(cli, tiny_folder, smears):
    status, out, _ = cli("predict", tiny_folder, smears / "fields.csv")
    assert status == 0
    rows = rows_of(out)
    assert [row["image"] for row in rows] == [str(smears / f"{n}.png") for n in range(6)]
    assert all(row["label"] for row in rows)


def test_tables_folders_images_and_zips_can_be_mixed(smears, tmp_path):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(smears / "0.png", "Pro/0.png")
        archive.writestr("notes.txt", "no image")
    inputs = [smears / "fields.csv", smears, smears / "1.png", tmp_path / "more.zip"]
    paths, others = find_images([str(path) for path in inputs])
    assert len(paths) == 6 + 6 + 1 + 1
    assert paths[-1] == f"{tmp_path}/more.zip/Pro/0.png"
    assert others == {str(smears): {"name": 1}, str(tmp_path / "more.zip"): {"name": 1}}


def test_an_image_in_a_zip_gets_the_answer_of_its_file(tiny, smears, tmp_path):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(smears / "0.png", "Pro/0.png")
    (answer,) = tiny.predict(tmp_path / "more.zip")
    (plain,) = tiny.predict(smears / "0.png")
    assert answer.probabilities == pytest.approx(plain.probabilities, abs=1e-5)
    assert answer.image.endswith("more.zip/Pro/0.png")


def test_a_model_takes_a_table(tiny, smears):
    answers = tiny.predict(str(smears / "fields.csv"))
    assert [a.image for a in answers] == [str(smears / f"{n}.png") for n in range(6)]
    alone = tiny.predict(smears / "5.png")[0].probabilities
    assert answers[5].probabilities == pytest.approx(alone, abs=1e-5)


def test_a_file_that_a_table_names_and_that_is_missing_is_one_unreadable_row(
    cli, tiny_folder, smears, tmp_path
):
    table = tmp_path / "some.tsv"
    table.write_text(f"image\tlabel\n{smears}/0.png\tPro\ngone.png\t\n")
    status, out, err = cli("predict", tiny_folder, table)
    assert status == 1
    assert [row["verdict"] == "unreadable" for row in rows_of(out)] == [False, True]
    assert "1 of 2 images were unreadable" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,Pro\n", "no column 'image'. It has: file, label"),
        ("image\n", "has no rows"),
        ("image,x\na.png,1\n,2\n", "Line 3 .* nothing in the column 'image'"),
    ],
)
def test_a_table_that_names_no_images_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        find_images([str(tmp_path / "t.csv")])


def test_a_table_and_a_member_of_a_zip_that_are_missing_are_told(tiny, smears, tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.csv does not exist"):
        tiny.predict("gone.csv")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(smears / "0.png", "Pro/0.png")
    answers = tiny.predict([f"{tmp_path}/more.zip/Pro/1.png", f"{tmp_path}/more.zip/Pro/0.png"])
    assert [a.verdict == "unreadable" for a in answers] == [True, False]
    assert "holds no Pro/1.png" in answers[0].error


def test_a_table_that_is_missing_is_told(cli, tiny_folder):
    status, _, err = cli("predict", tiny_folder, "gone.csv")
    assert status == 2
    assert "gone.csv does not exist" in err


def test_a_parquet_table_is_read_and_one_that_holds_the_images_is_explained(smears, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    paths = [str(smears / "1.png"), str(smears / "0.png")]
    pq.write_table(pa.table({"image": paths, "slide": ["A", "B"]}), tmp_path / "t.parquet")
    assert list(find_images([str(tmp_path / "t.parquet")])[0]) == paths
    units, _ = find_units([str(tmp_path / "t.parquet")], "slide")
    assert list(units) == [("A", 1), ("B", 1)]
    pq.write_table(pa.table({"image": [{"bytes": b"x", "path": "a"}]}), tmp_path / "hub.parquet")
    with pytest.raises(DatasetError, match="holds the images themselves"):
        find_images([str(tmp_path / "hub.parquet")])


# ── units ─────────────────────────────────────────────────────────────────────────────────────

COLUMNS = [
    "unit",
    "fields",
    "used",
    "fields_needed",
    "label",
    "probability",
    "verdict",
    "reasons",
    "reason_codes",
    "prediction_set",
]
LAST = ["coarse", "coarse_probability", "coarse_verdict", "error"]


def test_there_is_one_row_a_slide_in_order_of_first_appearance(cli, tiny_folder, smears, tiny):
    status, out, _ = cli("predict", tiny_folder, smears / "fields.csv", "--by", "slide")
    assert status == 0
    rows = rows_of(out)
    assert [row["unit"] for row in rows] == ["B", "A", "C"]
    assert [row["fields"] for row in rows] == [2, 2, 2]
    assert list(rows[0]) == [*COLUMNS, *(f"p_{name}" for name in tiny.classes), *LAST]
    alone = tiny.predict_case([smears / "1.png", smears / "4.png"])
    assert rows[1]["label"] == alone.label
    assert rows[1]["probability"] == pytest.approx(alone.probability, abs=1e-6)
    assert rows[1]["fields_needed"] is None
    assert rows[1]["coarse"] == alone.coarse
    assert rows[1]["coarse_verdict"] == "review"
    assert "not_calibrated_for_slides" in rows[1]["reason_codes"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_rows_of_units_are_written_in_every_format(cli, tiny_folder, smears, tmp_path, suffix):
    out = tmp_path / f"cases{suffix}"
    status, _, err = cli(
        "predict", tiny_folder, smears / "fields.csv", "--by", "case", "--out", out
    )
    assert status == 0, err
    if suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    elif suffix == ".jsonl":
        rows = rows_of(out.read_text())
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        rows = pq.read_table(out).to_pylist()
    assert [row["unit"] for row in rows] == ["P0", "P1"]
    assert [int(row["fields"]) for row in rows] == [3, 3]


def test_a_folder_of_folders_has_a_row_for_each_called_by_its_path(cli, tiny_folder, slides):
    status, out, _ = cli("predict", tiny_folder, slides, "--by", "folder")
    assert status == 0
    assert [row["unit"] for row in rows_of(out)] == ["lab/A", "lab/B", "lab/C"]


def test_folders_that_hold_the_images_themselves_are_units_by_their_names(slides):
    units, _ = find_units([str(slides / "lab" / "A"), str(slides / "lab" / "B")], "folder")
    assert list(units) == [(str(slides / "lab" / "A"), 2), (str(slides / "lab" / "B"), 2)]


def test_folders_of_one_name_in_two_places_are_two_units(slides, tmp_path):
    shutil.copytree(slides / "lab", tmp_path / "other")
    units, _ = find_units([str(slides / "lab"), str(tmp_path / "other")], "folder")
    assert len(units) == 6
    assert len(set(units.names)) == 6
    assert units.names[0] == str(slides / "lab" / "A")


def test_the_shards_of_units_keep_each_whole(smears):
    whole, _ = find_units([str(smears / "fields.csv")], "slide")
    shares = [Shard.parse(f"{n}/2").of(whole) for n in (1, 2)]
    assert [list(share.names) for share in shares] == [["A"], ["B", "C"]]
    assert [[p[-5] for p in share.images] for share in shares] == [["1", "4"], ["0", "3", "2", "5"]]


def test_slides_are_taken_from_the_paths_by_a_pattern(slides):
    units, _ = find_units([str(slides)], "slide", r"lab/(\w)/")
    assert list(units) == [("A", 2), ("B", 2), ("C", 2)]
    with pytest.raises(
        DatasetError, match=r"finds no slide in 6 of 6 names.*such as 'lab/A/1.png'"
    ):
        find_units([str(slides)], "slide", r"slide(\d+)")


def test_a_unit_whose_images_cannot_be_read_has_a_row_that_says_so_and_the_status_is_1(
    cli, tiny_folder, smears, tmp_path
):
    table = tmp_path / "t.csv"
    table.write_text(f"image,slide\n{smears}/0.png,A\ngone.png,A\nlost.png,B\n")
    out = tmp_path / "answers.jsonl"
    status, _, err = cli("predict", tiny_folder, table, "--by", "slide", "--out", out)
    assert status == 1
    first, second = rows_of(out.read_text())
    assert first["label"]
    assert "1 of 2 images cannot be read" in first["error"]
    assert "gone.png" in first["error"]
    assert (second["verdict"], second["label"], second["used"]) == ("refused", None, 0)
    assert second["reason_codes"] == ["no_field"]
    assert "2 of 3 images were unreadable" in err


def test_a_run_by_slide_is_not_taken_up_as_one_by_case(cli, tiny_folder, smears, tmp_path):
    from allkit.volume.run import AnsweringRun, Identity

    units, _ = find_units([str(smears / "fields.csv")], "slide")
    of_slides = Identity(
        model="m", classes=("a",), shard="1/1", count=3, images=units.fingerprint(), by="slide"
    )
    with AnsweringRun(tmp_path / "x.csv", of_slides):
        pass
    with pytest.raises(ConfigError, match="what a row stands for"):
        AnsweringRun(tmp_path / "x.csv", of_slides.model_copy(update={"by": "case"}))


def test_a_stopped_run_of_units_goes_on_and_still_knows_of_unreadable_images(tmp_path):
    from allkit.records import CasePrediction
    from allkit.volume.run import AnsweringRun, Identity

    identity = Identity(model="m", classes=("a",), shard="1/1", count=2, images="i", by="slide")
    answers = [
        CasePrediction("A", "refused", fields=2, unreadable=("x", "y")),
        CasePrediction("B", "review", fields=1),
    ]

    def stopped():
        yield answers[0]
        raise KeyboardInterrupt

    out = tmp_path / "rows.csv"
    with AnsweringRun(out, identity) as run, pytest.raises(KeyboardInterrupt):
        list(run.write(stopped()))
    with AnsweringRun(out, identity) as run:
        assert (run.done, run.unreadable) == (1, 2)
        list(run.write(iter(answers[1:])))
        run.finish()
    assert [row["unit"] for row in csv.DictReader(out.read_text().splitlines())] == ["A", "B"]


@pytest.mark.parametrize(
    ("by", "what", "message"),
    [
        ("slide", "bare.csv", "no column 'slide'. It has: image, label"),
        ("case", "gap.csv", "Line 3 .* nothing in the column 'case'"),
        ("slide", "folder", "--by slide takes a table .* folder is a folder.*--slide REGEX"),
        ("case", "folder/a.png", "--by case takes a table .* is a file"),
        ("folder", "folder/a.png", "--by folder takes folders; .* is a file"),
    ],
)
def test_what_has_no_such_units_is_told(tmp_path, monkeypatch, by, what, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.csv").write_text("image,label\na.png,Pro\n")
    (tmp_path / "gap.csv").write_text("image,case\na.png,P1\nb.png,\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").touch()
    with pytest.raises((ConfigError, DatasetError), match=message):
        find_units([what], by)


def test_an_unknown_unit_and_a_pattern_without_slides_are_told(cli, tiny_folder, smears):
    status, _, err = cli("predict", tiny_folder, smears / "fields.csv", "--by", "patient")
    assert status == 2
    assert "'patient' is not one of" in err
    status, _, err = cli("predict", tiny_folder, smears, "--slide", "(x)")
    assert status == 2
    assert "--by slide" in err
