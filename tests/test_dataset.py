"""Sets of images: what is read, what is refused, how they are divided."""

import shutil
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from allkit import Dataset
from allkit.errors import DatasetError

NAMES = ("Benign", "Early", "Pre", "Pro")


def picture(path, value=0, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash((path.as_posix(), value))) % 2**32)
    Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "smears"
    for name in NAMES:
        for index in range(4):
            picture(root / name / f"{index}.png")
    return root


def table(tmp_path, text, images=("a.png", "b.png", "c.png", "d.png")):
    for name in images:
        picture(tmp_path / name)
    path = tmp_path / "index.csv"
    path.write_text(text)
    return path


def test_a_folder_of_class_folders_is_read_recursively_in_the_fixed_class_order(folder):
    picture(folder / "Pro" / "deep" / "er" / "x.jpg")
    (folder / "Pro" / "notes.txt").write_text("x")
    data = Dataset.from_folder(folder)
    assert data.classes == NAMES
    assert data.counts == {"Benign": 4, "Early": 4, "Pre": 4, "Pro": 5}
    assert data.left_out == ("Pro/notes.txt",)


def test_other_spellings_of_the_classes_are_understood(tmp_path):
    spellings = ["hematogones", "[Malignant] early Pre-B", "PRE-B", "Prognosis"]
    for name in spellings:
        picture(tmp_path / name / "1.png")
    data = Dataset.open(tmp_path)
    assert data.classes == NAMES
    assert [s.label for s in sorted(data, key=lambda s: s.image)] == [
        "Pre",
        "Pro",
        "Early",
        "Benign",
    ]


def test_any_other_label_set_is_taken_as_it_is_and_sorted(tmp_path):
    for name in ("hem", "all"):
        picture(tmp_path / name / "1.png")
    assert Dataset.open(tmp_path).classes == ("all", "hem")


def test_split_folders_become_parts(tmp_path):
    for part in ("train", "valid", "test"):
        for name in NAMES:
            picture(tmp_path / part / name / "1.png")
    data = Dataset.open(tmp_path)
    assert data.classes == NAMES
    assert len(data.part("train")) == len(data.part("val")) == len(data.part("test")) == 4


def test_a_folder_whose_classes_lie_a_level_deeper_says_which_one_to_give(tmp_path):
    for top in ("Original", "Segmented"):
        for name in NAMES:
            picture(tmp_path / top / name / "1.png")
    with pytest.raises(DatasetError, match=r"for example .*Original"):
        Dataset.open(tmp_path)


def test_a_folder_without_class_folders_is_refused(tmp_path):
    picture(tmp_path / "1.png")
    with pytest.raises(DatasetError, match="no class folders"):
        Dataset.open(tmp_path)


def test_images_outside_the_class_folders_are_named(folder):
    picture(folder / "stray.png")
    with pytest.raises(DatasetError, match=r"stray\.png lies outside"):
        Dataset.open(folder)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        Dataset.open(tmp_path / "empty")
    with pytest.raises(DatasetError, match="does not exist"):
        Dataset.open(tmp_path / "nowhere")


def test_a_link_that_loops_is_not_followed(folder):
    (folder / "Pro" / "loop").symlink_to(folder)
    assert len(Dataset.open(folder)) == 16


def test_a_table_keeps_groups_cases_and_parts_and_ignores_other_columns(tmp_path):
    path = table(
        tmp_path,
        "﻿image,label,group,case,split,colour\n"
        "a.png,Pro,g1,p1,train,red\nb.png,pre,g2,,TEST,red\nc.png,Early,,p3,validation,\n",
    )
    data = Dataset.from_csv(path)
    assert [(s.label, s.group, s.case, s.part) for s in data] == [
        ("Pro", "g1", "p1", "train"),
        ("Pre", "g2", None, "test"),
        ("Early", None, "p3", "val"),
    ]


def test_tsv_parquet_and_a_data_frame_give_the_same_set(tmp_path):
    path = table(tmp_path, "image,label,group\na.png,Pro,1\nb.png,Pre,2\n")
    frame = pd.read_csv(path)
    frame.to_parquet(tmp_path / "index.parquet")
    frame.to_csv(tmp_path / "index.tsv", sep="\t", index=False)
    sets = [
        Dataset.open(path),
        Dataset.open(tmp_path / "index.parquet"),
        Dataset.open(tmp_path / "index.tsv"),
        Dataset.from_dataframe(frame, tmp_path),
    ]
    assert len({data.fingerprint for data in sets}) == 1
    assert [s.group for s in sets[1]] == ["1", "2"]


