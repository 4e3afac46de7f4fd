"""One flipped bit anywhere in what allkit keeps: a model, an exported file, caches, parts, a saved state."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from attacks import Counts, Scale
from attacks.hostile_models import SAVED, new_model

TITLE = "One flipped bit"
FLIPS = {"short": 40, "long": 500}

Judge = Callable[[], str]
"""Uses what was altered, and returns what is wrong; refusals and warnings are raised."""


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Flip one bit at a time; it must be refused, warned of, or computed again."""
    things = [
        _model,
        _signature,
        _exported,
        _features,
        _activations,
        _plugins,
        _parts,
        _state,
        _facts,
    ]
    if scale == "long":
        things += [_program, _openvino]
    lines = {}
    for thing in things:
        place = folder / thing.__name__
        place.mkdir()
        lines[str(thing.__doc__).rstrip(".")] = _flipped(*thing(place), FLIPS[scale])
    return lines


def _flipped(files: list[Path], judge: Judge, count: int) -> Counts:
    from allkit.errors import AllkitError

    rng, counts = random.Random(0), Counts()
    good = {path: path.read_bytes() for path in files if path.stat().st_size}
    for _ in range(count):
        path = rng.choice(sorted(good))
        at, bit = rng.randrange(len(good[path])), rng.randrange(8)
        altered = bytearray(good[path])
        altered[at] ^= 1 << bit
        path.write_bytes(altered)
        what = f"bit {bit} of byte {at} of {path.name}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                wrong = judge()
        except (AllkitError, UserWarning):
            counts.refused += 1
        except BaseException as error:  # noqa: BLE001 - which is what is counted
            counts.failed.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        else:
            if wrong:
                counts.failed.append(f"{what}: {wrong}")
            else:
                counts.right += 1
        for one, data in good.items():
            one.parent.mkdir(parents=True, exist_ok=True)
            one.write_bytes(data)
    return counts


def _model(folder: Path) -> tuple[list[Path], Judge]:
    """A model folder: refused, or warned of for card and pictures."""
    from allkit.model.folder import read_model

    model = new_model(folder)

    def judge() -> str:
        read_model(model)
        return "nobody noticed"

    return [path for path in sorted(model.rglob("*")) if path.is_file()], judge


def _signature(folder: Path) -> tuple[list[Path], Judge]:
    """A signature, with a key to compare it with: refused."""
    from allkit.runtime import signature

    model = new_model(folder)
    public = signature.new_key(folder / "key")
    signature.sign(model, signature.private_key(folder / "key"))

    def judge() -> str:
        signature.signed_by(model, (public,))
        return "nobody noticed"

    return [signature.signature_path(model)], judge


def _exported(folder: Path) -> tuple[list[Path], Judge]:
    """An ONNX file: refused."""
    return _of_file(shutil.copy(SAVED / "model.onnx", folder / "model.onnx"))


def _program(folder: Path) -> tuple[list[Path], Judge]:
    """A program of torch.export: refused."""
    import allkit

    path = folder / "model.pt2"
    allkit.Classifier.load(SAVED / "model").export(path, format="pt2")
    return _of_file(path)


def _openvino(folder: Path) -> tuple[list[Path], Judge]:
    """An OpenVINO file: refused."""
    import allkit

    path = folder / "model.openvino"
    allkit.Classifier.load(SAVED / "model").export(path, format="openvino")
    return _of_file(path)


def _of_file(path: Path) -> tuple[list[Path], Judge]:
    from allkit.cli.models import open_model

    def judge() -> str:
        open_model(Path(path))
        return "nobody noticed"

    return [Path(path)], judge


