"""Trained without one group at a time, and the evaluation's files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import allkit
from allkit.config import TrainConfig
from allkit.training.unseen import leave_one_group_out

SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "epochs": 2, "copies": 0, "bag": "field",
}  # fmt: skip


@pytest.fixture(scope="module")
def with_slides(drawn, tmp_path_factory):
    """The drawn table with a column `slide`: three values, one of them the only one with Pro."""
    with drawn.open() as stream:
        rows = list(csv.DictReader(stream))
    path = drawn.parent / "slides.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "slide"])
        writer.writeheader()
        for row in rows:
            number = int(row["group"].split("-")[-1])
            slide = "pro" if row["label"] == "Pro" else f"s{number % 2}"
            writer.writerow(row | {"slide": slide})
    return path


@pytest.mark.slow
def test_every_value_is_judged_by_a_model_that_was_trained_without_it(with_slides):
    data = allkit.Dataset.open(with_slides)
    found = leave_one_group_out(TrainConfig(**SETTINGS), data, "slide")
    assert sum(row.images for row in found.rows) == len(data) == found.figures.n
    pro = next(row for row in found.rows if row.value == "pro")
    assert pro.unnamed == ("Pro",)
    assert pro.right == 0
    assert found.figures.per_class["Pro"]["recall"] == 0
    assert found.figures.interval_unit == "group"
    assert found.figures.units == len(found.rows)
    # A class that was never seen has a group all the same.
    assert pro.coarse_right >= pro.coarse_accepted_right >= 0
    assert pro.coarse_right > pro.right
    assert pro.coarse_right + pro.coarse_accepted_wrong <= pro.images
    coarse = found.to_dict()["coarse"]
    # Without the only slide of Benign one group is left, which asks no question.
    asked = [row for row in found.rows if row.coarse_right is not None]
    assert 0 < len(asked) < len(found.rows)
    assert sum(row.coarse_right for row in asked) == np.trace(coarse["confusion"])
    assert sum(row.images for row in asked) == coarse["n"]
    assert "by group of classes" in found.to_text()
    assert found.to_dict()["leave_one_group_out"]["column"] == "slide"
    assert "no other images of Pro" in found.to_text()


def test_a_column_that_is_not_there_is_named_with_those_that_are(with_slides):
    data = allkit.Dataset.open(with_slides)
    with pytest.raises(allkit.AllkitError, match="no column 'serie'"):
        leave_one_group_out(TrainConfig(**SETTINGS), data, "serie")


@pytest.mark.slow
def test_allkit_evaluate_writes_json_and_one_page_for_the_browser(
    cli, tiny_folder, drawn, tmp_path
):
    status, _, _ = cli("evaluate", tiny_folder, drawn, "--json", "e.json", "--html", "e.html")
    assert status == 0
    values = json.loads((tmp_path / "e.json").read_text())
    for name in (
        "n", "accuracy", "balanced_accuracy", "macro_f1", "per_class", "confusion", "classes",
        "ece", "intervals", "verdicts", "accepted_accuracy", "silent_error_rate", "brier",
        "log_loss", "classwise_ece", "area_risk_coverage", "macro_roc_auc", "curves",
        "malignant_sensitivity_at_specificity", "shortcut_probe", "cases",
    ):  # fmt: skip
        assert name in values, name
    assert {"specificity", "roc_auc", "average_precision"} <= set(values["per_class"]["Pro"])
    assert values["coarse"]["groups"] == ["benign", "malignant"]
    page = (tmp_path / "e.html").read_text()
    assert page.index("Benign or malignant") < page.index("All metrics")
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png") == 4
    assert "For comparison: the" in page or "No shortcut probe" in page


@pytest.mark.slow
def test_allkit_evaluate_trains_again_without_one_group_at_a_time(
    cli, tiny_folder, with_slides, tmp_path
):
    status, out, _ = cli(
        "evaluate", tiny_folder, with_slides, "--leave-one-group-out", "slide",
        "--json", "u.json", "--html", "u.html",
    )  # fmt: skip
    assert status == 0
    assert "trained without one slide at a time" in out
    values = json.loads((tmp_path / "u.json").read_text())
    assert len(values["leave_one_group_out"]["groups"]) == 3
    assert "Trained without one slide at a time" in (tmp_path / "u.html").read_text()


@pytest.mark.slow
def test_the_figures_can_be_written_into_the_card_and_replace_older_ones(
    cli, tiny, drawn, with_slides, tmp_path
):
    import warnings

    folder = tiny.save(tmp_path / "model")
    column = ("--leave-one-group-out", "slide")
    for arguments in ((drawn,), (drawn,), (with_slides, *column)):
        assert cli("evaluate", folder, *arguments, "--card")[0] == 0
    card = (folder / "README.md").read_text()
    assert card.count("## Judged: ") == 1
    assert card.count("## Trained without one slide at a time: ") == 1
    assert card.index("## Judged: ") < card.index("## How it works")
    assert "| pro | " in card
    assert "**Shortcut.**" in card
    assert card.count("**Benign or malignant: ") >= 2
    assert "--leave-one-group-out`, not run" not in card
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allkit.Classifier.load(folder)


@pytest.mark.slow
def test_an_exported_file_is_judged_like_its_model(cli, tiny, tiny_folder, drawn, tmp_path):
    tiny.export(tmp_path / "model.onnx")
    assert cli("evaluate", tiny_folder, drawn, "--json", "a.json")[0] == 0
    status, out, _ = cli("evaluate", "model.onnx", drawn, "--json", "b.json")
    assert status == 0
    assert "does not keep which images it was trained on" in out
    ours, theirs = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
    for name in ("n", "accuracy", "confusion", "verdicts", "shortcut_probe"):
        assert ours[name] == theirs[name]
    assert ours["brier"] == pytest.approx(theirs["brier"], abs=1e-4)
    status, _, err = cli("evaluate", "model.onnx", drawn, "--card")
    assert status == 2
    assert "Give the model folder" in err


@pytest.mark.slow
def test_two_models_are_compared_image_by_image(cli, tiny_folder, drawn, tmp_path):
    status, out, _ = cli(
        "evaluate", tiny_folder, drawn, "--compare", tiny_folder, "--json", "c.json"
    )
    assert status == 0
    assert "can be chance" in out
    found = json.loads((tmp_path / "c.json").read_text())["comparison"]
    assert found["differences"]["accuracy"] == 0
    assert (found["only_first"], found["only_second"]) == (0, 0)


@pytest.mark.slow
def test_a_comparison_names_the_model_that_is_right_on_terminal_page_and_json(
    cli, tiny_folder, drawn, tmp_path
):

    worse = allkit.Classifier.load(tiny_folder)
    with torch.no_grad():
        for head in worse.network.heads:
            head.linear.weight.zero_()
            head.linear.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    worse.save(tmp_path / "mine")
    status, out, _ = cli(
        "evaluate", tiny_folder, drawn, "--compare", "mine", "--json", "c.json", "--html", "c.html"
    )
    assert status == 0
    found = json.loads((tmp_path / "c.json").read_text())["comparison"]
    assert found["with"] == "mine"
    assert found["only_second"] > found["only_first"]
    assert found["differences"]["accuracy"] > 0
    counts = found["only_second"], found["only_first"]
    assert f"right in {tiny_folder} only: {counts[0]}, in mine only: {counts[1]}, of" in out
    assert f"{tiny_folder} minus mine:" in out
    name = Path(tiny_folder).name
    page = (tmp_path / "c.html").read_text()
    assert f"Right in {name} only: {counts[0]}, in mine only: {counts[1]}, of" in page
    assert f"differences are {name} minus mine" in page
