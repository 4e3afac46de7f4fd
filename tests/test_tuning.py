"""The search for settings: on validation only, resumable, and what it writes can be used."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import allkit
from allkit.config import TrainConfig, load_config
from allkit.errors import AllkitError, ConfigError
from allkit.training import importance as importance_module
from allkit.training.importance import best_against_first, importance
from allkit.training.space import RANGES, default_space, read_space
from allkit.training.trials import Trial, best
from allkit.training.tuning import tune

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
def test_a_search_begins_with_the_settings_given_also_outside_its_space(tmp_path, data, base):
    space = {
        "learning_rate": {"low": 0.01, "high": 0.1, "log": True},
        "copies": {"choices": [0]},
    }
    options = {"base": base, "space": space}
    done = tune(data.train, None, tmp_path / "s", trials=1, **options)
    assert done[0].settings == {"learning_rate": 0.003, "copies": 1}
    history = allkit.Trainer(base.changed({"refit": False})).fit(data.train).info.history[0]
    assert min(e["val_loss"] for e in history) == pytest.approx(done[0].value, rel=1e-5)
    done = tune(data.train, None, tmp_path / "s", trials=3, **options)
    assert done[0].settings == {"learning_rate": 0.003, "copies": 1}
    assert all(t.settings["copies"] == 0 and t.settings["learning_rate"] >= 0.01 for t in done[1:])
    with (tmp_path / "s" / "trials.csv").open() as stream:
        assert next(csv.DictReader(stream))["copies"] == "1"


def test_a_start_outside_the_space_that_was_cut_off_is_begun_again(
    tmp_path, data, base, monkeypatch
):
    options = {"base": base, "space": {"copies": {"choices": [0]}}, "trials": 1}

    def cut(*parts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(allkit.Trainer, "fit", cut)
        with pytest.raises(KeyboardInterrupt):
            tune(data.train, None, tmp_path / "s", **options)
    (done,) = tune(data.train, None, tmp_path / "s", **options)
    assert done.settings == {"copies": 1}
    assert done.value is not None


@pytest.mark.slow
def test_settings_that_are_drawn_again_are_not_trained_again(tmp_path, data, base, monkeypatch):
    fits = []
    fit = allkit.Trainer.fit
    monkeypatch.setattr(allkit.Trainer, "fit", lambda *parts: fits.append(1) or fit(*parts))
    space = {"copies": {"choices": [0, 1]}}
    done = tune(data.train, None, tmp_path / "s", base=base, space=space, trials=6)
    assert len(fits) == 2
    first = {t.settings["copies"]: t for t in reversed(done)}
    for trial in done:
        original = first[trial.settings["copies"]]
        assert trial.value == original.value
        assert trial.same_as == (None if trial is original else original.number)


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
    assert "importance of the settings is not known: there are too few trials" in err
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


def test_a_head_that_is_solved_is_searched_by_what_its_solution_depends_on():
    base = TrainConfig()
    assert list(read_space(default_space(base), base)) == [
        "head_penalty",
        "label_smoothing",
        "copies",
    ]
    both = "head_penalty: {low: 0.01, high: 1.0}\ndropout: {low: 0.1, high: 0.5}"
    with pytest.raises(ConfigError, match=r"head_penalty = 0\.01 .* adamw \(dropout\)"):
        read_space(both, base)


STRATEGIES = {
    "lbfgs": {},
    "adamw": {"epochs": 2},
    "last": {"strategy": "last", "unfreeze": 2},
    "full": {"strategy": "full"},
    "lora": {"strategy": "lora"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "lbfgs",
        "adamw",
        "last",
        *(pytest.param(k, marks=pytest.mark.nightly) for k in ("full", "lora")),
    ],
)
def test_every_setting_of_a_default_space_changes_what_is_learnt(few, kind):
    """The network is small and the epochs are few; the last of them is kept, whichever was best."""
    steps = {"epochs": 2, "finetune_epochs": 1, "keep": "last", "copies": 1, "batch_size": 16}
    short = steps if kind != "lbfgs" else {}
    if kind == "full":
        short["finetune_epochs"] = 2  # in the first only one stage learns
    base = TrainConfig(
        **{"backbone": "timm:test_resnet", "weights": "none", "view": "rgb", "bag": "field",
           "calibration_folds": 0, "refit": False, **short, **STRATEGIES[kind]}
    )  # fmt: skip
    data = allkit.Dataset.open(few)

    def learnt(**values):
        return allkit.Trainer(base.changed(values), cache=None).fit(data).network.state_dict()

    space = read_space(default_space(base), base)
    assert len(space) >= 3
    usual = learnt()
    for name, entry in space.items():
        ends = entry["choices"] if "choices" in entry else [entry["low"], entry["high"]]
        # The batches of the space hold all images of this small set.
        value = 4 if name == "batch_size" else ends[ends[0] == getattr(base, name)]
        other = learnt(**{name: value})
        assert any(not torch.equal(usual[key], other[key]) for key in usual), name


def test_every_default_space_is_one_that_is_taken():
    for settings in STRATEGIES.values():
        base = TrainConfig(**settings)
        assert set(read_space(default_space(base), base)) <= set(RANGES)
    assert "layer_decay" not in read_space(
        default_space(TrainConfig(strategy="last")), TrainConfig(strategy="last")
    )


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        ("weight_decay: {low: 0.1, high: 1.0}", {}, "the strategy is head"),
        ("finetune_learning_rate: {low: 0.1, high: 1.0}", {"epochs": 3}, "the strategy is head"),
        ("layer_decay: {low: 0.1, high: 1.0}", {"strategy": "last"}, "one stage is trained"),
        ("layer_decay: {low: 0.1, high: 1.0}", {"strategy": "lora"}, "all learn at one rate"),
        ("lora_rank: {choices: [2, 4]}", {"strategy": "full"}, "the strategy is full"),
        ("focal_gamma: {low: 1.0, high: 3.0}", {}, "the loss is cross_entropy"),
        ("max_cells: {choices: [4, 8]}", {"bag": "field"}, "the bag is field"),
        ("patience: {low: 2, high: 9}", {"folds": 3}, "no epoch is chosen in cross-validation"),
        ("refit: {choices: [true, false]}", {}, "judged before it would be trained again"),
        ("coverage: {low: 0.8, high: 0.9}", {}, "decides verdicts"),
        ("accumulation: {choices: [1, 2]}", {"epochs": 3}, "not the result"),
        ("tta: {choices: [true, false]}", {}, "the validation loss is measured without it"),
    ],
)
def test_a_setting_that_does_nothing_is_refused_with_the_reason(text, settings, reason):
    with pytest.raises(
        ConfigError, match=f"{text.partition(':')[0]} in .* does nothing here: .*{reason}"
    ):
        read_space(text, TrainConfig(**settings))


def test_a_setting_that_does_something_beside_others_of_the_space_is_taken():
    text = "weight_decay: {low: 0.1, high: 1.0}\nstrategy: {choices: [head, last]}"
    assert set(read_space(text, TrainConfig())) == {"weight_decay", "strategy"}
    assert "tta" in read_space("tta: {choices: [true, false]}", TrainConfig(), metric="accuracy")


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adamw"])
def test_every_trial_of_a_search_has_the_same_solver(tmp_path, data, solver):
    base = TrainConfig(
        backbone="timm:test_resnet", weights="none", view="rgb", bag="field", calibration_folds=0
    )
    space = read_space(default_space(base.changed({"head_solver": solver})), base)
    done = tune(data.train, None, tmp_path / "s", base=base, space=space, trials=2, cache=None)
    defaults = TrainConfig().model_dump()
    assert done[0].settings == {name: defaults[name] for name in space}
    assert all(trial.error is None for trial in done)
    assert load_config(tmp_path / "s" / "best.yaml")["head_solver"] == solver


# ── what a search shows ────────────────────────────────────────────────────────────────────

SHAPES = {
    "head_penalty": {"low": 1e-3, "high": 10.0, "log": True},
    "label_smoothing": {"low": 0.0, "high": 0.2},
    "copies": {"choices": [0, 1, 2]},
}


def trials_with(effect, noise, count):
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        settings = {
            "head_penalty": float(f"{10 ** rng.uniform(-3, 1):.4g}"),
            "label_smoothing": float(f"{rng.uniform(0, 0.2):.4g}"),
            "copies": int(rng.integers(3)),
        }
        value = effect * abs(np.log10(settings["head_penalty"]) + 1) + noise * rng.normal()
        made.append(Trial(number, settings, float(value), 1.0, {}))
    return made


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(importance_module, "RESAMPLES", 8)


@pytest.mark.slow
def test_importance_tells_what_matters_from_chance(few_resamples):
    found = importance(trials_with(1.0, 0.1, 30), SHAPES, "val_loss")
    assert [one.setting for one in found if one.known] == ["head_penalty"]
    assert found[0].setting == "head_penalty"
    assert found[0].low <= found[0].share
    assert all(0 <= one.low <= one.high <= 1 for one in found)
    assert sum(one.share for one in found) == pytest.approx(1)
    assert str(found[1]).endswith("which chance alone can give")
    assert found == importance(trials_with(1.0, 0.1, 30), SHAPES, "val_loss")


@pytest.mark.slow
def test_noise_alone_makes_no_setting_important(few_resamples):
    assert not any(one.known for one in importance(trials_with(0.0, 1.0, 24), SHAPES, "val_loss"))


def test_of_too_few_trials_nothing_is_said():
    assert importance(trials_with(1.0, 0.1, 11), SHAPES, "val_loss") == ()
    failed = [Trial(n, {}, None, 1.0, {}, "no") for n in range(30)]
    assert importance(failed, SHAPES, "val_loss") == ()


def compared(first, other, metric="accuracy"):
    trials = [
        Trial(number, {}, float(np.mean(folds)), 1.0, {}, folds=tuple(folds))
        for number, folds in enumerate((first, other))
    ]
    return best_against_first(trials, metric)


def test_the_best_is_better_only_beyond_the_noise_of_the_folds():
    clear = compared([0.70, 0.72, 0.74, 0.71, 0.73], [0.80, 0.82, 0.84, 0.81, 0.83])
    assert clear.low > 0
    assert "more than the folds differ by chance" in str(clear)
    noisy = compared([0.70, 0.90, 0.60, 0.80, 0.75], [0.85, 0.80, 0.75, 0.70, 0.90])
    assert noisy.low < 0 < noisy.gain
    assert str(noisy).startswith("It is not better than the first trial beyond chance")
    loss = compared([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], "val_loss")
    assert loss.gain == pytest.approx(0.1)


def test_one_validation_part_cannot_tell_and_says_so():
    trials = [Trial(0, {}, 0.5, 1.0, {}), Trial(1, {}, 0.4, 1.0, {})]
    assert "one validation part cannot tell" in str(best_against_first(trials, "val_loss"))
    assert best_against_first(trials, "accuracy") is None  # the first is the best


@pytest.mark.slow
def test_a_search_with_folds_compares_them(tmp_path, data, base):
    folded = base.changed({"folds": 2, "epochs": 1, "refit": False})
    done = tune(
        data.train, None, tmp_path / "s", base=folded, space=SPACE, trials=2, metric="accuracy"
    )
    assert all(len(trial.folds) == 2 for trial in done)
    shares = []
    again = tune(
        data.train, None, tmp_path / "s", base=folded, space=SPACE, trials=2, metric="accuracy",
        explained=shares.extend,
    )  # fmt: skip
    assert [t.folds for t in again] == [t.folds for t in done]
    assert shares == []


def test_a_search_over_own_parts_is_refused(tmp_path, data, base):
    own = base.changed({"loss": "own:mine"})
    with pytest.raises(ConfigError, match="loss own:mine"):
        tune(data.train, None, tmp_path / "s", base=own, space=SPACE, trials=1)


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
        ("a: 1\nb: [", r"not YAML: .* in line 2, column 5"),
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
    shares = {"a": (0.8, 0.6, 0.9, 0.5, True), "b": (0.2, 0.1, 0.6, 0.5, False)}
    picture = trials_picture(trials, "val_loss", lower_is_better=True, importance=shares)
    Path(tmp_path / "p.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
