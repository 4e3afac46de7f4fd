"""The search for settings: on validation only, resumable, and what it writes can be used."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import allkit
from allkit.config import TrainConfig, load_config
from allkit.errors import AllkitError, ConfigError
from allkit.training.tuning import DEFAULT_SPACE, HEAD_SPACE, best, default_space, read_space, tune

optuna = pytest.importorskip("optuna")
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "copies": {"choices": [0, 1]}}


@pytest.fixture
def base(tiny_settings):
    return TrainConfig(**{k: v for k, v in tiny_settings.items() if k != "cache"}, copies=1)


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn).split(test=0.34, seed=0)


def search(data, out, base, trials, **options):
    return tune(data.train, None, out, base=base, space=SPACE, trials=trials, **options)


@pytest.mark.slow
def test_a_search_begins_with_the_settings_given_and_writes_the_best(tmp_path, data, base):
    done = search(data, tmp_path / "s", base, 4)
    assert [t.number for t in done] == [0, 1, 2, 3]
    assert done[0].settings == {"learning_rate": 0.003, "copies": 1}
    winner = best(done, "val_loss")
    assert winner.value == min(t.value for t in done)
    config = TrainConfig.parse(load_config(tmp_path / "s" / "best.yaml"))
    assert config == TrainConfig.parse(base.model_dump() | winner.settings)
    with (tmp_path / "s" / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["val_loss"]) for r in rows] == [t.value for t in done]
    assert (tmp_path / "s" / "trials.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_figure_of_the_best_is_what_its_training_gives_again(tmp_path, data, base):
    winner = best(search(data, tmp_path / "s", base, 3), "val_loss")
    config = TrainConfig.parse(load_config(tmp_path / "s" / "best.yaml"))
    history = allkit.Trainer(config).fit(data.train).info.history[0]
    assert min(e["val_loss"] for e in history) == pytest.approx(winner.value, rel=1e-5)


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, data, base):
    whole = search(data, tmp_path / "whole", base, 5)
    first = search(data, tmp_path / "parts", base, 2)
    rest = search(data, tmp_path / "parts", base, 5)
    assert [t.settings for t in rest[:2]] == [t.settings for t in first]
    assert [(t.settings, t.value) for t in rest] == [(t.settings, t.value) for t in whole]
    assert search(data, tmp_path / "parts", base, 5) == rest


@pytest.mark.slow
def test_a_search_that_was_killed_in_a_trial_does_that_trial_again(tmp_path, drawn, data, base):
    script = f"""
import os, allkit, allkit.training.tuning as tuning
from pathlib import Path
from allkit.config import TrainConfig
data = allkit.Dataset.open({str(drawn)!r}).split(test=0.34, seed=0)
fit, count = tuning.Trainer.fit, [0]
def killed(self, *parts):
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), 9)
    return fit(self, *parts)
tuning.Trainer.fit = killed
base = TrainConfig.parse({base.model_dump(mode="json")!r})
tuning.tune(data.train, None, Path({str(tmp_path / "s")!r}), base=base, space={SPACE!r}, trials=5)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    done = search(data, tmp_path / "s", base, 5)
    whole = search(data, tmp_path / "whole", base, 5)
    assert len(done) == 5
    assert [t.settings for t in done[:3]] == [t.settings for t in whole[:3]]


@pytest.mark.slow
def test_test_images_are_never_seen(cli, data, tmp_path, monkeypatch, base):
    seen = set()
    fit = allkit.Trainer.fit

    def watched(self, train, val=None, **options):
        seen.update(train.hashes)
        seen.update(val.hashes if val is not None else ())
        return fit(self, train, val, **options)

    monkeypatch.setattr(allkit.Trainer, "fit", watched)
    data.to_csv(tmp_path / "split.csv")
    options = [
        f"--set={k}={v}"
        for k, v in base.model_dump(mode="json").items()
        if k in ("backbone", "weights", "epochs")
    ]
    status, _, err = cli("tune", "split.csv", "--out", "s", "--trials", "2", *options)
    assert status == 0
    assert seen == set(data.train.hashes)
    assert "trial 1: val_loss" in err
    assert "chosen by this metric, which is therefore too good" in err
    assert cli("train", "split.csv", "--out", "m", "--config", "s/best.yaml")[0] == 0


