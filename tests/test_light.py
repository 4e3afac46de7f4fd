"""A hospital's PC: the core alone, in an environment of its own, without PyTorch."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def core_distributions():
    """Return the names of what `pip install allkit` brings, by the distributions' own word."""
    import tomllib

    from packaging.markers import default_environment
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = list(project["dependencies"]), set()
    while waiting:
        wanted = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        environment = default_environment() | {"extra": ""}
        if name in found or (wanted.marker and not wanted.marker.evaluate(environment)):
            continue
        found.add(name)
        waiting += importlib.metadata.requires(name) or []
    return sorted(found)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Run `allkit` where nothing but the core is installed: `light("predict", …)`."""
    site = tmp_path_factory.mktemp("light")
    for name in core_distributions():
        distribution = importlib.metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {
            "..",
            "__pycache__",
        }:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    (site / "allkit").symlink_to(ROOT / "src" / "allkit")
    # Isolated and without site-packages: nothing but the standard library is left beside it.
    start = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[1:] = sys.argv[2:]\n"

    def run(*arguments, code="from allkit.cli import main; main()"):
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", start + code, "-", *map(str, arguments)],
            capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.onnx"
    tiny.export(path)
    return path


def test_the_environment_holds_the_core_only(light):
    done = light(code="import torch")
    assert "No module named 'torch'" in done.stderr
    assert light(code="import allkit, onnxruntime, PIL, typer").stderr == ""


def test_it_predicts_as_the_whole_installation_does(light, exported, tiny, drawn, tmp_path):
    images = sorted(drawn.parent.glob("images/*.png"))[:3]
    table = tmp_path / "images.csv"
    table.write_text(f"image,slide\n{images[2]},A\n{drawn},B\n")
    done = light("predict", exported, *images[:2], table)
    assert done.returncode == 1, done.stderr  # a table that is named as an image is none
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = tiny.predict(images)
    assert [row["verdict"] for row in rows] == [*(a.verdict for a in wanted), "unreadable"]
    for row, answer in zip(rows, wanted, strict=False):
        assert row["label"] == answer.label
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-4)


@pytest.mark.slow
def test_it_evaluates_verifies_and_measures(light, exported, drawn, tmp_path):
    done = light("evaluate", exported, drawn, "--json", tmp_path / "e.json")
    assert done.returncode == 0, done.stderr
    assert "without reading a cell was not measured" in done.stdout
    assert json.loads((tmp_path / "e.json").read_text())["n"] == 48
    done = light("verify", exported)
    assert (done.returncode, done.stdout.endswith("Agrees.\n")) == (0, True), done.stderr


@pytest.mark.slow
def test_what_needs_training_packages_says_what_to_type(light, exported, tiny_folder, tmp_path):
    for arguments in (
        ("export", tiny_folder, "--out", tmp_path / "m.onnx"),
        ("predict", tiny_folder, "a.png"),
        ("verify", exported, tiny_folder, tmp_path),
    ):
        done = light(*arguments)
        assert (done.returncode, "pip install 'allkit[train]'" in done.stderr) == (2, True), (
            done.stderr
        )
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_program_of_torch_says_that_it_needs_torch(light, tiny, tmp_path):
    tiny.export(tmp_path / "m.pt2", format="pt2")
    done = light("predict", tmp_path / "m.pt2", "a.png")
    assert (done.returncode, "program of PyTorch" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


def test_a_module_of_a_package_that_is_not_there_is_missing():
    from allkit.cli.extras import missing_modules

    assert missing_modules(["no_such_package.part", "json"]) == ["no_such_package.part"]
