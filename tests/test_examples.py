"""Every script in examples/ runs on drawn smears, as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def _own_registry():
    """An example may register a plugin: it must not stay for the tests after it."""
    from allkit.plugins import Registry, using

    with using(Registry()):
        yield


def run(path, *arguments):
    runpy.run_path(str(path), run_name="example")["main"](list(arguments))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(path)
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"


def test_train_and_predict_takes_another_backbone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = next(p for p in EXAMPLES if p.stem == "train_and_predict")
    run(path, "--backbone", "timm:test_vit", "--weights", "none")
    out = capsys.readouterr().out
    assert "caution: The model was trained on drawn images" in out
    assert out.count("review") == 3


def test_read_answers_understands_what_predict_wrote(tiny_folder, drawn, cli, capsys):
    images = sorted((drawn.parent / "images").iterdir())[:2]
    status, _, _ = cli("predict", tiny_folder, *images, "nothing.png", "--out", "answers.csv")
    assert status == 1
    run(next(p for p in EXAMPLES if p.stem == "read_answers"), "answers.csv")
    out = capsys.readouterr().out
    assert "{'review': 2, 'unreadable': 1}" in out
    assert "nothing.png does not exist" in out
