"""Folders, zips, names and links as people have them: read rightly, or refused with a way out."""

import copy
import inspect
import io
import json
import multiprocessing
import os
import pickle  # noqa: TID251 - of workers, of what the test itself wrote
import sys
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from allkit import Dataset
from allkit.data.left_out import left_out_text, whys_of
from allkit.errors import DatasetError, ImageError
from allkit.files import write_whole
from allkit.images.regular import read_regular
from allkit.volume.inputs import find_images
from allkit.volume.units import find_units


def png(value=0):
    pixels = np.random.default_rng(value).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def put(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


def refused(place):
    with pytest.raises(DatasetError) as caught:
        Dataset.open(place)
    return str(caught.value)


# ── folders ───────────────────────────────────────────────────────────────────────────────────


def test_folds_of_c_nmc_become_folds_that_are_taken_as_they_are(tmp_path):
    put(
        tmp_path, *(f"fold_{f}/{c}/{i}.png" for f in range(3) for c in ("all", "hem") for i in "ab")
    )
    data = Dataset.open(tmp_path)
    assert data.classes == ("all", "hem")
    assert {(s.image.split("/")[0], s.fold) for s in data} == {(f"fold_{f}", f) for f in range(3)}
    tested = [{s.image.split("/")[0] for s in split.test} for split in data.folds(3)]
    assert tested == [{"fold_0"}, {"fold_1"}, {"fold_2"}]


def test_an_unlabelled_test_folder_is_no_class_and_the_way_out_is_told(tmp_path):
    put(tmp_path, "train/all/1.png", "train/hem/1.png", "test/1.png")
    said = refused(tmp_path)
    assert "images of test lie side by side" in said
    assert f"Give for example {tmp_path}/train" in said
    assert Dataset.open(tmp_path / "train").classes == ("all", "hem")


def test_folders_of_patients_are_no_classes_and_the_way_out_is_told(tmp_path):
    put(tmp_path, *(f"patient_{p}/{c}/1.png" for p in (1, 2) for c in ("all", "hem")))
    said = refused(tmp_path)
    assert "not certain which of the two are the classes" in said
    assert "give a table with the columns image and label" in said


def test_a_class_folder_without_images_that_are_taken_is_an_error_that_names_it(tmp_path):
    put(tmp_path, "Benign/1.png", "Pro/1.webp", "Pro/2.webp")
    said = refused(tmp_path)
    assert "the class folder Pro would be lost" in said
    assert "2 files are no images by their names (Pro/1.webp, Pro/2.webp)" in said


def test_a_class_folder_that_is_a_link_is_an_error_and_not_a_note(tmp_path):
    put(tmp_path, "set/Benign/1.png", "store/Pro/1.png")
    (tmp_path / "set" / "Pro").symlink_to(tmp_path / "store" / "Pro", target_is_directory=True)
    assert "Pro/ is a link to a folder" in refused(tmp_path / "set")


def test_what_is_left_out_is_the_same_for_every_command_and_said_with_counts(tmp_path):
    put(
        tmp_path, "Pro/1.png", "Pre/2.jfif", "Pro/._1.png", "Pro/@eaDir/1.png/SYNOPHOTO.jpg",
        ".Trash-1000/files/x.png", "$RECYCLE.BIN/x.png", "Pre/.ipynb_checkpoints/2.png",
        "Pre/Thumbs.db", "Pre/notes.txt",
    )  # fmt: skip
    (tmp_path / "Pre" / "loop").symlink_to(tmp_path, target_is_directory=True)
    data = Dataset.open(tmp_path)
    taken, left = find_images([str(tmp_path)])
    assert {s.image for s in data} == {"Pro/1.png", "Pre/2.jfif"}
    assert {s.image for s in Dataset.unlabelled(tmp_path)} == {"Pro/1.png", "Pre/2.jfif"}
    assert sorted(taken) == [f"{tmp_path}/Pre/2.jfif", f"{tmp_path}/Pro/1.png"]
    assert left == {str(tmp_path): {"hidden": 3, "system": 3, "link": 1, "name": 1}}
    assert {why: len(paths) for why, paths in whys_of(data.left_out).items()} == left[str(tmp_path)]
    assert left_out_text(left[str(tmp_path)]) == (
        "1 file is no image by its name; 3 are hidden; 3 are of the trash, thumbnails or the system; "
        "1 is a link to a folder"
    )


def test_a_folder_of_hidden_images_only_says_why_it_holds_none(tmp_path):
    put(tmp_path, ".x/1.png")
    with pytest.raises(DatasetError, match=r"holds no images \(1 is hidden\)"):
        find_images([str(tmp_path)])


def test_folders_deeper_than_the_recursion_of_python_are_read(tmp_path):
    put(tmp_path, "d/" * 150 + "x.png")
    usual = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 100)
        assert len(find_images([str(tmp_path)])[0]) == 1
    finally:
        sys.setrecursionlimit(usual)


