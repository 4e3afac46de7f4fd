"""The command line: the whole job, and every mistake told in a sentence with exit status 2."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

TINY = ["--backbone", "timm:test_resnet", "--weights", "none", "--epochs", "2"]
FIELDS = [*TINY, "--set", "bag=field"]  # without the cells, for what does not depend on them


def test_help_and_version(cli):
    status, out, _ = cli("--help")
    assert status == 0
    for command in (
        "demo",
        "train",
        "evaluate",
        "predict",
        "split",
        "export",
        "plugins",
        "app",
        "doctor",
    ):
        assert command in out
    assert cli("--version")[1].startswith("allkit ")


@pytest.mark.slow
def test_split_train_evaluate_predict_export_in_a_row(cli, drawn, tmp_path):
    assert cli("split", drawn, "--out", "split.csv", "--test", "0.34")[0] == 0
    status, out, err = cli("train", "split.csv", "--out", "model", *TINY)
    assert status == 0, err
    assert "Accuracy" in err
    assert "by group" in err
    status, out, err = cli("evaluate", "model", "split.csv", "--json", "figures.json")
    assert status == 0, err
    assert "part: test" in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = list(csv.DictReader((tmp_path / "split.csv").read_text().splitlines()))
    tests = [row for row in rows if row["split"] == "test"]
    assert figures["n"] == len(tests)
    for key in ("accuracy", "balanced_accuracy", "macro_f1", "per_class", "confusion", "classes",
                "ece", "intervals", "verdicts", "accepted_accuracy", "silent_error_rate"):  # fmt: skip
        assert key in figures
    assert figures["verdicts"] == {"accepted": 0, "review": len(tests), "refused": 0}
    assert figures["accepted_accuracy"] is None
    assert cli("export", "model", "--format", "onnx", "--out", "model.onnx")[0] == 0
    images = [row["image"] for row in tests]
    _, from_folder, _ = cli("predict", "model", *images)
    status, from_file, _ = cli("predict", "model.onnx", *images)
    assert status == 0
    pairs = zip(from_folder.splitlines(), from_file.splitlines(), strict=True)
    answers = [(json.loads(a), json.loads(b)) for a, b in pairs]
    assert [a["image"] for a, _ in answers] == images
    for a, b in answers:
        assert a["label"] == b["label"]
        assert a["p_Pro"] == pytest.approx(b["p_Pro"], abs=1e-4)
    right = sum(a["label"] == row["label"] for (a, _), row in zip(answers, tests, strict=True))
    assert right / len(tests) == pytest.approx(figures["accuracy"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_predict_writes_one_row_for_each_input_in_order_and_tells_of_unreadable_ones(
    cli, tiny_folder, drawn, tmp_path, suffix
):
    folder = shutil.copytree(drawn.parent / "images", tmp_path / "fields")
    (folder / "drawn-00002.png").write_text("text")
    (folder / "notes.txt").write_text("x")
    out = tmp_path / f"answers{suffix}"
    status, _, err = cli("predict", tiny_folder, "fields", "missing.png", "--out", out)
    assert status == 1
    assert "2 of 49 images were unreadable" in err
    assert "1 file is no image by its name" in err
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    elif suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        rows = pd.read_parquet(out).to_dict("records")
    names = sorted(f"fields/{p.name}" for p in folder.glob("*.png"))
    assert [row["image"] for row in rows] == [*names, "missing.png"]
    assert list(rows[0]) == [
        "image", "label", "probability", "verdict", "reasons", "reason_codes", "prediction_set",
        "p_Benign", "p_Early", "p_Pre", "p_Pro",
        "coarse", "coarse_probability", "coarse_verdict", "error",
    ]  # fmt: skip
    assert rows[2]["verdict"] == "unreadable"
    assert "drawn-00002.png" in rows[2]["error"]
    assert rows[0]["verdict"] == "review"
    assert rows[0]["coarse"] in ("benign", "malignant")
    assert 0 <= float(rows[0]["coarse_probability"]) <= 1
    assert rows[0]["coarse_verdict"] == "review"
    for name in ("coarse", "coarse_probability", "coarse_verdict"):
        assert rows[2][name] == "" or pd.isna(rows[2][name])
    assert not list(tmp_path.glob(".*part"))


def test_the_config_is_shown_whole_and_can_be_given_back(cli, drawn, tmp_path):
    status, text, _ = cli("train", drawn, "--print-config", "--set", "epochs=3", "--seed", "5")
    assert status == 0
    assert "epochs: 3" in text
    assert "learning_rate:" in text
    (tmp_path / "c.yaml").write_text(text)
    assert cli("train", drawn, "--print-config", "--config", "c.yaml")[1] == text


@pytest.mark.slow
def test_the_image_level_split_is_labelled_wherever_its_figure_is_printed(cli, drawn, tmp_path):
    _, _, err = cli("split", drawn, "--out", "s.csv", "--by", "image", "--test", "0.3")
    assert "image-level split" in err
    _, _, err = cli("train", "s.csv", "--out", "m", *FIELDS)
    _, out, _ = cli("evaluate", "m", "s.csv", "--json", "f.json")
    assert "CAUTION  Image-level split" in out
    assert any("Image-level" in n for n in json.loads((tmp_path / "f.json").read_text())["notes"])


@pytest.mark.slow
def test_evaluate_takes_the_test_rows_unless_told_otherwise(cli, drawn, tiny_folder, tmp_path):
    cli("split", drawn, "--out", "s.csv", "--test", "0.25", "--val", "0.25")
    parts = {}
    for part in ("all", "train", "val", "test"):
        cli("evaluate", tiny_folder, "s.csv", "--part", part, "--json", f"{part}.json")
        parts[part] = json.loads((tmp_path / f"{part}.json").read_text())["n"]
    assert parts["all"] == 48 == parts["train"] + parts["val"] + parts["test"]


@pytest.mark.slow
def test_folds_are_written_and_used(cli, drawn, tmp_path):
    assert cli("split", drawn, "--out", "folds.csv", "--folds", "3")[0] == 0
    rows = list(csv.DictReader((tmp_path / "folds.csv").read_text().splitlines()))
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    _, _, err = cli("train", "folds.csv", "--out", "m", "--folds", "3", *FIELDS)
    assert "3-fold cross-validation by group, pooled" in err


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────


def picture(path, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(path)


@pytest.fixture
def classes(tmp_path):
    root = tmp_path / "data"
    for name in ("Benign", "Early", "Pre", "Pro"):
        for index in range(4):
            picture(root / name / f"{name}{index}.png")
    return root


def refused(result, *words):
    status, out, err = result
    assert status == 2, (status, out, err)
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_mistakes_with_data_are_told(cli, tmp_path, classes):
    picture(tmp_path / "flat" / "a.png")
    refused(cli("train", "flat", "--out", "m"), "no class folders")
    refused(cli("train", "nowhere", "--out", "m"), "nowhere does not exist")
    (tmp_path / "x.csv").write_text("file,class\na,b\n")
    refused(cli("train", "x.csv", "--out", "m"), "no column 'image'")
    for index in range(1, 4):
        (classes / "Pro" / f"Pro{index}.png").unlink()
    refused(cli("train", classes, "--out", "m", *TINY), "Pro: one image only")
    assert not (tmp_path / "m").exists()


def test_a_label_in_the_test_part_only_is_told(cli, classes, tmp_path):
    rows = ["image,label,split"]
    for name in ("Benign", "Early", "Pre", "Pro"):
        part = "test" if name == "Pro" else "train"
        rows += [f"data/{name}/{name}{i}.png,{name},{part}" for i in range(4)]
    (tmp_path / "s.csv").write_text("\n".join(rows))
    refused(cli("train", "s.csv", "--out", "m", *TINY), "Pro")


def bad_images():
    """(name, bytes, a word of the message)"""
    import io

    def saved(image, kind, **options):
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    rng = np.random.default_rng(0)
    field = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8))
    yield "text.jpg", b"this is text", "text"
    yield "cut.jpg", saved(field, "JPEG")[:900], "truncated"
    yield "dot.png", saved(Image.new("RGB", (1, 1)), "PNG"), "1"
    yield "huge.png", saved(Image.new("1", (30000, 30000)), "PNG"), "30000"
    frames = [Image.new("RGB", (64, 64), c) for c in ("red", "blue")]
    yield "moving.png", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "GIF"
    dark = Image.fromarray((rng.integers(0, 4095, (64, 64))).astype(np.uint16))
    yield "twelve.tif", saved(dark, "TIFF"), "16 bits"
    yield "empty.png", b"", "empty"


@pytest.mark.parametrize(
    ("name", "data", "word"), list(bad_images()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_image_that_is_refused_stops_training_splitting_and_judging(
    cli, classes, tiny_folder, tmp_path, name, data, word
):
    (classes / "Pro" / name).write_bytes(data)
    commands = [
        ("train", classes, "--out", "m", *TINY),
        ("split", classes, "--out", "s.csv"),
        ("evaluate", tiny_folder, classes, "--json", "f.json"),
    ]
    for command in commands:
        refused(cli(*command), name, word)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]
    status, out, _ = cli(
        "predict", tiny_folder, classes / "Pro" / name, classes / "Pro" / "Pro0.png"
    )
    assert status == 1
    first, second = map(json.loads, out.splitlines())
    assert first["verdict"] == "unreadable"
    assert second["verdict"] in ("review", "refused")


@pytest.mark.slow
def test_training_says_what_it_could_not_calibrate(cli, drawn):
    status, _, err = cli("train", drawn, "--out", "m", *FIELDS, "--set", "calibration_folds=0")
    assert status == 0
    assert "CAUTION  Not calibrated: " in err
    assert "20 needed" in err


def test_images_of_other_kinds_are_answered_rightly(cli, tiny_folder, drawn, tmp_path):
    """16-bit TIFF, CMYK JPEG and a rotated EXIF JPEG give the answer of the plain field."""
    field = Image.open(drawn.parent / "images" / "drawn-00000.png").convert("RGB")
    grey = np.asarray(field.convert("L")).astype(np.uint16)
    Image.fromarray(np.stack([grey.astype(np.uint8)] * 3, -1)).save(tmp_path / "grey8.png")
    Image.fromarray(grey * 257).save(tmp_path / "grey16.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    field.rotate(90, expand=True).save(
        tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0
    )
    field.save(tmp_path / "upright.jpg", quality=100, subsampling=0)
    names = ["grey8.png", "grey16.tif", "upright.jpg", "turned.jpg"]
    status, out, _ = cli("predict", tiny_folder, *names)
    assert status == 0
    grey8, grey16, upright, turned = map(json.loads, out.splitlines())
    assert grey8["p_Pro"] == pytest.approx(grey16["p_Pro"], abs=1e-6)
    assert upright["p_Pro"] == pytest.approx(turned["p_Pro"], abs=0.02)


def test_mistakes_with_options_are_told(cli, drawn, tiny_folder, tmp_path):
    refused(cli("train", drawn), "--out is missing")
    refused(cli("train", drawn, "--out", "m", "--backbone", "vgg61"), "Did you mean 'vgg16'")
    refused(cli("train", drawn, "--out", "m", "--weights", "w.safetensors"), "not a file")
    refused(cli("train", drawn, "--out", "m", "--set", "epoch=3"), "Did you mean 'epochs'")
    refused(cli("train", drawn, "--out", "m", "--set", "epochs"), "key=value")
    refused(cli("train", drawn, "--out", "m", "--config", "none.yaml"), "none.yaml")
    refused(cli("train", drawn, "--out", "no/such/m"), "no/such")
    (tmp_path / "there").mkdir()
    refused(cli("train", drawn, "--out", "there"), "exists already", "--overwrite")
    refused(cli("evaluate", tiny_folder, drawn, "--part", "tset"), "--part")
    refused(cli("evaluate", tiny_folder, drawn, "--part", "test"), "no split column")
    refused(cli("evaluate", tmp_path / "none", drawn), "does not exist")
    refused(cli("predict", tiny_folder, drawn.parent, "--out", "a.xlsx"), ".jsonl, .csv, .parquet")
    refused(
        cli("export", tiny_folder, "--out", "m.onnx", "--format", "onxx"), "Did you mean 'onnx'"
    )
    refused(cli("split", drawn, "--out", "s.csv", "--by", "colour"), "--by")
    refused(cli("split", drawn, "--out", "s.csv", "--test", "2"), "shares")
    refused(cli("predict", drawn, drawn), "no exporter has the suffix '.csv'")


def test_a_damaged_model_is_told(cli, tiny_folder, drawn, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[5000] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    refused(cli("predict", folder, drawn.parent), "altered or damaged")
    (folder / "model.json").unlink()
    refused(cli("predict", folder, drawn.parent), "altered")
    (folder / "model.safetensors").unlink()
    refused(cli("evaluate", folder, drawn), "lacks model.safetensors")


def test_plugins_lists_what_is_there(cli):
    status, out, _ = cli("plugins")
    assert status == 0
    for word in ("vgg16", "vgg16-wide", "timm:NAME", "standard", "onnx", "BSD-3-Clause"):
        assert word in out
    rows = json.loads(cli("plugins", "list", "--json")[1])
    assert all(row["state"] == "ok" for row in rows)
    names = cli("plugins", "list", "--family", "timm")[1].splitlines()
    assert "timm:resnet18" in names


def test_the_doctor_names_what_is_wrong(cli, monkeypatch):
    status, out, _ = cli("doctor")
    assert status == 0, out
    monkeypatch.setenv("ALLKIT_WEIGHTS", "/no/such/folder")
    status, out, _ = cli("doctor", "--json")
    assert status == 1
    assert "/no/such/folder" in json.loads(out)["problems"][0]


def demonstrated(folder, told):
    """What the demo promises to leave and to say."""
    assert "drawn images: nothing follows for real smears" in told
    names = {p.name for p in folder.iterdir()}
    assert names == {"smears", "split.csv", "model", "model.onnx", "answers.csv"}
    rows = list(csv.DictReader((folder / "answers.csv").read_text().splitlines()))
    split = (folder / "split.csv").read_text().splitlines()
    parts = [row["split"] for row in csv.DictReader(split)]
    assert len(rows) == parts.count("test")
    return len(parts)


@pytest.mark.nightly
def test_the_demo_leaves_everything_and_needs_no_network(tmp_path):
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "allkit", "demo", "--out", "d"], cwd=tmp_path, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert demonstrated(tmp_path / "d", done.stderr) == 120


@pytest.mark.slow
def test_the_demo_on_fewer_smears_leaves_everything_and_needs_no_network(cli, tmp_path):
    status, _, err = cli("demo", "--images", "48", "--out", "d")
    assert status == 0, err
    assert demonstrated(tmp_path / "d", err) == 48
    status, _, err = cli("demo", "--images", "48", "--data", "d/smears", "--out", "e")
    assert (status, "--images is for drawn smears" in err) == (2, True)


def test_the_demo_without_a_network_cannot_download_and_says_what_to_do(cli, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", "http://127.0.0.1:9")
    status, _, err = cli("demo", "--download")
    assert status == 2
    assert "--data" in err or "pip install 'allkit[download]'" in err


def test_the_doctor_says_which_clinic_is_meant(cli, monkeypatch, tmp_path):
    monkeypatch.delenv("ALLKIT_CLINIC_URL", raising=False)
    monkeypatch.setenv("ALLKIT_CLINIC", str(tmp_path))
    assert f"{tmp_path}, where there is none yet" in cli("doctor")[1]
    (tmp_path / "clinic.sqlite3").touch()
    assert f"{'clinic':<16} {tmp_path}\n" in cli("doctor")[1]
    monkeypatch.setenv("ALLKIT_CLINIC_URL", "postgresql://me:secret@host/clinic")
    out = cli("doctor")[1]
    assert "ALLKIT_CLINIC_URL" in out
    assert "secret" not in out


def test_the_smears_of_the_demo_have_their_slides_so_that_unseen_ones_are_measured(drawn):
    from allkit.cli.demo import _with_slides
    from allkit.data.dataset import Dataset

    before = Dataset.open(drawn)
    after = _with_slides(before)
    assert not before.has_slides
    assert after.has_slides
    assert [sample.slide for sample in after] == [sample.group for sample in before]


def test_the_demo_ends_with_the_program_as_it_was_started(monkeypatch, tmp_path):
    from allkit.cli.demo import _program

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "allkit"), "demo"])
    assert _program() == os.path.join(".venv", "bin", "allkit")
    monkeypatch.setattr(sys, "argv", ["allkit", "demo"])
    assert _program() == "allkit"
