"""Tables with gaps, numbers and names as other programs write them, and output in any encoding."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from allkit.data.dataset import Dataset
from allkit.data.listed import table_images
from allkit.data.mapping import LabelMap
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


def test_numbers_with_leading_zeros_stay_as_they_are(folder):
    data = opened(folder, "image,label,group\na.png,Pro,007\nb.png,Pre,010\nc.png,Pre,1.0\n")
    assert [s.group for s in data] == ["007", "010", "1.0"]


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
    rows = "image,label,group,case\n=cmd.png,Pro,=1+1,+49 1\n-x.png,Pre,@x,-2\n"
    first = opened(folder, rows)
    first.to_csv(folder / "again.csv")
    written = (folder / "again.csv").read_text(encoding="utf-8")
    assert written.splitlines()[1:] == ["./=cmd.png,Pro,'=1+1,'+49 1", "./-x.png,Pre,'@x,-2"]
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