# ── class names ───────────────────────────────────────────────────────────────────────────────


def test_spellings_of_one_of_the_four_classes_are_joined_beside_further_classes(tmp_path):
    put(tmp_path, *(f"{c}/1.png" for c in ("Early", "early", "early pre-B", "Normal")))
    data = Dataset.open(tmp_path)
    assert data.counts == {"Early": 3, "Normal": 1}


@pytest.mark.parametrize(
    "spellings",
    [
        ("AML", "aml"), ("AML M1", "AML_M1"), ("AML-M1", "AML M1."), ("AML", "ＡＭＬ"),
        ("AML", "A ML"), ("grade 1-2", "grade 1 2"),
    ],
)  # fmt: skip
def test_a_further_class_in_two_spellings_is_an_error_that_names_both(tmp_path, spellings):
    put(tmp_path, *(f"{name}/1.png" for name in (*spellings, "Normal")))
    said = refused(tmp_path)
    assert "differ in case or spacing only" in said
    assert all(ascii(name) in said for name in spellings)


@pytest.mark.parametrize("names", [("CD10+", "CD10-"), ("grade 1.5", "grade 15"), ("B1", "B 11")])
def test_names_that_differ_in_what_counts_are_two_classes(tmp_path, names):
    put(tmp_path, *(f"{name}/1.png" for name in names))
    assert set(Dataset.open(tmp_path).classes) == set(names)


def test_two_words_for_benign_beside_further_classes_are_asked_about(tmp_path):
    put(tmp_path, *(f"{c}/1.png" for c in ("Benign", "hematogones", "AML")))
    assert "the labels 'Benign', 'hematogones' may mean one class" in refused(tmp_path)


def test_letters_in_two_unicode_forms_and_invisible_ones_are_one_class(tmp_path):
    put(tmp_path, *(f"{c}/1.png" for c in ("fru\u0308h", "fr\u00fch", "sp\u200bät", "spät\u00a0")))
    assert Dataset.open(tmp_path).classes == ("früh", "spät")


