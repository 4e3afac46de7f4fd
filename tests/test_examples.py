"""Every script in examples/ is short, and runs on drawn smears, as it stands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allkit.telemetry import import_silent

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ALONE = ("export_model", "run_without_allkit", "batch_on_ray")
"""They are run by tests of their own."""
SMALL = {
    "48, groups=24": "24, groups=12",
    "48, groups=12": "24, groups=12",
    "32, groups=16": "16, groups=16",
}
"""In the small version fewer smears are drawn."""


@pytest.fixture(autouse=True)
def _own_registry():
    """An example may register a plugin: it must not stay for the tests after it."""
    from allkit.plugins import Registry, using

    with using(Registry()):
        yield


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder and return what it prints: `run("read_answers", …)`."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, small=False):
        path = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        text = path.read_text(encoding="utf-8")
        for before, after in (SMALL if small else {}).items():
            text = text.replace(before, after)
        exec(compile(text, str(path), "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert ast.get_docstring(ast.parse(text))
    assert "._" not in text, "it uses what is public"


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES if path.stem not in ALONE])
@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_an_example_runs(name, small, run, tmp_path):
    assert run(name, small=small)
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"


@pytest.mark.nightly  # `tests/test_volume.py` has what it shows in small
def test_on_ray_the_example_prints_the_same(run):
    assert run("batch_on_ray", "ray") == run("batch_on_ray", "local")


@pytest.mark.slow
def test_plain_onnxruntime_gives_the_probabilities_of_allkit(run, tmp_path, drawn):
    from allkit.runtime.onnx import OnnxPredictor

    run("export_model", tmp_path / "model.onnx")
    images = sorted((drawn.parent / "images").iterdir())[:3]
    turned = (
        tmp_path / "turned.jpg"
    )  # a camera that was held upright says so, and not in the pixels
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(images[0]).crop((0, 0, 224, 150)).save(turned, exif=exif, quality=95)
    images = [*images, turned]
    # Where neither allkit nor torch can be imported.
    site = next(path for path in sys.path if path.endswith("site-packages"))
    lines = f"import sys; sys.path.append({site!r}); sys.modules |= dict(allkit=None, torch=None)\n"
    script = (ROOT / "examples/run_without_allkit.py").read_text(encoding="utf-8")
    command = [sys.executable, "-I", "-S", "-c", lines + script, "model.onnx", *images]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(.+?): .* \[(.+)\]$", done.stdout, re.MULTILINE)
    theirs = [[float(number) for number in numbers.split(",")] for _, numbers in rows]
    answers = OnnxPredictor(tmp_path / "model.onnx").predict(images)
    assert [name for name, _ in rows] == [str(image) for image in images]
    for numbers, answer in zip(theirs, answers, strict=True):
        assert numbers == pytest.approx(list(answer.probabilities.values()), abs=1e-5)
    assert "NOT JUDGED" in done.stdout
    # A file that says of itself that it wants cells gets no answer.
    data = (tmp_path / "model.onnx").read_bytes().replace(b'"bag": "field"', b'"bag": "cells"')
    (tmp_path / "cells.onnx").write_bytes(data)
    command[command.index("model.onnx")] = "cells.onnx"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, "the places of white cells" in done.stderr) == (1, True)


@pytest.mark.slow
def test_read_answers_understands_what_predict_wrote(tiny_folder, drawn, cli, run, tmp_path):
    images = sorted((drawn.parent / "images").iterdir())[:2]
    table = tmp_path / "answers.csv"
    status, _, _ = cli("predict", tiny_folder, *images, "nothing.png", "--out", table)
    assert status == 1
    out = run("read_answers", table)
    assert "{'review': 2, 'unreadable': 1}" in out
    assert "nothing.png does not exist" in out


def test_the_documented_places_of_cells_give_the_probabilities_of_allkit(drawn):
    import allkit
    from allkit.runtime.onnx import OnnxPredictor

    path = ROOT / "tests/saved/0.1.0/model.onnx"  # it sees the field and its cells
    images = sorted((drawn.parent / "images").iterdir())[:3]
    predictor = OnnxPredictor(path)
    onnxruntime = import_silent("onnxruntime")

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["pixels", "places"]
    for image, answer in zip(images, predictor.predict(images), strict=True):
        cells = allkit.find_cells(image, predictor.info["finder"])
        assert 0 < cells.count <= 24
        places = np.column_stack([np.zeros(cells.count), cells.centres]).astype(np.float32)
        feed = {"pixels": cells.image[None], "places": places}
        [[*numbers]] = session.run(["probabilities"], feed)[0]
        assert numbers == pytest.approx(list(answer.probabilities.values()), abs=1e-5)