def _features(folder: Path) -> tuple[list[Path], Judge]:
    """The feature cache: computed again."""
    import numpy as np

    from allkit.features import FeatureCache

    rng = np.random.default_rng(0)
    vectors = {rng.bytes(32): rng.normal(size=60).astype(np.float32) for _ in range(20)}
    FeatureCache(folder).put(vectors, backbone="vgg16", engine="torch")

    def judge() -> str:
        found = FeatureCache(folder).get(list(vectors))
        FeatureCache(folder).count(list(vectors))
        wrong = [key for key, vector in found.items() if not np.array_equal(vector, vectors[key])]
        return "another vector was given" if wrong else ""

    return [folder / "features.sqlite"], judge


def _activations(folder: Path) -> tuple[list[Path], Judge]:
    """Kept activations: computed again."""
    import torch

    from allkit.features.activations import ActivationStore

    rows = torch.randn((12, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    keys = [bytes([number]) * 32 for number in range(12)]

    def store() -> ActivationStore:
        return ActivationStore.open(folder, "key", (3, 4, 4), torch.float32, limit=2**30)

    store().write(keys, rows)
    files = [path for path in sorted(store().path.iterdir()) if path.stat().st_size]

    def judge() -> str:
        found = store().fetch(keys, lambda lacking: rows[lacking])
        return "" if torch.equal(found, rows) else "another row was given"

    return files, judge


def _plugins(folder: Path) -> tuple[list[Path], Judge]:
    """What plugins offer: asked again."""
    from allkit.plugins import catalogue

    file = folder / "plugins.json"
    entry = {"offers": [{"kind": "backbone", "name": "x"}], "error": None, "seconds": 0.5}
    catalogue._write(file, {"key": entry | {"api_version": 1, "notes": []}})
    good = catalogue._read(file)
    assert good

    def judge() -> str:
        return "" if catalogue._read(file) == {} else "it was taken"

    return [file], judge


def _parts(folder: Path) -> tuple[list[Path], Judge]:
    """Parts of a table that is being made: begun anew, or answered again."""
    from allkit.records import Prediction
    from allkit.volume.run import AnsweringRun, Identity

    identity = Identity(model="m", classes=("A", "B"), shard="1/1", count=30, images="i")
    answers = [
        Prediction(f"{n}.png", "accepted", label="A", probability=0.9, probabilities={"A": 0.9, "B": 0.1})
        for n in range(20)
    ]  # fmt: skip
    with AnsweringRun(folder / "answers.csv", identity) as begun:
        for _ in begun.write(answers, rows=5):
            pass
    parts = folder / "answers.csv.parts"
    files = [path for path in sorted(parts.iterdir()) if path.stat().st_size]

    def judge() -> str:
        for stray in set(parts.iterdir()) - set(files):
            stray.unlink()
        with AnsweringRun(folder / "answers.csv", identity) as again:
            return "" if again.done < 20 else "nobody noticed"

    return files, judge


def _state(folder: Path) -> tuple[list[Path], Judge]:
    """The state of an unfinished training: refused."""
    import torch

    from allkit.training.run import Saved, TrainingRun

    tensors = {
        f"member.{n}": torch.randn(20, generator=torch.Generator().manual_seed(n)) for n in range(4)
    }
    facts = {"member": 0, "phase": "head", "epoch": 3, "step": 17, "earlier": []}
    training = TrainingRun(folder)
    training.save(lambda: Saved(tensors, facts))

    def judge() -> str:
        TrainingRun(folder, resumed=True).state()
        return "nobody noticed"

    return [folder / "state.safetensors"], judge


def _facts(folder: Path) -> tuple[list[Path], Judge]:
    """What an unfinished training was started with: refused."""
    from allkit.config import TrainConfig
    from allkit.training.run import TrainingRun

    config = json.loads(TrainConfig().model_dump_json())
    first, then = {"config": config, "images": "abc", "threads": 2}, {"relations": "def"}
    begun = TrainingRun(folder)
    begun.begin(first)
    begun.add(then)

    def judge() -> str:
        again = TrainingRun(folder, resumed=True)
        again.begin(first)
        again.add(then)
        # A blank between two values, or the name under which a number stands twice, says nothing.
        return "" if again.facts["threads"] == 2 else "nobody noticed"

    return [folder / "run.json"], judge
