"""A training that was killed ends with the weights of one that was not."""

import json
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

import allkit
from allkit.errors import AllkitError, ConfigError
from allkit.training import run as run_module

SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "strategy": "last", "epochs": 3,
    "tune_epochs": 3, "tune_batch_size": 8, "ema": 0.9, "mixup": 0.2, "cache": None,
    "precision": "float32",
}  # fmt: skip

PROGRAM = """
import os, signal
import allkit
from allkit.training import run
run.SAVE_SECONDS = 0.0
count = 0
def counted(original, before):
    def call(*arguments):
        global count
        count += 1
        if count == kill_at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if count == kill_at and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
if where == "save":
    run.Run._write = counted(run.Run._write, False)
elif where == "inside":
    os.replace = counted(os.replace, True)
allkit.Trainer(**settings).fit(allkit.Dataset.open(data), out=out, resume=resume, overwrite=False)
"""


@pytest.fixture
def ended(start, few):
    """Train in a process of its own, which may be killed on the way: its exit status and errors."""

    def run(out, settings, *, resume=False, kill_at=0, where="save"):
        process = start(
            PROGRAM, data=str(few), out=str(out), settings=settings, resume=resume,
            kill_at=kill_at, where=where,
        )  # fmt: skip
        process.join()
        return process.exitcode, process.errors.read_text()

    return run


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["last", "full", "head"])
def test_a_killed_training_ends_with_the_same_weights_to_the_bit(ended, tmp_path, strategy):
    settings = SETTINGS | {"strategy": strategy, "members": 2}
    assert ended(tmp_path / "whole", settings) == (0, "")
    expected = weights(tmp_path / "whole")
    histories = json.loads((tmp_path / "whole" / "model.json").read_text())["history"]
    out = tmp_path / "killed"
    # Killed again and again, each time a little further: between saves and inside of them.
    for kill_at, where in [(1, "save"), (4, "inside"), (7, "save"), (2, "inside"), (9, "save")]:
        status, errors = ended(out, settings, resume=True, kill_at=kill_at, where=where)
        if status == 0:
            break
        assert status == -signal.SIGKILL, errors
    status, errors = ended(out, settings, resume=True)
    assert status == 0, errors
    assert same(weights(out), expected)
    assert json.loads((out / "model.json").read_text())["history"] == histories
    left = {p.name for p in tmp_path.iterdir()} | {
        p.name for p in (tmp_path / "killed.run").iterdir()
    }
    assert not [name for name in left if name.endswith((".part", ".old")) or "safetensors" in name]


@pytest.fixture
def data(few):
    return allkit.Dataset.open(few)


class Killed(BaseException):
    """Stands for a kill inside of this process."""


@pytest.fixture(scope="module")
def unfinished(few, tmp_path_factory):
    """A folder in which the run of a training lies that ended after its third save."""
    folder = tmp_path_factory.mktemp("unfinished")
    write, count = run_module.Run._write, []

    def third(self, name, make):
        write(self, name, make)
        count.append(name)
        if len(count) == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "SAVE_SECONDS", 0.0)
        patch.setattr(run_module.Run, "_write", third)
        with pytest.raises(Killed):
            allkit.Trainer(**SETTINGS).fit(allkit.Dataset.open(few), out=folder / "m")
    return folder


@pytest.fixture
def interrupted(unfinished, tmp_path, monkeypatch):
    """Where the model of such a training will be; a copy of its run lies beside."""
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.0)
    shutil.copytree(unfinished / "m.run", tmp_path / "m.run")
    return tmp_path / "m"


def test_resuming_in_the_same_process_gives_the_same_weights(data, interrupted, tmp_path):
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    allkit.Trainer(**SETTINGS).fit(data, out=tmp_path / "whole")
    assert same(weights(interrupted), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune_learning_rate": 0.5}, r"tune_learning_rate = 0.0001, not 0\.5"),
        ({"seed": 3}, "seed = 0, not 3"),
        ({"augment": ["flip"]}, r"augment = \['standard'\], not \['flip'\]"),
    ],
)
def test_other_settings_are_named_and_refused(data, interrupted, change, message):
    before = sorted((interrupted.parent / "m.run").iterdir())
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**SETTINGS | change).fit(data, out=interrupted, resume=True)
    assert sorted((interrupted.parent / "m.run").iterdir()) == before


def test_other_images_are_refused(data, interrupted):
    with pytest.raises(ConfigError, match="other images"):
        allkit.Trainer(**SETTINGS).fit(data.subset(range(20)), out=interrupted, resume=True)


def test_an_unfinished_training_is_not_overwritten_without_being_asked(data, interrupted):
    with pytest.raises(ConfigError, match="--resume to go on with it, or --overwrite"):
        allkit.Trainer(**SETTINGS).fit(data, out=interrupted)
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, overwrite=True)
    assert interrupted.exists()


def test_a_second_training_in_the_same_place_is_refused_at_once(data, few, tmp_path):
    with run_module.open_run(tmp_path / "m.run", resume=False, overwrite=False):
        start = time.monotonic()
        with pytest.raises(ConfigError, match="Another training is writing"):
            allkit.Trainer(**SETTINGS).fit(data, out=tmp_path / "m")
        assert time.monotonic() - start < 5.0
    allkit.Trainer(**SETTINGS | {"strategy": "head"}).fit(data, out=tmp_path / "m")


def test_to_resume_what_is_finished_changes_nothing(data, tmp_path):
    settings = SETTINGS | {"strategy": "head"}
    allkit.Trainer(**settings).fit(data, out=tmp_path / "m")
    before = (tmp_path / "m" / "SHA256SUMS").read_bytes()
    allkit.Trainer(**settings).fit(data, out=tmp_path / "m", resume=True)
    assert (tmp_path / "m" / "SHA256SUMS").read_bytes() == before


def test_a_full_disk_keeps_the_state_that_was_whole(data, interrupted, monkeypatch):
    path = interrupted.parent / "m.run" / "state.safetensors"
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(AllkitError, match=r"No space left(.|\n)*--resume goes on"):
            allkit.Trainer(**SETTINGS, recorder=Silent()).fit(data, out=interrupted, resume=True)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*.part"))
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    assert interrupted.exists()


class Silent:
    def log(self, values):
        pass


def test_what_a_killed_process_left_is_cleared_away(data, interrupted):
    run = interrupted.parent / "m.run"
    (run / ".state.safetensors.abc.part").write_bytes(b"half")
    (interrupted.parent / ".m.xyz.part").mkdir()
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    names = [p.name for p in [*run.iterdir(), *interrupted.parent.iterdir()]]
    assert not [name for name in names if name.endswith(".part")]
    assert sorted(p.name for p in run.iterdir()) == ["metrics.jsonl"]


def test_a_damaged_state_is_refused(data, interrupted):
    path = interrupted.parent / "m.run" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(AllkitError, match="damaged"):
        allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
