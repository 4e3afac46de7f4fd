"""A training that was killed ends with the weights of one that was not."""

import hashlib
import json
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import allkit
from allkit.errors import AllkitError, ConfigError
from allkit.training import run as run_module

SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "strategy": "last", "epochs": 3,
    "finetune_epochs": 3, "finetune_batch_size": 8, "ema": 0.9, "mixup": 0.2, "cache": None,
    "precision": "float32", "bag": "field",
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
    run.TrainingRun._write = counted(run.TrainingRun._write, False)
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


@pytest.fixture(scope="module")
def data(few):
    return allkit.Dataset.open(few)


class Killed(BaseException):
    """Stands for a kill inside of this process."""


@pytest.fixture(scope="module")
def unfinished(few, tmp_path_factory):
    """A folder in which the run of a training lies that ended after its third save."""
    folder = tmp_path_factory.mktemp("unfinished")
    write, count = run_module.TrainingRun._write, []

    def third(self, name, make):
        write(self, name, make)
        count.append(name)
        if len(count) == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "SAVE_SECONDS", 0.0)
        patch.setattr(run_module.TrainingRun, "_write", third)
        with pytest.raises(Killed):
            allkit.Trainer(**SETTINGS).fit(allkit.Dataset.open(few), out=folder / "m")
    return folder


@pytest.fixture
def interrupted(unfinished, tmp_path, monkeypatch):
    """Where the model of such a training will be; a copy of its run lies beside."""
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.0)
    shutil.copytree(unfinished / "m.run", tmp_path / "m.run")
    return tmp_path / "m"


@pytest.mark.slow
def test_resuming_in_the_same_process_gives_the_same_weights(data, interrupted, tmp_path):
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    allkit.Trainer(**SETTINGS).fit(data, out=tmp_path / "whole")
    assert same(weights(interrupted), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finetune_learning_rate": 0.5}, r"finetune_learning_rate = 0.0001, not 0\.5"),
        ({"seed": 3}, "seed = 0, not 3"),
        ({"augment": ["flip"]}, r"augment = \['standard'\], not \['flip'\]"),
    ],
)
def test_other_settings_are_named_and_refused(data, interrupted, change, message):
    before = sorted((interrupted.parent / "m.run").iterdir())
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**SETTINGS | change).fit(data, out=interrupted, resume=True)
    assert sorted((interrupted.parent / "m.run").iterdir()) == before


@pytest.mark.slow
def test_a_training_that_0_1_0_began_goes_on(data, interrupted):
    facts = interrupted.parent / "m.run" / "run.json"
    text = facts.read_text()
    assert '"finetune_epochs"' in text
    facts.write_text(text.replace('"finetune_', '"tune_'))
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    assert interrupted.is_dir()


def test_other_images_are_refused(data, interrupted):
    with pytest.raises(ConfigError, match="other images"):
        allkit.Trainer(**SETTINGS).fit(data.subset(range(20)), out=interrupted, resume=True)


@pytest.mark.slow
def test_an_unfinished_training_is_not_overwritten_without_being_asked(data, interrupted):
    with pytest.raises(
        ConfigError,
        match=r"resume=True \(--resume\) to go on with it, or overwrite=True \(--overwrite",
    ):
        allkit.Trainer(**SETTINGS).fit(data, out=interrupted)
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, overwrite=True)
    assert interrupted.exists()


@pytest.mark.slow
def test_a_second_training_in_the_same_place_is_refused_at_once(data, few, tmp_path):
    with run_module.open_run(tmp_path / "m.run", resume=False, overwrite=False):
        start = time.monotonic()
        with pytest.raises(ConfigError, match="Another training is writing"):
            allkit.Trainer(**SETTINGS).fit(data, out=tmp_path / "m")
        assert time.monotonic() - start < 5.0
    allkit.Trainer(**SETTINGS | {"strategy": "head"}).fit(data, out=tmp_path / "m")


