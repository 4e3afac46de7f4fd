"""Tables with gaps, numbers and names as other programs write them, and output in any encoding."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from allkit.data.dataset import Dataset
from allkit.data.listed import table_images
from allkit.data.mapping import LabelMap
from allkit.data.relations import leaks_of
from allkit.errors import DatasetError
from allkit.volume.units import find_units


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c.png", "=cmd.png", "-x.png"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def opened(folder, text, name="t.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return Dataset.open(folder / name)


def test_a_slide_that_went_through_floats_is_the_slide_of_the_other_table(folder):
    frame = pd.DataFrame(
        {"image": ["a.png", "b.png"], "label": ["Pro", "Pre"], "group": [101, None]}
    )
    frame.to_parquet(folder / "train.parquet")
    frame.to_csv(folder / "train.csv", index=False)
    for train in ("train.parquet", "train.csv"):
        groups = [s.group for s in Dataset.open(folder / train)]
        assert groups == [
            s.group for s in opened(folder, "image,label,group\na.png,Pro,101\nb.png,Pre,\n")
        ]


def groups(folder, *three, between=","):
    rows = zip(("a.png", "b.png", "c.png"), ("Pro", "Pre", "Pre"), three, strict=True)
    lines = [("image", "label", "group"), *rows]
    data = opened(folder, "".join(f"{between.join(line)}\n" for line in lines))
    return [s.group for s in data]


def test_numbers_with_leading_zeros_stay_as_they_are(folder):
    assert groups(folder, "007", "010", "S3") == ["007", "010", "S3"]


@pytest.mark.parametrize("other", ["S3", "007", "inf", "Infinity", "1E5"])
def test_a_text_among_numbers_does_not_make_two_slides_of_one(folder, other):
    assert groups(folder, "101.0", "101", other) == ["101", "101", other]


def test_numbers_with_a_real_fraction_stay_as_they_are(folder):
    assert groups(folder, "1.0", "1.5", "2.0") == ["1.0", "1.5", "2.0"]
    assert groups(folder, "1,0", "1,5", "2,0", between=";") == ["1,0", "1,5", "2,0"]
    assert groups(folder, "1,000", "1,234", "3", between=";") == ["1,000", "1,234", "3"]


def test_only_a_fold_that_is_none_is_named(folder):
    with pytest.raises(
        DatasetError, match=r"it is:\n  line 3: fold is '0.5'; wanted a whole number$"
    ):
        opened(folder, "image,label,fold\na.png,Pro,0.0\nb.png,Pre,0.5\nc.png,Pre,2.0\n")


def test_a_decimal_comma_and_a_point_at_the_end_make_no_other_slide(folder):
    assert groups(folder, "101,0", "101", "101.", between=";") == ["101"] * 3
    with pytest.raises(DatasetError, match="1,01234E\\+11, a number whose last digits are lost"):
        groups(folder, "1,01234E+11", "1,01234E+11", "3", between=";")


SAME = {
    "Müller": "Mu\u0308ller", "S 1": "S\xa01", "S 2": "S  2", "S1": "Ｓ１", "S 3": "S\u30003",
    "12": "１２", "12.5": "１２.５", "ｶﾞ": "ガ", "S 4": "S\u2009 4",
}  # fmt: skip


@pytest.mark.parametrize("one", SAME)
def test_a_name_in_two_forms_of_unicode_is_one_name(folder, one):
    first, second, other = groups(folder, one, SAME[one], "s1")
    assert first == second != other
    (folder / "p.csv").write_text(f"image,slide\na.png,{one}\nb.png,{SAME[one]}\n", "utf-8")
    units, _ = find_units([str(folder / "p.csv")], "slide")
    assert units.names == [first]
    data = opened(folder, f"image,label\na.png,{one}\nb.png,{SAME[one]}\nc.png,other\n")
    assert len(data.classes) == 2


def test_a_leak_shows_through_every_form_of_a_name(folder):
    head = "image,label,group,split\n"
    for first, second in [*SAME.items(), ("101.0", "101"), ("101.", "101")]:
        rows = f"a.png,Pro,{first},train\nb.png,Pre,{second},test\nc.png,Pre,S3,train\n"
        data = opened(folder, head + rows)
        parts = [s.part for s in data]
        assert leaks_of(parts, data.units, data.units), (first, second)


NO_ORIGIN = [
    "unknown", "Missing", "not available", "nd", "-99", "-999", "-9.0", "−1", "-1.", "n. a.", "k.A.",
    "(blank)", "..", "…", "[null]", "#¡VALOR!", "#¿NOMBRE?", "#NENÍ_K_DISPOZICI", "#HIÁNYZIK", "''",
    "#GETTING_DATA", "NA_character_", "NA_integer_", "pd.NA", "N.A", "???", '""""""',
]  # fmt: skip


@pytest.mark.parametrize("word", NO_ORIGIN)
def test_words_for_no_value_are_no_slide_and_are_counted(folder, word):
    with pytest.warns(UserWarning, match="1 cell taken as missing"):
        assert groups(folder, "101", "102", word) == ["101", "102", None]
    (folder / "p.csv").write_text(f"image,slide\na.png,1\nb.png,{word}\n", "utf-8")
    with pytest.raises(DatasetError, match="stands for nothing"):
        find_units([str(folder / "p.csv")], "slide")


@pytest.mark.parametrize("word", [*NO_ORIGIN[7:], "-99"])
def test_words_for_no_value_are_no_class(folder, word):
    with pytest.raises(DatasetError, match=r"c.png has no label"):
        opened(folder, f"image,label\na.png,Pro\nb.png,Pre\nc.png,{word}\n")


@pytest.mark.parametrize("word", ["unknown", "Missing", "not available", "ND", "-9"])
def test_a_class_that_may_stand_for_no_value_is_kept_and_said(folder, word):
    with pytest.warns(UserWarning, match=rf"may stand for no value: '{word}' \(1\)"):
        data = opened(folder, f"image,label\na.png,Pro\nb.png,Pre\nc.png,{word}\n")
    assert word in data.classes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "word", ["9999", "0", "x", "empty", "S-1", "(1)", "#12", "A?", "CD10-", "NB", "N"]
)
def test_usual_names_stand_for_themselves(folder, word):
    assert groups(folder, "101", "102", word) == ["101", "102", word]
    data = opened(folder, f"image,label\na.png,Pro\nb.png,Pre\nc.png,{word}\n")
    assert word in data.classes


def test_a_frame_may_hold_infinite_decimals_and_names_its_folder(folder):
    import decimal

    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["Pro", "Pre"]})
    frame["group"] = [decimal.Decimal("Infinity"), decimal.Decimal("7.0")]
    assert [s.group for s in Dataset.from_dataframe(frame, folder)] == ["inf", "7"]
    with pytest.raises(DatasetError, match="The folder of the images is None"):
        Dataset.from_dataframe(frame, None)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
PAGE = "<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "metadata.jsonl"])
@pytest.mark.parametrize(("text", "said"), [(POINTER, "Git LFS"), (PAGE, "a web page")])
def test_what_was_saved_in_place_of_a_table_is_named(folder, name, text, said):
    (folder / name).write_text(text)
    with pytest.raises(DatasetError, match=said):
        Dataset.open(folder if name.endswith("jsonl") else folder / name)
    if not name.endswith("jsonl"):
        with pytest.raises(DatasetError, match=said):
            list(table_images(folder / name))


READ = {
    "empty cells too many": "image;label\na.png;Pro;;\nb.png;Pre\n",
    "Ctrl-Z": "image,label\na.png,Pro\nb.png,Pre\n\x1a",
    "Ctrl-Z behind the last row": "image,label\na.png,Pro\nb.png,Pre\x1a",
    "remark": "# made by R\n#\nimage,label\na.png,Pro\nb.png,Pre\n",
    "wrong sep=": "sep=,\nimage;label\na.png;Pro\nb.png;Pre\n",
    "sep= saved again": "sep=;;\nimage;label;\na.png;Pro;\nb.png;Pre;\n",
    "tab spelled out": "sep=\\t\nimage\tlabel\na.png\tPro\nb.png\tPre\n",
    "nothing told": "sep=\nimage,label\na.png,Pro\nb.png,Pre\n",
    "caret": "sep=^\nimage^label\na.png^Pro\nb.png^Pre\n",
    "a page in a remark": "image,label,remark\na.png,Pro,see <html>\nb.png,Pre,\n",
}


@pytest.mark.parametrize("name", READ)
def test_what_programs_add_to_a_table_is_no_fault(folder, name):
    data = opened(folder, READ[name])
    assert [(s.image, s.label) for s in data] == [("a.png", "Pro"), ("b.png", "Pre")]


REFUSED = {
    "Results 2024,,\n\nimage,label,group\na.png,Pro,1\n": "they stand in line 3. Delete",
    "image,label,group\na.png,Pro,1\nb.png,Pre\n": "line 3: 2 cells, and the header has 3; write a comma",
    "image,label\na.png,Pro,x\nb.png,Pre\n": "line 2: 3 cells, .*quotation marks around",
    '"image","label"\n"1","a.png","Pro"\n"2","b.png","Pre"\n': "row.names = FALSE",
    'image,label\n"a.png,Pro"\nb.png,Pre\n': "line 2: .* stands in quotation marks",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_row_that_does_not_fit_is_refused_with_its_own_cause(folder, text):
    with pytest.raises(DatasetError, match=REFUSED[text]):
        opened(folder, text)


def lines_of_json(folder, data):
    (folder / "metadata.jsonl").write_bytes(data if isinstance(data, bytes) else data.encode())
    return [(s.image, s.label, s.columns) for s in Dataset.open(folder)]


TWO = '{"file_name": "a.png", "label": "Pro"}\n{"file_name": "b.png", "label": "Pre"}\n'


@pytest.mark.parametrize("data", [
    TWO.encode("utf-8-sig"), TWO.encode("utf-16"), TWO.replace("\n", "\r\n").encode(),
    TWO.replace("file_name", "File_Name").replace("label", "LABEL").encode(), TWO.encode() + b"\x1a",
])  # fmt: skip
def test_json_lines_are_read_as_programs_write_them(folder, data):
    assert lines_of_json(folder, data) == [("a.png", "Pro", {}), ("b.png", "Pre", {})]


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\u2029", "\x0c"])
def test_only_a_line_feed_ends_a_line_of_json(folder, sign):
    sign = sign if sign != "\x0c" else "\\f"
    first = f'{{"file_name": "a.png", "label": "Pro", "remark": "x{sign}y"}}\n'
    assert len(lines_of_json(folder, first + TWO.split("\n")[1])) == 2


@pytest.mark.parametrize(("data", "said"), [
    (TWO.replace("Pro", "Prö").encode("cp1252"), "no text in UTF-8 .0xF6|no text in UTF-8 .it holds the byte"),
    (TWO.replace('"b.png"', "7"), "line 2: file_name is 7, which is no text"),
    (TWO.replace('"b.png"', "0"), "line 2: file_name is 0, which is no text"),
    (TWO + "[1]\n", "line 3: not a JSON object"),
    (TWO.replace('"label": "Pro"', '"label": "Pro", "label": "Pre"'), "line 1: it has 'label' twice"),
])  # fmt: skip
def test_a_line_of_json_that_cannot_be_used_is_named(folder, data, said):
    with pytest.raises(DatasetError, match=said):
        lines_of_json(folder, data)


def hub(folder, names, labels):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    told = {"info": {"features": {"label": {"names": names}}}}
    table = pa.table({"image": ["a.png", "b.png"], "label": labels})
    table = table.replace_schema_metadata({b"huggingface": json.dumps(told).encode()})
    pq.write_table(table, folder / "h.parquet")
    return [s.label for s in Dataset.open(folder / "h.parquet")]


def test_truth_values_have_the_names_of_the_hub_and_names_are_those_of_one_class(folder):
    assert hub(folder, ["Pre", "Pro"], [False, True]) == ["Pre", "Pro"]
    with pytest.raises(DatasetError, match="names two classes 'Pre'"):
        hub(folder, ["Pre", "Pre"], [0, 1])


def test_what_was_taken_as_missing_is_said_once(folder):
    with pytest.warns(UserWarning, match=r"2 cells taken as missing \('NA' 1 times, '-' 1 times\)"):
        data = opened(folder, "image,label,group,case\na.png,Pro,NA,-\nb.png,Pre,1,2\n")
    assert [(s.group, s.case) for s in data] == [(None, None), ("1", "2")]


@pytest.mark.filterwarnings("ignore:.*taken as missing")
def test_an_unknown_class_of_the_hub_is_no_class(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = b'{"info": {"features": {"label": {"names": ["Pre", "Pro"]}}}}'
    for labels, wrong in (
        ([0, 1], None),
        ([0, -1], "row 1: b.png has no label"),
        ([0, 2], "names 2 classes"),
    ):
        table = pa.table({"image": ["a.png", "b.png"], "label": labels})
        pq.write_table(table.replace_schema_metadata({b"huggingface": told}), folder / "h.parquet")
        if wrong is None:
            assert Dataset.open(folder / "h.parquet").label_names == ["Pre", "Pro"]
        else:
            with pytest.raises(DatasetError, match=wrong):
                Dataset.open(folder / "h.parquet")


def test_every_line_with_cells_that_do_not_fit_is_named(folder):
    with pytest.raises(DatasetError, match=r"(?s)line 2: 3 cells.*line 4: 1 cells"):
        opened(folder, "image,label\na.png,x,Pro\nb.png,Pre\nc.png\n")


def test_predict_names_the_line_of_a_cell_too_many(folder):
    (folder / "p.csv").write_text("image,remark\na.png,fine\nb.png,small, round\n")
    with pytest.raises(DatasetError, match="line 3: 3 cells"):
        list(table_images(folder / "p.csv"))


def test_slides_of_predict_are_in_one_form_and_none_is_missing(folder):
    (folder / "p.csv").write_text("image;Slide\na.png;7.0\nb.png;8.0\nc.png;7.0\n")
    units, _ = find_units([str(folder / "p.csv")], "slide")
    assert units.names == ["7", "8"]
    (folder / "p.csv").write_text("image;Slide\na.png;7\nb.png;#N/A\n")
    with pytest.raises(DatasetError, match=r"Line 3 .*'#N/A', which stands for nothing"):
        find_units([str(folder / "p.csv")], "slide")


def test_a_label_map_may_come_from_a_european_spreadsheet(tmp_path):
    (tmp_path / "m.csv").write_bytes("Label;Class\nhem;Benign\nall;malignant\n".encode("utf-16"))
    assert LabelMap.read(tmp_path / "m.csv").labels == {"hem": "Benign", "all": "malignant"}


def test_names_that_a_spreadsheet_would_compute_come_back_as_they_were(folder):
    rows = "image,label,group,case\n=cmd.png,Pro,=1+1,+49 1\n-x.png,Pre,@x,-2b\n"
    first = opened(folder, rows)
    first.to_csv(folder / "again.csv")
    written = (folder / "again.csv").read_text(encoding="utf-8")
    assert written.splitlines()[1:] == ["./=cmd.png,Pro,'=1+1,'+49 1", "./-x.png,Pre,'@x,'-2b"]
    again = Dataset.open(folder / "again.csv")
    assert [(s.group, s.case) for s in again] == [(s.group, s.case) for s in first]
    assert [s.source.path for s in again] == [s.source.path for s in first]


def program(*args, **options):
    return subprocess.run([sys.executable, "-m", "allkit", *args], timeout=100, **options)


@pytest.mark.slow
def test_a_command_writes_in_any_encoding_and_ends_quietly_when_nobody_reads():
    strange = ["predict", "model-б.onnx", "血.png"]
    variables = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = program(*strange, env=variables, capture_output=True)
    assert done.returncode == 2
    assert b"model-\\u0431.onnx does not exist" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = program("--help", stdout=pipe, stderr=subprocess.PIPE)
    assert done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.slow
def test_output_for_which_there_is_no_room_is_one_error():
    with open("/dev/full", "wb") as full:
        done = program("--help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("Error: Cannot write")
    assert b"Traceback" not in done.stderr