def test_a_data_frame_may_hold_the_bytes_of_images(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    frame = pd.DataFrame({"image": [data, data], "label": ["Pro", "Pre"]})
    assert Dataset.from_dataframe(frame).read(1).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,class\na.png,Pro\n", "no column 'image' and no column 'label'"),
        ("image,label\n", "no rows"),
        ("image,label\na.png,Pro\nnone.png,Pre\n", "line 3: none.png does not exist"),
        ("image,label\na.png,\nb.png,Pre\n", "line 2: a.png has no label"),
        ("image,label\n,Pro\n", "line 2: no image"),
        ("image,label\na.png,Pro\na.png,Pre\n", "under two labels"),
        ("image,label\na.png,Pro\na.png,Pro\n", "listed again"),
        ("image,label\na.png,cat\nb.png,Cat \n", "differ in case or spacing"),
        ("image,label,split\na.png,Pro,later\n", "split is 'later'"),
        ("image,label,fold\na.png,Pro,x\n", "fold is 'x'"),
    ],
)
def test_a_table_with_mistakes_names_each_row(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.from_csv(table(tmp_path, text))


def test_all_mistakes_are_counted_though_not_all_are_written_out(tmp_path):
    rows = "".join(f"missing{i}.png,Pro\n" for i in range(50))
    with pytest.raises(DatasetError, match="and 30 more"):
        Dataset.from_csv(table(tmp_path, "image,label\n" + rows))


def test_a_table_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\x89\x01" * 10)
    with pytest.raises(DatasetError, match="cannot be read as a table"):
        Dataset.open(path)


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_a_zip_reads_like_its_folder_also_with_one_folder_on_top(folder, tmp_path):
    plain = Dataset.from_folder(folder)
    for prefix in ("", "smears/"):
        data = Dataset.open(zipped(folder, tmp_path / "z.zip", prefix))
        assert data.fingerprint == plain.fingerprint
        assert data.samples[0].image == "Benign/0.png"
        (tmp_path / "z.zip").unlink()


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "C:/evil.png", "a/../../b.png"])
def test_a_zip_with_an_unsafe_path_is_refused_whole(tmp_path, name):
    path = tmp_path / f"{abs(hash(name))}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DatasetError, match="unsafe path"):
        Dataset.open(path)


def test_a_zip_bomb_and_a_zip_with_a_link_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Pro/1.png", bytes(50_000_000))
    with pytest.raises(DatasetError, match="unpacks from"):
        Dataset.open(tmp_path / "bomb.zip")
    link = zipfile.ZipInfo("Pro/1.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="holds a link"):
        Dataset.open(tmp_path / "link.zip")


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"not a zip")
    with pytest.raises(DatasetError, match="not a readable zip"):
        Dataset.open(tmp_path / "x.zip")


# ── dividing ──────────────────────────────────────────────────────────────────────────────────