@pytest.mark.slow
def test_to_resume_what_is_finished_changes_nothing(data, tmp_path):
    settings = SETTINGS | {"strategy": "head"}
    allkit.Trainer(**settings).fit(data, out=tmp_path / "m")
    before = (tmp_path / "m" / "SHA256SUMS").read_bytes()
    allkit.Trainer(**settings).fit(data, out=tmp_path / "m", resume=True)
    assert (tmp_path / "m" / "SHA256SUMS").read_bytes() == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_state_that_was_whole(data, interrupted, monkeypatch):
    path = interrupted.parent / "m.run" / "state.safetensors"
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(AllkitError, match=r"No space left(.|\n)*\(--resume\) goes on"):
            allkit.Trainer(**SETTINGS, recorder=Silent()).fit(data, out=interrupted, resume=True)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*.part"))
    allkit.Trainer(**SETTINGS).fit(data, out=interrupted, resume=True)
    assert interrupted.exists()


class Silent:
    def log(self, values):
        pass


@pytest.mark.slow
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


@pytest.fixture(scope="session")
def learnt(drawn):
    """The images that `tiny_folder` was trained on."""
    return allkit.Dataset.open(drawn).split(test=0.34, seed=0).train


def labels_turned(data):
    """The same images; the first two of different classes have changed their labels."""
    first = data.samples[0]
    other = next(i for i, s in enumerate(data) if s.label != first.label)
    samples = list(data.samples)
    samples[0] = replace(first, label=samples[other].label)
    samples[other] = replace(samples[other], label=first.label)
    return allkit.Dataset(samples, data.classes, split_by=data.split_by)


def other_groups(data):
    samples = [replace(s, group=f"other {s.group}") for s in data]
    return allkit.Dataset(samples, data.classes, split_by=data.split_by)


def groups_exchanged(data):
    """The same names of groups, but two images of one class have changed theirs."""
    first = data.samples[0]
    other = next(i for i, s in enumerate(data) if s.label == first.label and s.group != first.group)
    samples = list(data.samples)
    samples[0] = replace(first, group=samples[other].group, case=samples[other].case)
    samples[other] = replace(samples[other], group=first.group, case=first.case)
    return allkit.Dataset(samples, data.classes, split_by=data.split_by)


@pytest.fixture
def no_features(monkeypatch):
    """Whoever sends an image through a backbone fails the test."""

    def refused(self, *arguments, **settings):
        raise AssertionError("features were computed to find out whether a model is the same")

    monkeypatch.setattr("allkit.features.extract.Extractor.extract", refused)


@pytest.mark.parametrize(
    ("settings", "images", "message"),
    [
        ({"seed": 5}, None, r"seed = 0, not 5\. Give the same"),
        ({"epochs": 9}, None, "epochs = 8, not 9"),
        ({"val": 0.3}, None, r"val = 0\.2, not 0\.3"),
        ({}, lambda data: data.subset(range(20)), "other images"),
        ({}, labels_turned, "other labels of the images"),
        ({}, other_groups, "other groups of the images"),
        ({}, groups_exchanged, "other groups, cases or repeated fields"),
        ({}, lambda data: data.subset(range(len(data))[::-1]), "in another order"),
        ({}, lambda data: data.subset(range(len(data)), classes=data.classes[::-1]),
         "the classes in the order"),
    ],
)  # fmt: skip
def test_a_finished_model_of_another_training_is_refused(
    learnt, tiny_folder, tiny_settings, no_features, settings, images, message
):
    data = learnt if images is None else images(learnt)
    before = (tiny_folder / "SHA256SUMS").read_bytes()
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**tiny_settings | settings).fit(data, out=tiny_folder, resume=True)
    assert (tiny_folder / "SHA256SUMS").read_bytes() == before


def test_a_finished_model_with_another_validation_part_is_refused(
    learnt, tiny_folder, tiny_settings, no_features
):
    split = learnt.split(test=0.0, val=0.2, seed=9)
    whole = learnt.subset(range(len(learnt)))
    val = [i for i, s in enumerate(split.whole) if s.part == "val"]
    tail = whole.subset(range(len(whole) - len(val), len(whole)))
    with pytest.raises(ConfigError, match="other images kept for validation"):
        allkit.Trainer(**tiny_settings).fit(
            whole.subset(range(len(whole) - len(val))), tail, out=tiny_folder, resume=True
        )