@pytest.mark.slow
def test_a_trial_that_fails_is_noted_and_the_search_goes_on(tmp_path, data, base, monkeypatch):
    fit = allkit.Trainer.fit

    def fails(self, *parts):
        if self.config.copies == 0:
            raise AllkitError("The loss is no longer a number.")
        return fit(self, *parts)

    monkeypatch.setattr(allkit.Trainer, "fit", fails)
    done = search(data, tmp_path / "s", base, 6)
    failed = [t for t in done if t.value is None]
    assert failed
    assert failed[0].error == "The loss is no longer a number."
    assert best(done, "val_loss").settings["copies"] == 1


def test_another_search_in_the_same_folder_is_refused_and_named(tmp_path, data, base):
    search(data, tmp_path / "s", base, 1)
    with pytest.raises(ConfigError, match="other metric"):
        search(data, tmp_path / "s", base, 1, metric="accuracy")
    with pytest.raises(ConfigError, match="other settings"):
        search(data, tmp_path / "s", base.model_copy(update={"seed": 1}), 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="holds no search"):
        search(data, tmp_path / "full", base, 1)


def test_the_time_that_is_given_is_kept(tmp_path, data, base):
    assert search(data, tmp_path / "s", base, 5, timeout=0) == []


def test_the_default_space_holds_settings_that_exist():
    space = read_space(DEFAULT_SPACE, TrainConfig())
    assert "learning_rate" in space
    assert yaml.safe_load(DEFAULT_SPACE) == space


def test_a_head_that_is_solved_is_searched_by_what_its_solution_depends_on():
    base = TrainConfig()
    assert default_space(base) == HEAD_SPACE
    assert "head_penalty" in read_space(HEAD_SPACE, base)
    assert default_space(TrainConfig(strategy="last")) == DEFAULT_SPACE
    both = "head_penalty: {low: 0.01, high: 1.0}\ndropout: {low: 0.1, high: 0.5}"
    with pytest.raises(ConfigError, match=r"head_penalty = 0\.01 .* adamw \(dropout\)"):
        read_space(both, base)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "solver"), [(HEAD_SPACE, "lbfgs"), (DEFAULT_SPACE, "adamw")])
def test_every_trial_of_a_search_has_the_same_solver(tmp_path, data, text, solver):
    base = TrainConfig(
        backbone="timm:test_resnet", weights="none", view="rgb", bag="field", calibration_folds=0
    )
    space = read_space(text, base)
    done = tune(data.train, None, tmp_path / "s", base=base, space=space, trials=2, cache=None)
    defaults = TrainConfig().model_dump()
    assert done[0].settings == {name: defaults[name] for name in space}
    assert all(trial.error is None for trial in done)
    assert load_config(tmp_path / "s" / "best.yaml")["head_solver"] == solver


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropuot: {low: 0.0, high: 0.5}", "Did you mean 'dropout'"),
        ("dropout: {low: 0.5, high: 0.1}", "low must be a number below high"),
        ("learning_rate: {low: 0, high: 0.1, log: true}", "above 0 with log"),
        ("dropout: {low: 0.5, high: 1.5}", "dropout = 1.5"),
        ("dropout: 0.5", "must be {low"),
        ("seed: {low: 1, high: 5}", "decides how the metric is measured"),
        ("- 1", "must hold lines"),
        ("a: [", "not YAML"),
    ],
)
def test_a_search_space_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_space(text, TrainConfig())


def test_the_picture_takes_every_kind_of_setting(tmp_path):
    from allkit.report.pictures import trials_picture

    trials = [
        (n, None if n == 3 else 0.5 / (n + 1), {"a": 10.0**-n, "b": ["x", "y"][n % 2], "c": n})
        for n in range(9)
    ]
    picture = trials_picture(trials, "val_loss", lower_is_better=True)
    Path(tmp_path / "p.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