@pytest.mark.parametrize(("disk", "table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_table_of_another_unicode_form_than_the_disk_finds_its_images(tmp_path, disk, table):
    name = "Größe/é.png"
    put(tmp_path, unicodedata.normalize(disk, name), "b.png")
    text = f"image,label\n{unicodedata.normalize(table, name)},Pro\nb.png,Pre\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert Dataset.open(tmp_path / "t.csv").read(0).shape == (40, 40, 3)
    assert all(map(os.path.exists, find_images([str(tmp_path / "t.csv")])[0]))


def test_of_two_files_in_two_unicode_forms_the_exact_one_is_taken(tmp_path):
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    put(tmp_path, *names)
    (tmp_path / "t.csv").write_text(f"image,label\n{names[0]},Pro\n{names[1]},Pre\n", "utf-8")
    assert len(set(Dataset.open(tmp_path / "t.csv").hashes)) == 2


# ── names that are no UTF-8 ───────────────────────────────────────────────────────────────────


def in_latin_1(root):
    for name in ("Pre", "Pro"):
        (root / name).mkdir(parents=True)
        for number in range(2):
            path = os.path.join(os.fsencode(root / name), b"gr\xfcn%d.png" % number)
            with open(path, "wb") as stream:
                stream.write(png(number + 10 * len(name) + ord(name[2])))
    return root


def test_names_that_are_no_utf8_are_read_and_a_table_of_them_is_refused(tmp_path):
    data = Dataset.open(in_latin_1(tmp_path / "set"))
    assert len(data.hashes) == 4
    with pytest.raises(DatasetError, match="4 of 4 rows have a name that is no UTF-8, such as"):
        data.to_csv(tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    for name in ("c.json", "c.html"):  # of `check`; a name of these files is shown with a backslash
        write_whole(tmp_path / name, json.dumps([s.image for s in data], ensure_ascii=False))
    assert json.loads((tmp_path / "c.json").read_text("utf-8")) == [s.image for s in data]


@pytest.mark.nightly
def test_check_writes_its_reports_though_names_are_no_utf8(tmp_path, cli):
    in_latin_1(tmp_path / "set")
    status, _, err = cli("check", tmp_path / "set", "--json", "c.json", "--html", "c.html")
    assert status in (0, 1), err
    assert (tmp_path / "c.json").exists()
    assert (tmp_path / "c.html").exists()


def test_a_class_folder_whose_name_is_no_utf8_is_named(tmp_path):
    put(tmp_path, "Pro/1.png")
    os.mkdir(os.fsencode(tmp_path) + b"/fr\xfch")
    with open(os.fsencode(tmp_path) + b"/fr\xfch/1.png", "wb") as stream:
        stream.write(png())
    assert r"the label 'fr\udcfch' is no UTF-8 text" in refused(tmp_path)


# ── links ─────────────────────────────────────────────────────────────────────────────────────


def test_the_names_of_links_to_blobs_stand_in_tables(tmp_path):
    put(tmp_path, "blobs/aaa", "blobs/bbb")
    for name, blob in (("Pre/x_1", "aaa"), ("Pro/y_1", "bbb"), ("Pro/y_2", "bbb")):
        link = tmp_path / "snapshot" / f"{name}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "blobs" / blob)
    Dataset.open(tmp_path / "snapshot").to_csv(tmp_path / "t.csv")
    again = Dataset.open(tmp_path / "t.csv")
    names = [f"snapshot/{name}.png" for name in ("Pre/x_1", "Pro/y_1", "Pro/y_2")]
    assert [s.image for s in again] == names
    assert again.hashes[1] == again.hashes[2]


def test_a_table_beside_a_folder_that_is_a_link_finds_its_images(tmp_path):
    put(tmp_path, "far/store/Pre/1.png", "far/store/Pro/2.png", "far/out/x.png")
    (tmp_path / "data").symlink_to(tmp_path / "far" / "store", target_is_directory=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "out", target_is_directory=True)
    data = Dataset.open(tmp_path / "data")
    for place in ("t.csv", "out/t.csv"):
        data.to_csv(tmp_path / place)
        assert Dataset.open(tmp_path / place).fingerprint == data.fingerprint
    assert "\ndata/Pre/1.png," in (tmp_path / "t.csv").read_text()


def test_links_to_files_that_are_gone_are_named(tmp_path):
    put(tmp_path, "Pre/1.png")
    (tmp_path / "Pro").mkdir()
    (tmp_path / "Pro" / "2.png").symlink_to(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"Pro/2\.png is a link to .*gone, which does not exist"):
        Dataset.open(tmp_path).hashes  # noqa: B018


# ── metadata.csv ──────────────────────────────────────────────────────────────────────────────


def test_class_folders_are_read_beside_metadata_of_the_publisher(tmp_path):
    put(tmp_path, "Benign/1.png", "Pro/1.png")
    (tmp_path / "metadata.csv").write_text("isic_id,age\n0,3\n")
    data = Dataset.open(tmp_path)
    assert data.classes == ("Benign", "Pro")
    assert (
        left_out_text(whys_of(data.left_out)) == "1 table does not name the images (metadata.csv)"
    )


def test_patients_in_metadata_without_labels_go_to_the_images_of_class_folders(tmp_path):
    put(tmp_path, "Benign/1.png", "Pro/1.png")
    rows = "file_name,case\nPro/1.png,p2\nBenign/1.png,p1\n"
    (tmp_path / "metadata.csv").write_text(rows)
    data = Dataset.open(tmp_path)
    assert [(s.image, s.label, s.case) for s in data] == [
        ("Benign/1.png", "Benign", "p1"),
        ("Pro/1.png", "Pro", "p2"),
    ]
    assert data.left_out == ()
    (tmp_path / "metadata.csv").write_text("file_name,case\nPro/1.png,p2\nother.png,p1\n")
    said = refused(tmp_path)
    assert "Benign/1.png is not named in metadata.csv" in said
    assert "other.png is named in metadata.csv and not there" in said
    assert "Rename or move metadata.csv" in said


def test_images_that_metadata_does_not_name_are_said(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,Pro\nb.png,Pre\n")
    assert Dataset.open(tmp_path).left_out == ("c.png",)


# ── zips ──────────────────────────────────────────────────────────────────────────────────────


def zip_of(path, *names, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    return path


def test_a_zip_that_was_made_again_is_read_again(tmp_path):
    for classes in (("Benign", "Pro"), ("Early", "Pre"), ("Benign", "Early", "Pre", "Pro")):
        place = zip_of(tmp_path / "s.zip", *(f"{c}/1.png" for c in classes))
        data = Dataset.open(place)
        assert data.classes == classes
        assert data.read(0).shape == (40, 40, 3)
    zip_of(tmp_path / "s.zip", "Benign/other.png")
    with pytest.raises(ImageError, match=r"s\.zip holds no Benign/1\.png"):
        data.read(0)


def _hash_of(index):
    import hashlib

    return hashlib.sha256(_shared_set.samples[index].source.read()).hexdigest()


_shared_set = None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_zip_that_several_processes_read_after_a_fork_gives_each_the_right_bytes(tmp_path):
    global _shared_set
    names = [f"{c}/{i}.png" for c in ("Pre", "Pro") for i in range(40)]
    _shared_set = Dataset.open(zip_of(tmp_path / "s.zip", *names))
    right = list(_shared_set.hashes)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_hash_of, range(len(right)), chunksize=1) == right


def test_a_zip_made_with_backslashes_has_class_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name in ("set\\Pre\\1.png", "set\\Pro\\1.png"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, png())
    data = Dataset.open(tmp_path / "s.zip")
    assert [s.image for s in data] == ["Pre/1.png", "Pro/1.png"]
    assert data.read(1).shape == (40, 40, 3)


def test_a_class_that_vanishes_inside_a_zip_is_named(tmp_path):
    place = zip_of(tmp_path / "s.zip", "set/Pre/1.png", "set/Benign/1.png", "set/Pro/1.heic")
    assert "the class folder Pro would be lost" in refused(place)


def test_a_zip_of_one_class_with_slides_keeps_its_class(tmp_path):
    place = zip_of(tmp_path / "s.zip", "Pro/slide-1/1.png", "Pro/slide-2/1.png")
    assert Dataset.open(place).classes == ("Pro",)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_stream_in_a_zip_is_one_image_error(tmp_path, method):
    place = zip_of(tmp_path / "s.zip", "Pre/1.png", "Pro/1.png", method=method)
    data = Dataset.open(place)
    with zipfile.ZipFile(place) as archive:
        start = archive.getinfo("Pro/1.png").header_offset + 60
    content = bytearray(place.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    place.write_bytes(content)
    with pytest.raises(ImageError, match=r"Pro/1\.png in .* is damaged"):
        data.read(1)


# ── what is no class, and what hides one ──────────────────────────────────────────────────────


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("classes", [("Benign", "Pre", "Pro", "Pro/Early"), ("M1", "M2", "M1/M2")])
def test_a_class_folder_inside_another_class_is_refused(tmp_path, classes, packed):
    names = [f"{c}/1.png" for c in classes]
    place = zip_of(tmp_path / "s.zip", *names) if packed else put(tmp_path / "s", *names)
    said = refused(place)
    holder, inner = classes[-1].split("/")
    assert f"the class folder {holder} holds the folder {classes[-1]}" in said
    assert f"Move {inner} out of {holder}" in said


@pytest.mark.parametrize("lost", ["Pro/Thumbs.db", "Pro/.a.png", "set/Pro/@eaDir/1.png"])
def test_a_class_vanishes_from_a_zip_without_entries_of_folders_in_no_silence(tmp_path, lost):
    top = "set/" if lost.startswith("set/") else ""
    place = zip_of(tmp_path / "s.zip", f"{top}Benign/1.png", f"{top}Early/1.png", lost)
    assert "the class folder Pro would be lost" in refused(place)


@pytest.mark.parametrize(
    "folders",
    [
        ("all", "hem", "hem - Copy"), ("all", "hem", "hem - Kopie (2)"), ("all", "hem", "hem (1)"),
        ("Benign", "Pro", "Copy of Pro"), ("all", "hem", "hem_old"), ("all", "hem", "backup"),
        ("Benign", "Pro", "plots"), ("all", "hem", "to sort"), ("all", "hem", "New folder (2)"),
        ("Benign", "Pro", "patient 7"), ("UID_11", "UID_H1"), ("Pat A", "Pat B"), ("JPEGImages",),
        ("im",), ("Faltung 1", "Faltung 2"), ("2023-01-05", "2023-02-06"),
    ],
)  # fmt: skip
def test_folders_that_are_no_classes_are_refused_with_a_way_out(tmp_path, folders):
    put(tmp_path, *(f"{folder}/1.png" for folder in folders))
    assert "give a table with the columns image and label" in refused(tmp_path)


@pytest.mark.parametrize(
    "folders",
    [
        ("AML (M1)", "AML (M2)"), ("low copy", "high copy"), ("RUNX1", "PAX5"), ("CASP3", "wt"),
        ("test tube", "control"), ("artifact", "other"), ("type A", "type B"), ("old", "young"),
        ("segmented neutrophil", "band"), ("group 1", "group 2"), ("p53", "wt"), ("IDH1", "IDH2"),
    ],
)  # fmt: skip
def test_ordinary_classes_are_read(tmp_path, folders):
    put(tmp_path, *(f"{folder}/1.png" for folder in folders))
    assert set(Dataset.open(tmp_path).classes) == set(folders)


@pytest.mark.parametrize(
    ("folder", "said"), [("unknown", "nobody knows the class"), ("NA", "stands for no label")]
)
def test_a_class_folder_whose_name_stands_for_none_is_said(tmp_path, folder, said):
    put(tmp_path, f"{folder}/1.png", "Blast/1.png")
    with pytest.warns(UserWarning, match=said):
        assert set(Dataset.open(tmp_path).classes) == {folder, "Blast"}


def test_a_misspelt_part_is_told_how_to_be_mended(tmp_path):
    put(tmp_path, *(f"{part}/{c}/1.png" for part in ("train", "vaild") for c in ("all", "hem")))
    assert "Rename vaild to val if it is that part" in refused(tmp_path)


@pytest.mark.parametrize(
    "pair",
    [("\u0420re", "Pre"), ("n\u043ermal", "normal"), ("\u0392", "B"), ("Pré", "Pre"), ("früh", "fruh")],
)  # fmt: skip
def test_classes_that_look_the_same_are_an_error_that_names_both(tmp_path, pair):
    put(tmp_path, *(f"{name}/1.png" for name in (*pair, "AML")))
    said = refused(tmp_path)
    assert "differ only in accents, or in letters of another script" in said
    assert all(repr(name) in said and ascii(name) in said for name in pair)


def test_letters_of_other_scripts_alone_are_classes(tmp_path):
    put(tmp_path, *(f"{name}/1.png" for name in ("норма", "β cell", "B cell", "バ", "ハ")))
    assert len(Dataset.open(tmp_path).classes) == 5


def test_further_spellings_of_the_four_classes_are_joined(tmp_path):
    put(
        tmp_path, *(f"{name}/1.png" for name in ("Early-Pre", "Early", "precursor B", "Pro-B cell"))
    )
    assert Dataset.open(tmp_path).counts == {"Early": 2, "Pre": 1, "Pro": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_a_set_and_its_images_can_be_pickled_and_copied(tmp_path, packed):
    names = ("Pre/1.png", "Pro/2.png")
    data = Dataset.open(
        zip_of(tmp_path / "s.zip", *names) if packed else put(tmp_path / "s", *names)
    )
    unpickled = pickle.loads(pickle.dumps(data))  # noqa: S301
    for again in (unpickled, copy.deepcopy(data)):
        assert list(again) == list(data)
        assert again.hashes == data.hashes
        assert again.samples[0].columns is data.samples[0].columns


# ── zips that are none, and zips without labels ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page.*download the file again"),
        (b"", "is empty"), (b"Rar!\x1a\7\0", "is a RAR archive.*Unpack it"),
        (b"PK\3\4 cut off", "copy or download it again"), (b"something", "make it again"),
    ],
)  # fmt: skip
def test_what_is_no_zip_is_named_with_a_way_out(tmp_path, content, said):
    (tmp_path / "s.zip").write_bytes(content)
    for read in (Dataset.open, Dataset.unlabelled, lambda path: find_images([str(path)])):
        with pytest.raises(DatasetError, match=said):
            read(tmp_path / "s.zip")


def test_a_zip_of_images_without_labels_is_read_as_the_folder_is(tmp_path):
    names = ("slide-1/1.png", "slide-2/1.png", "slide-2/2.png")
    place = zip_of(tmp_path / "s.zip", *names)
    data, whole = Dataset.unlabelled(place), Dataset.unlabelled(put(tmp_path / "s", *names))
    assert [(s.image, s.group, s.label) for s in data] == [
        (s.image, s.group, s.label) for s in whole
    ]
    assert data.hashes == whole.hashes
    units, _ = find_units([str(place)], "folder")
    assert list(units) == list(find_units([str(tmp_path / "s")], "folder")[0])
    (tmp_path / "s.tar.gz").touch()
    with pytest.raises(DatasetError, match="Unpack that archive first"):
        Dataset.unlabelled(tmp_path / "s.tar.gz")


# ── files that are no files ───────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.timeout(20)
def test_pipes_devices_folders_and_holes_that_are_named_like_images_are_refused_at_once(tmp_path):
    folder = put(tmp_path, "Pre/1.png") / "Pro"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    with (folder / "huge.png").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(DatasetError) as caught:
        Dataset.open(tmp_path).hashes  # noqa: B018
    said = str(caught.value)
    assert "pipe.png is not a regular file" in said
    assert "zero.png is not a regular file" in said
    assert "huge.png has 1,099,511,627,776 bytes; the limit is" in said
    assert not Dataset.open(tmp_path).drawn
    with pytest.raises(ImageError, match="is a folder"):
        read_regular(folder, "Pro")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.timeout(20)
def test_a_pipe_that_takes_the_place_of_a_file_before_it_is_opened_does_not_block(
    tmp_path, monkeypatch
):
    path = put(tmp_path, "1.png") / "1.png"
    real = os.open

    def swapped(place, flags, *rest, **named):
        if str(place) == str(path):
            path.unlink()
            os.mkfifo(path)
        return real(place, flags, *rest, **named)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(ImageError, match="not a regular file"):
        read_regular(path, "1.png")