def grouped(tmp_path, groups=12, each=5):
    rows = ["image,label,group"]
    for group in range(groups):
        for index in range(each):
            name = f"g{group}_{index}.png"
            picture(tmp_path / name)
            rows.append(f"{name},{NAMES[group % 4]},g{group}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(rows))
    return Dataset.open(path)


def test_no_group_is_on_two_sides_and_every_class_on_every_side(tmp_path):
    data = grouped(tmp_path)
    for seed in range(5):
        split = data.split(test=0.3, val=0.2, seed=seed)
        sides = [split.train, split.val, split.test]
        assert sum(map(len, sides)) == len(data)
        groups = [{s.group for s in side} for side in sides]
        assert not (groups[0] & groups[1])
        assert not (groups[0] & groups[2])
        assert not (groups[1] & groups[2])
        assert all(set(side.counts) == set(NAMES) for side in sides)
    assert data.split(seed=1).fingerprint == data.split(seed=1).fingerprint
    assert data.split(seed=1).fingerprint != data.split(seed=2).fingerprint


def test_a_case_and_byte_identical_images_are_kept_whole_too(tmp_path):
    rows = ["image,label,group,case"]
    for index in range(40):
        picture(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{NAMES[index % 4]},g{index},case{index // 8}-{index % 4}")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    rows.append("copy.png,Benign,other,other")
    (tmp_path / "i.csv").write_text("\n".join(rows))
    data = Dataset.open(tmp_path / "i.csv")
    for seed in range(5):
        split = data.split(test=0.4, seed=seed)
        train, test = ({s.case for s in side} for side in (split.train, split.test))
        assert not train & test
        assert not set(split.train.hashes) & set(split.test.hashes)


def test_folds_hold_every_image_once_for_testing(tmp_path):
    data = grouped(tmp_path)
    folds = data.folds(3, seed=4)
    tested = [s.image for fold in folds for s in fold.test]
    assert sorted(tested) == sorted(s.image for s in data)
    for fold in folds:
        assert not {s.group for s in fold.train} & {s.group for s in fold.test}


def test_a_written_division_is_read_back_the_same_from_another_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    split = grouped(tmp_path / "data").split(test=0.3, seed=0)
    split.to_csv(tmp_path / "out" / "split.csv")
    again = Dataset.open(tmp_path / "out" / "split.csv")
    assert [s.part for s in again] == [s.part for s in split.whole]
    assert again.part("test").fingerprint == split.test.fingerprint
    assert again.split_by == "group"
    assert f",{split.fingerprint}\n" in (tmp_path / "out" / "split.csv").read_text()


def test_written_folds_are_taken_as_they_are(tmp_path):
    data = grouped(tmp_path)
    data.to_folds_csv(tmp_path / "folds.csv", 3, seed=7)
    again = Dataset.open(tmp_path / "folds.csv")
    ours, theirs = data.folds(3, seed=7), again.folds(3, seed=99)
    assert [f.test.fingerprint for f in ours] == [f.test.fingerprint for f in theirs]


def test_the_image_level_split_is_labelled_and_ignores_groups(tmp_path):
    split = grouped(tmp_path).split(test=0.3, by="image", seed=0)
    assert {s.group for s in split.train} & {s.group for s in split.test}
    assert split.test.split_by == "image"
    assert all(split.test.counts[name] == pytest.approx(4.5, abs=1) for name in NAMES)


def test_a_class_with_too_few_groups_is_named(tmp_path):
    data = grouped(tmp_path, groups=6)  # two groups of Benign and Early, one of Pre and Pro
    with pytest.raises(DatasetError, match=r"'Pre' has 1 group \(5 images\); 'Pro' has 1 group"):
        data.split(test=0.3)


def test_without_groups_one_warning_says_so(folder):
    data = Dataset.open(folder)
    with pytest.warns(UserWarning, match="has no groups") as caught:
        data.split(test=0.5)
    assert len(caught) == 1


def test_a_set_with_groups_is_divided_without_a_warning(tmp_path):
    data = grouped(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.split(test=0.3)


@pytest.mark.parametrize(("test", "val"), [(0.0, 0.0), (1.0, 0.0), (0.6, 0.4), (-0.1, 0.2)])
def test_shares_that_leave_nothing_are_refused(tmp_path, test, val):
    with pytest.raises(DatasetError, match="shares"):
        grouped(tmp_path).split(test=test, val=val)


def test_every_unreadable_image_is_listed(folder):
    (folder / "Pro" / "0.png").write_bytes(b"")
    (folder / "Pre" / "1.png").write_text("text")
    with pytest.raises(DatasetError) as caught:
        Dataset.open(folder).verify()
    assert "2 of 16 images" in str(caught.value)
    assert "Pro/0.png" in str(caught.value)
    assert "Pre/1.png" in str(caught.value)


def test_the_fingerprint_follows_bytes_and_labels_not_names_or_order(folder, tmp_path):
    before = Dataset.open(folder).fingerprint
    (folder / "Pro" / "0.png").rename(folder / "Pro" / "zzz.png")
    assert Dataset.open(folder).fingerprint == before
    (folder / "Pro" / "zzz.png").rename(folder / "Pre" / "zzz.png")
    assert Dataset.open(folder).fingerprint != before


# ── fields, columns, further forms ─────────────────────────────────────────────────────────


@pytest.mark.slow
def test_images_of_one_field_lie_on_one_side_though_nothing_says_so(tmp_path):
    from allkit.data.drawn import write_smears

    index = write_smears(tmp_path / "set", 32, groups=8, seed=5, same_fields=12)
    known = Dataset.open(index)
    unknown = Dataset([type(s)(s.image, s.source, s.label) for s in known], known.classes)
    with pytest.warns(UserWarning, match="has no groups"):
        split = unknown.split(test=0.4, seed=1)
    side = {s.image: s.part for s in split.whole}
    pairs = [(unknown.samples[p.a].image, unknown.samples[p.b].image) for p in unknown.duplicates]
    assert len(pairs) >= 9
    assert all(side[a] == side[b] for a, b in pairs)


def test_near_duplicates_that_a_table_names_are_believed(tmp_path):
    rows = "image,label,near_duplicate_of\na.png,Pro,1\nb.png,Pre,2\nc.png,Pro,1\nd.png,Pre,4\n"
    data = Dataset.open(table(tmp_path, rows))
    assert data.fields.tolist() == [0, 1, 0, 2]


@pytest.mark.slow
def test_a_column_of_near_duplicates_does_not_hide_those_it_leaves_out(tmp_path):
    from dataclasses import replace

    from allkit.data.drawn import write_smears

    known = Dataset.open(write_smears(tmp_path / "set", 32, groups=8, seed=5, same_fields=12))
    alone = [
        type(s)(s.image, s.source, s.label, columns={"near_duplicate_of": str(number)})
        for number, s in enumerate(known)
    ]
    data = Dataset(alone, known.classes)
    assert data.duplicates
    assert all(data.fields[pair.a] == data.fields[pair.b] for pair in data.duplicates)
    joined = Dataset([replace(s, columns={"near_duplicate_of": "1"}) for s in alone], data.classes)
    assert len(set(joined.fields.tolist())) == 1


def test_groups_from_names_keep_what_is_known_of_the_division(tmp_path):
    rows = "image,label,split,split_by\na.png,Pro,train,image\nb.png,Pre,test,image\nc.png,Pro,test,image\nd.png,Pre,train,image\n"
    data = Dataset.open(table(tmp_path, rows)).with_groups("(.)")
    assert data.split_by == "image"
    assert [s.part for s in data] == ["train", "test", "test", "train"]


def test_further_columns_are_kept_and_written_again(tmp_path):
    rows = "image,label,group,series,note\na.png,Pro,1,S1,x\nb.png,Pre,2,S1,\nc.png,Pro,3,S2,y\nd.png,Pre,4,S2,\n"
    data = Dataset.open(table(tmp_path, rows))
    assert data.column("series") == ["S1", "S1", "S2", "S2"]
    assert data.column("note") == ["x", None, "y", None]
    data.split(test=0.5).to_csv(tmp_path / "split.csv")
    assert Dataset.open(tmp_path / "split.csv").column("series") == data.column("series")
    with pytest.raises(
        DatasetError, match=r"no column 'hospital'\. It has: group, case, note, series"
    ):
        data.column("hospital")


def test_leaving_one_out_drops_relatives_of_the_test_and_counts_them(tmp_path):
    rows = (
        "image,label,group,series\na.png,Pro,1,S1\nb.png,Pre,2,S1\nc.png,Pro,1,S2\nd.png,Pre,4,S2\n"
    )
    data = Dataset.open(table(tmp_path, rows))
    first, second = data.leave_one_group_out("series")
    assert (first.held_out, second.held_out) == ("S1", "S2")
    assert [s.image for s in first.test] == ["a.png", "b.png"]
    assert [s.image for s in first.train] == ["d.png"]
    assert first.dropped == 1
    with pytest.raises(DatasetError, match="have no 'case'"):
        list(data.leave_one_group_out("case"))


@pytest.mark.slow
def test_leave_one_group_out_is_written_as_folds_that_training_takes(cli, tmp_path):
    from allkit.data.drawn import write_smears

    index = write_smears(tmp_path / "set", 32, groups=8, seed=5)
    status, _, err = cli("split", index, "--out", "loo.csv", "--scheme", "leave-one-group-out")
    assert status == 0, err
    assert "8 folds" in err
    data = Dataset.open(tmp_path / "loo.csv")
    splits = data.folds(8)
    assert all(len({s.group for s in split.test}) == 1 for split in splits)
    assert sum(len(split.test) for split in splits) == 32
    status, _, err = cli("split", index, "--out", "x.csv", "--scheme", "leave-one-out")
    assert status == 2
    assert "leave-one-group-out" in err


def test_groups_can_be_taken_from_the_names(folder, cli):
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(f"UID_{int(path.stem) % 2}_{path.name}"))
    data = Dataset.open(folder).with_groups(r"UID_(\d+)_")
    assert {s.group for s in data} == {"0", "1"}
    with pytest.raises(DatasetError, match="no brackets"):
        Dataset.open(folder).with_groups("UID")
    with pytest.raises(DatasetError, match="finds no group in 16 of 16 names"):
        Dataset.open(folder).with_groups("case-(.)")
    status, _, err = cli("split", folder, "--out", "s.csv", "--group-pattern", r"UID_(\d+)_")
    assert status == 0, err


def test_a_hugging_face_image_folder_is_read(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        picture(tmp_path / part / f"{name}.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\na.png,Pro\nb.png,Pre\n")
    (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "c.png", "label": "Pro"}\n')
    data = Dataset.open(tmp_path)
    assert {(s.image, s.label, s.part) for s in data} == {
        ("train/a.png", "Pro", "train"),
        ("train/b.png", "Pre", "train"),
        ("test/c.png", "Pro", "test"),
    }
    (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "c.png"\n')
    with pytest.raises(DatasetError, match="line 1: not a JSON object"):
        Dataset.open(tmp_path)


def test_a_hugging_face_table_with_the_images_in_it_is_read(tmp_path):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [picture(tmp_path / f"{n}.png", n).read_bytes() for n in range(2)]
    rows = pa.table(
        {
            "image": [{"bytes": files[0], "path": "x.png"}, {"bytes": files[1], "path": "y.png"}],
            "label": [1, 0],
        }
    )
    features = {"info": {"features": {"label": {"names": ["Pre", "Pro"]}}}}
    rows = rows.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(rows, tmp_path / "set.parquet")
    data = Dataset.open(tmp_path / "set.parquet")
    assert [(s.image, s.label) for s in data] == [("x.png", "Pro"), ("y.png", "Pre")]
    assert data.read(0).shape == (40, 40, 3)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        Dataset.open(tmp_path / "broken.parquet")


def test_labels_that_are_names_of_images_are_refused(tmp_path):
    names = [f"{n}.png" for n in range(30)]
    rows = "image,label\n" + "\n".join(f"{n},{n}" for n in names)
    with pytest.raises(DatasetError, match="30 different labels on 30 images"):
        Dataset.open(table(tmp_path, rows, names))


def test_an_unreadable_folder_is_named(folder, monkeypatch):
    import os

    real = os.scandir

    def scandir(place):
        if str(place).rstrip("/").endswith("Pro/locked"):
            raise PermissionError(13, "Permission denied", place)
        return real(place)

    (folder / "Pro" / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"Pro/locked/? cannot be opened: Permission denied"):
        Dataset.open(folder)


def test_a_link_to_a_folder_is_not_followed_and_is_named(folder):
    (folder / "Pro" / "round").symlink_to(folder, target_is_directory=True)
    assert "Pro/round/" in Dataset.open(folder).left_out


@pytest.mark.slow
def test_a_division_that_leaks_is_told_when_training_starts(cli, folder, tmp_path):
    shutil.copy(folder / "Pro" / "0.png", folder / "Pro" / "again.png")
    names = [p.relative_to(tmp_path).as_posix() for p in sorted(folder.rglob("*.png"))]
    lines = [f"{n},{n.split('/')[1]},{'test' if 'again' in n else 'train'}" for n in names]
    (tmp_path / "split.csv").write_text("image,label,split\n" + "\n".join(lines))
    settings = ["--backbone", "timm:test_resnet", "--weights", "none", "--epochs", "1"]
    status, _, err = cli("train", "split.csv", "--out", "model", *settings)
    assert status == 0, err
    assert "lie on two sides of the division" in err


@pytest.mark.slow
def test_training_looks_at_each_image_for_its_field_once(cli, tmp_path, monkeypatch):
    from allkit.data import relations as module
    from allkit.data.drawn import write_smears

    Dataset.open(write_smears(tmp_path / "set", 32, groups=16, seed=5)).split(0.3).to_csv(
        tmp_path / "split.csv"
    )
    looked = []
    real = module.signature
    monkeypatch.setattr(module, "signature", lambda *a: looked.append(a[1]) or real(*a))
    settings = ["--backbone", "timm:test_resnet", "--weights", "none", "--epochs", "1"]
    assert cli("train", "split.csv", "--out", "model", *settings)[0] == 0
    assert len(looked) == 32


def test_the_summary_and_the_contact_sheet_show_what_is_there(tmp_path):
    from allkit.data.drawn import write_smears

    data = Dataset.open(write_smears(tmp_path / "set", 16, groups=8, seed=5))
    text = data.summary()
    assert "16 images" in text
    assert "Benign" in text
    assert "groups" in text
    figure = data.show(per_class=2)
    figure.savefig(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 300


def test_images_that_nobody_named_have_no_label_and_no_class(tmp_path):
    picture(tmp_path / "slide" / "a.png")
    picture(tmp_path / "slide" / "b.png")
    data = Dataset.unlabelled(tmp_path)
    assert [s.label for s in data] == [None, None]
    assert data.classes == ()
    assert not data.labelled
    assert not data.counts
    assert data.labels.tolist() == [-1, -1]
    assert repr(data).endswith("2 images (no labels)>")
    assert "no label" in data.summary()
    with pytest.raises(DatasetError, match=r"2 of 2 images of .* have no label"):
        data.label_names  # noqa: B018 - that it is refused is what is tested


def test_the_table_of_images_without_labels_has_an_empty_column(tmp_path):
    picture(tmp_path / "slide" / "a.png")
    data = Dataset.unlabelled(tmp_path)
    data.to_csv(tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text()
    assert text.splitlines() == ["image,label,group,case", "slide/a.png,,slide,"]


def test_a_set_of_the_same_images_does_not_look_at_them_again(folder, monkeypatch):
    data = Dataset.open(folder)
    hashes, signatures = data.hashes, data.signatures
    monkeypatch.setattr("allkit.data.passes.ImagePasses._hashed", None)
    monkeypatch.setattr("allkit.data.relations.signature", None)
    part = data.subset([3, 1])
    assert part.hashes == (hashes[3], hashes[1])
    assert [s.sha256 for s in part.signatures] == [hashes[3], hashes[1]]
    assert part.signatures[0].keypoints.tolist() == signatures[3].keypoints.tolist()
    assert data.with_groups(r"(\d)\.png").hashes == hashes


@pytest.fixture
def smear():
    """The bytes of one drawn smear as a file."""
    from allkit.data.drawn import as_png, draw_smears

    return as_png(next(draw_smears(1, size=64))).read()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_an_image_of_the_user_is_not_taken_for_a_drawn_one_by_its_name(tmp_path):
    for name in NAMES[:2]:
        picture(tmp_path / name / "drawn-00001.png")
    assert not Dataset.open(tmp_path).drawn


def test_drawn_smears_are_known_under_any_name_in_any_form(tmp_path, smear):
    root = tmp_path / "mine"
    for index, name in enumerate(("Benign/x.png", "Benign/y.png", "Pro/x.png", "Pro/y.png")):
        put(root / name, smear + bytes(index))  # what stands behind an image is not looked at
    data = Dataset.open(root)
    assert data.drawn
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root).as_posix())
    assert Dataset.open(tmp_path / "mine.zip").drawn
    data.split(test=0.5, by="image").to_csv(tmp_path / "split.csv")
    assert Dataset.open(tmp_path / "split.csv").part("test").drawn
    assert Dataset.sample(4, groups=4).drawn


def test_one_drawn_image_among_others_is_told(tmp_path, smear):
    picture(tmp_path / "Benign" / "a.png")
    put(tmp_path / "Pro" / "b.png", b"")
    assert not Dataset.open(tmp_path).drawn
    assert not Dataset([]).drawn
    put(tmp_path / "Pro" / "c.png", smear)
    assert Dataset.open(tmp_path).drawn


def test_what_a_drawn_file_says_changes_none_of_its_pixels(smear):
    from allkit.data.drawn import draw_smears
    from allkit.images.decode import read_image

    assert (read_image(smear) == next(draw_smears(1, size=64)).image).all()