def test_a_finished_model_of_other_pretrained_weights_is_refused(
    learnt, tiny_folder, tiny_settings, no_features, monkeypatch
):
    from allkit.training import finished

    def other(config, own):
        backbone = made(config, own)
        with torch.no_grad():
            next(backbone.parameters()).add_(1.0)
        return backbone

    made = finished.untrained_backbone
    monkeypatch.setattr(finished, "untrained_backbone", other)
    with pytest.raises(ConfigError, match="other weights of the backbone"):
        allkit.Trainer(**tiny_settings).fit(learnt, out=tiny_folder, resume=True)


def test_a_finished_model_of_the_same_training_is_returned(
    learnt, tiny_folder, tiny_settings, no_features
):
    before = (tiny_folder / "SHA256SUMS").read_bytes()
    model = allkit.Trainer(**tiny_settings).fit(learnt, out=tiny_folder, resume=True)
    assert same(
        model.network.state_dict(), allkit.Classifier.load(tiny_folder).network.state_dict()
    )
    assert (tiny_folder / "SHA256SUMS").read_bytes() == before


def rewritten(folder, copy, change):
    """A copy of a model folder whose description is changed, as if it had been written so."""
    shutil.copytree(folder, copy)
    path = copy / "model.json"
    info = json.loads(path.read_text())
    change(info)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps(info))
    sums = (copy / "SHA256SUMS").read_text()
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    (copy / "SHA256SUMS").write_text(sums.replace(before, after))
    return copy


def test_of_an_older_model_it_is_said_what_could_not_be_compared(
    learnt, tiny_folder, tiny_settings, tmp_path
):
    def older(info):
        del info["passport"], info["config"]["calibration_folds"]

    folder = rewritten(tiny_folder, tmp_path / "old", older)
    trainer = allkit.Trainer(**tiny_settings)
    with pytest.warns(
        UserWarning, match=r"not compared: calibration_folds, which images were kept for validation"
    ):
        trainer.fit(learnt, out=folder, resume=True)
    with pytest.raises(ConfigError, match="seed = 0, not 5"):
        allkit.Trainer(**tiny_settings | {"seed": 5}).fit(learnt, out=folder, resume=True)


def test_a_finished_model_of_older_packages_is_returned_with_a_warning(
    learnt, tiny_folder, tiny_settings, tmp_path
):
    def older(info):
        info["passport"]["versions"]["torch"] = "2.9.9"

    folder = rewritten(tiny_folder, tmp_path / "old", older)
    with pytest.warns(UserWarning, match=r"trained with torch 2\.9\.9 \(now "):
        allkit.Trainer(**tiny_settings).fit(learnt, out=folder, resume=True)


def test_the_command_line_refuses_to_resume_a_finished_model_of_other_settings(
    cli, drawn, tiny_folder
):
    status, _, err = cli(
        "train", drawn, "--out", tiny_folder, "--resume", "--seed", 5,
        "--backbone", "timm:test_resnet", "--set", "weights=none",
    )  # fmt: skip
    assert status == 2
    assert "is finished, and it was trained with" in err


def test_the_command_line_says_that_a_finished_model_was_not_trained_again(
    cli, drawn, tiny_folder, tiny_settings, no_features, tmp_path
):
    split = allkit.Dataset.open(drawn).split(test=0.34, seed=0)
    split.to_csv(tmp_path / "split.csv")
    (tmp_path / "tiny.yaml").write_text(
        json.dumps({key: value for key, value in tiny_settings.items() if key != "cache"})
    )
    status, _, err = cli(
        "train", tmp_path / "split.csv", "--out", tiny_folder, "--resume",
        "--config", tmp_path / "tiny.yaml",
    )  # fmt: skip
    assert status == 0, err
    assert "was finished before, with these settings and images: nothing was trained" in err
    assert "Saved" not in err


def test_to_resume_without_a_place_is_refused(data):
    with pytest.raises(ConfigError, match="needs `out`"):
        allkit.Trainer(**SETTINGS).fit(data, resume=True)


def test_other_groups_are_refused_on_the_way_too(data, interrupted):
    with pytest.raises(ConfigError, match="other groups, cases or repeated fields"):
        allkit.Trainer(**SETTINGS | {"val": 0.2}).fit(
            groups_exchanged(data), out=interrupted, resume=True
        )
