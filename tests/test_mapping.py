"""`evaluate --map`: a model judged on a set whose labels are others."""

import csv
import json

import numpy as np
import pytest

import allkit
from allkit.data.mapping import LabelMap
from allkit.errors import ConfigError, DatasetError

ABROAD = {"Benign": "hem", "Early": "all", "Pre": "all", "Pro": "doubtful"}
CLASSES = ("Benign", "Early", "Pre", "Pro")


@pytest.fixture(scope="module")
def abroad(drawn):
    """The drawn table as another hospital would label it: hem, all, doubtful."""
    with drawn.open() as stream:
        rows = list(csv.DictReader(stream))
    path = drawn.parent / "abroad.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": ABROAD[row["label"]]} for row in rows)
    return path


def written(folder, text, name="map.yaml"):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.slow
def test_subtypes_are_summed_to_malignant_against_benign(tiny, abroad):
    data = allkit.Dataset.open(abroad)
    found = tiny.evaluate(data, label_map={"hem": "Benign", "all": "malignant", "doubtful": None})
    asked = data.subset([i for i, s in enumerate(data) if s.label != "doubtful"])
    table = tiny.probabilities([asked.read(i) for i in range(len(asked))])
    said = table[:, 0] < table[:, 1:].sum(axis=1)
    truth = np.array([s.label == "all" for s in asked])
    assert found.classes == ("Benign", "malignant")
    assert found.n == len(asked) == sum(found.verdicts.values())
    recalls = [(~said)[~truth].mean(), said[truth].mean()]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    pairs = table[truth, 0][:, None] - table[~truth, 0]
    auc = ((pairs < 0) + 0.5 * (pairs == 0)).mean()
    assert found.metrics["macro_roc_auc"] == pytest.approx(auc, abs=1e-3)
    assert found.metrics["malignant_roc_auc"] == pytest.approx(auc, abs=1e-3)
    assert found.interval_unit == "group"
    assert any("Left out, as the label map says: doubtful (12)" in n for n in found.notes)


@pytest.mark.slow
def test_the_command_reads_yaml_and_csv_alike(cli, tiny_folder, abroad, tmp_path):
    a = written(tmp_path, "hem: Benign\nall: malignant\ndoubtful:\nmalignant: [Early, Pre, Pro]\n")
    b = written(
        tmp_path, "label,class\nhem,Benign\nall,malignant\ndoubtful,\nmalignant,Early;Pre;Pro\n",
        "map.csv",
    )  # fmt: skip
    for file, out in ((a, "a.json"), (b, "b.json")):
        status, text, err = cli("evaluate", tiny_folder, abroad, "--map", file, "--json", out)
        assert status == 0, err
    assert "labels by map.csv" in text
    assert "malignant is Early, Pre, Pro" in text
    first, second = (json.loads((tmp_path / n).read_text()) for n in ("a.json", "b.json"))
    assert first == second
    assert first["label_map"]["malignant"] == ["Early", "Pre", "Pro"]
    assert first["classes"] == ["Benign", "malignant"]


@pytest.mark.slow
def test_an_exported_file_is_judged_through_the_same_map(cli, tiny, tiny_folder, abroad, tmp_path):
    tiny.export(tmp_path / "model.onnx")
    file = written(
        tmp_path, "hem: Benign\nall: malignant\ndoubtful: Pro-B\nmalignant: [Early, Pre]\n"
    )
    for model, out in ((tiny_folder, "a.json"), ("model.onnx", "b.json")):
        status, _, err = cli("evaluate", model, abroad, "--map", file, "--json", out)
        assert status == 0, err
    a, b = (json.loads((tmp_path / n).read_text()) for n in ("a.json", "b.json"))
    assert a["classes"] == b["classes"] == ["Benign", "malignant", "Pro"]
    assert (a["confusion"], a["verdicts"]) == (b["confusion"], b["verdicts"])


def test_groups_come_from_the_names_where_a_pattern_says_so(cli, tiny_folder, abroad, tmp_path):
    file = written(tmp_path, "hem: Benign\nall: malignant\ndoubtful: malignant\n")
    status, _, err = cli(
        "evaluate", tiny_folder, abroad, "--map", file, "--group-pattern", r"-(\d)\d*\.png",
        "--json", "e.json",
    )  # fmt: skip
    assert status == 0, err


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hem": "Benign"}, "no line for the label 'all'"),
        ({"hem": "Bening", "all": "malignant", "doubtful": None}, "Did you mean 'Benign'"),
        ({"hem": "Benign", "all": "bad", "doubtful": "Pro", "bad": ["Early", "Pro"]}, "'Pro' into"),
        (
            {"hem": "bad", "all": "bad", "doubtful": "bad", "bad": list(CLASSES)},
            "at least two classes",
        ),
        ({"hem": "Pro", "all": "Pre", "doubtful": "Pro", "Pre": ["Early"]}, "a class of the model"),
        ({"hem": "Benign", "all": "x", "doubtful": "x", "x": ["Earl"]}, "Did you mean 'Early'"),
        ({"hem": {"a": 1}}, "names no class"),
        ({}, "is empty"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused_in_words(abroad, values, told):
    with pytest.raises(ConfigError, match=told):
        LabelMap.of(values).apply(allkit.Dataset.open(abroad), CLASSES)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("map.yaml", "hem: Benign\nhem: Pre\n", "two lines for 'hem'"),
        ("map.yaml", "- hem\n", "holds no label map"),
        ("map.yaml", "hem: [Benign\n", "cannot be read as YAML"),
        ("map.csv", "from,to\nhem,Benign\n", "has the columns from, to"),
        ("map.csv", "label,class\nhem,Benign\nhem,Pre\n", "two lines for 'hem'"),
    ],
)
def test_a_file_that_holds_no_map_is_refused(cli, tiny_folder, abroad, tmp_path, name, text, told):
    status, out, err = cli("evaluate", tiny_folder, abroad, "--map", written(tmp_path, text, name))
    assert (status, out) == (2, "")
    assert told in err
    assert "Traceback" not in err


def test_without_a_map_strange_labels_point_to_it(tiny, abroad):
    with pytest.raises(DatasetError, match="--map FILE"):
        tiny.evaluate(allkit.Dataset.open(abroad))


def test_a_label_that_looks_like_no_is_a_label(tmp_path):
    file = written(tmp_path, "no: Benign\nyes: malignant\n1: null\n")
    assert LabelMap.read(file).labels == {"no": "Benign", "yes": "malignant", "1": None}


def test_it_goes_with_neither_retraining_nor_comparing(cli, tiny_folder, abroad, tmp_path):
    file = written(tmp_path, "hem: Benign\n")
    status, _, err = cli(
        "evaluate", tiny_folder, abroad, "--map", file, "--leave-one-group-out", "group"
    )
    assert status == 2
    assert "goes neither with" in err
