"""The head on frozen features as a logistic regression: one solution, and when it is not taken."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import allkit
from allkit.config import TrainConfig
from allkit.errors import AllkitError, ConfigError
from allkit.network.modules import Head
from allkit.training.logistic import ABSENT, LogisticHead
from allkit.training.session import Session
from allkit.training.sources import FeatureSource

SMALL = {
    "backbone": "timm:test_resnet", "weights": "none", "cache": None, "view": "rgb", "bag": "field",
    "calibration_folds": 0, "copies": 0,
}  # fmt: skip


def problem(count=120, width=24, classes=4, copies=1):
    """Features of `count` images and their copies, and labels that they tell partly."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    centres = rng.normal(size=(classes, width))
    views = [
        (centres[labels] + 2 * rng.normal(size=(count, width))).astype(np.float32)
        for _ in range(copies + 1)
    ]
    return views, torch.from_numpy(labels)


def solved(views, labels, learnt, *, classes=4, report=lambda entry, seconds: None, **settings):
    """A head that was solved for the first `learnt` images and judged on the others; its history."""
    source = FeatureSource(views, torch.device("cpu"), np.arange(learnt))
    source.views = [views[0], *(view[:learnt] for view in views[1:])]
    head = Head(views[0].shape[1], classes)
    head.fit_scale([torch.from_numpy(view[:learnt]) for view in views])
    everything = np.arange(len(labels))
    regression = LogisticHead(
        config=TrainConfig(**settings),
        head=head,
        source=source,
        learn=everything[:learnt],
        check=everything[learnt:],
        labels=labels,
        report=report,
    )
    return head, regression.fit()


def weights_of(head):
    return torch.cat([head.linear.weight.flatten(), head.linear.bias]).detach()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weights": False, "head_penalty": 0.01},
        {"label_smoothing": 0.1},
        {"loss": "focal", "focal_gamma": 1.5},
    ],
)
def test_no_step_from_the_solution_lowers_the_loss(settings):
    """The gradient of the penalised loss, written out here once more in float64, is zero."""
    views, labels = problem()
    config = TrainConfig(**settings)
    head, _ = solved(views, labels, 100, **settings)
    rows = torch.cat([head.standardised(torch.from_numpy(view[:100])) for view in views]).double()
    targets = labels[:100].repeat(2)
    weights = head.linear.weight.detach().double().requires_grad_()
    biases = head.linear.bias.detach().double().requires_grad_()
    logs = torch.log_softmax(rows @ weights.T + biases, dim=1)
    right = logs.gather(1, targets[:, None])[:, 0]
    smooth = config.label_smoothing
    losses = -((1 - smooth) * right + smooth * logs.mean(dim=1))
    if config.loss == "focal":
        losses = losses * (1 - right.exp()) ** config.focal_gamma
    shares = torch.ones(200, dtype=torch.float64)
    if config.class_weights:
        shares = 1 / torch.bincount(targets).double()[targets]
    loss = (shares * losses).sum() / shares.sum()
    loss = loss + config.head_penalty / 2 * weights.square().sum()
    loss.backward()
    assert float(weights.grad.abs().max()) < 3e-5
    assert float(biases.grad.abs().max()) < 3e-5
    assert float(weights.detach().abs().max()) > 0.05


def test_scikit_learn_finds_the_same_solution():
    views, labels = problem(copies=0)
    head, _ = solved(views, labels, 100, head_penalty=0.05)
    rows = head.standardised(torch.from_numpy(views[0])).double().numpy()
    other = LogisticRegression(C=1 / (100 * 0.05), class_weight="balanced", tol=1e-8, max_iter=2000)
    other.fit(rows[:100], labels[:100])
    answers = torch.softmax(head(torch.from_numpy(views[0])), dim=1).detach().numpy()
    np.testing.assert_allclose(answers, other.predict_proba(rows), atol=2e-3)


def test_a_second_run_gives_the_same_bits_whatever_the_first_weights_were():
    views, labels = problem()
    torch.manual_seed(1)
    first, _ = solved(views, labels, 100)
    torch.manual_seed(2)
    second, _ = solved(views, labels, 100)
    assert torch.equal(weights_of(first), weights_of(second))


def test_all_copies_of_an_image_count_alike():
    views, labels = problem(copies=2)
    a, b, c = views
    head, _ = solved([a, b, c], labels, 120)
    swapped, _ = solved([c, a, b], labels, 120)
    torch.testing.assert_close(weights_of(head), weights_of(swapped), atol=1e-3, rtol=0)
    without, _ = solved([a, b], labels, 120)
    assert float((weights_of(head) - weights_of(without)).abs().max()) > 0.01


def test_a_higher_penalty_gives_more_cautious_answers():
    views, labels = problem()
    images = torch.from_numpy(views[0])
    surest = []
    for penalty in (0.01, 0.1, 1.0):
        head, _ = solved(views, labels, 120, head_penalty=penalty)
        surest.append(float(torch.softmax(head(images).detach(), dim=1).max()))
    assert surest[0] > surest[1] > surest[2]


def test_every_iteration_is_an_entry_of_the_learning_curve():
    views, labels = problem()
    told = []
    head, history = solved(views, labels, 100, report=lambda entry, _: told.append(entry))
    assert told == history
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    with torch.inference_mode():
        logits = head(torch.from_numpy(views[0][100:]))
    right = float((logits.argmax(1) == labels[100:]).float().mean())
    assert history[-1]["val_accuracy"] == pytest.approx(right)
    weights = 100 / (4 * torch.bincount(labels[:100]).float())
    loss = float(torch.nn.functional.cross_entropy(logits, labels[100:], weights))
    assert history[-1]["val_loss"] == pytest.approx(loss, abs=1e-4)


def test_a_class_that_no_learner_has_is_never_answered():
    views, labels = problem()
    order = torch.argsort((labels == 2).int(), stable=True).numpy()
    views, labels = [view[order] for view in views], labels[order]
    learnt = int((labels != 2).sum())
    head, history = solved(views, labels, learnt)
    wild = torch.from_numpy(1e3 * np.random.default_rng(1).normal(size=(500, 24))).float()
    logits = head(torch.cat([torch.from_numpy(views[0]), wild])).detach()
    assert torch.equal(logits[:, 2], torch.full((len(logits),), ABSENT))
    assert (logits.max(dim=1).values >= -1e-4).all()
    assert history[-1]["val_accuracy"] == 0.0  # all that it is judged on are of that class
    # The others are answered as if the class did not exist.
    renamed = torch.where(labels == 3, 2, labels)[:learnt]
    three, _ = solved([view[:learnt] for view in views], renamed, learnt, classes=3)
    few = torch.from_numpy(views[0])
    torch.testing.assert_close(head(few)[:, [0, 1, 3]], three(few), atol=1e-3, rtol=0)


def test_a_head_with_one_class_to_learn_names_that_class():
    views, _ = problem(classes=1)
    head, history = solved(views, torch.ones(120, dtype=torch.int64), 100)
    assert set(head(torch.from_numpy(views[0])).argmax(1).tolist()) == {1}
    assert [entry["val_accuracy"] for entry in history] == [1.0]


def test_features_that_are_no_numbers_are_refused():
    views, labels = problem()
    views[1][3, 5] = np.nan
    with pytest.raises(AllkitError, match=r"infinite or no numbers.*Check the backbone"):
        solved(views, labels, 100)


def test_a_solution_that_was_not_reached_is_said_to_be_none(monkeypatch):
    monkeypatch.setattr("allkit.training.logistic.ITERATIONS", 2)
    views, labels = problem()
    with pytest.warns(UserWarning, match=r"not reach its solution in 2 iterations.*head_penalty"):
        solved(views, labels, 100)


# ── settings ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "solver"),
    [
        ({}, "lbfgs"),
        ({"seed": 3, "copies": 2, "label_smoothing": 0.1, "members": 1, "folds": 3}, "lbfgs"),
        ({"epochs": 40}, "adamw"),
        ({"dropout": 0.3}, "adamw"),
        ({"balanced_sampler": True}, "adamw"),
        ({"members": 3}, "adamw"),
        ({"strategy": "last"}, "adamw"),
        ({"strategy": "head", "head_penalty": 0.3}, "lbfgs"),
        ({"head_solver": "adamw"}, "adamw"),
    ],
)
def test_a_setting_of_steps_means_steps(values, solver):
    config = TrainConfig.parse(values)
    assert config.head_solver == solver
    assert TrainConfig.parse(config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head_solver": "lbfgs", "dropout": 0.5}, "dropout = 0.5 .* head_solver is lbfgs"),
        ({"head_solver": "lbfgs", "epochs": 3}, "Leave epochs out, or give head_solver=adamw"),
        ({"head_solver": "lbfgs", "members": 3}, "members = 3 .* all members would be equal"),
        ({"head_solver": "lbfgs", "strategy": "full"}, "The strategy full trains .* in steps"),
        ({"head_penalty": 1.0, "mixup": 0.2}, r"head_penalty = 1 .* adamw \(mixup\)"),
        ({"head_penalty": 1.0, "strategy": "last"}, r"adamw \(strategy = last\)"),
        ({"head_penalty": 0.0}, "head_penalty = 0.0"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.parse(values)


def test_settings_over_others_settle_the_solver_again():
    assert allkit.Trainer(TrainConfig(seed=2), dropout=0.1).config.head_solver == "adamw"
    assert allkit.Trainer(TrainConfig(seed=2), strategy="last").config.head_solver == "adamw"
    assert allkit.Trainer(TrainConfig(seed=2), copies=0).config.head_solver == "lbfgs"
    with pytest.raises(ConfigError, match="dropout"):
        allkit.Trainer(TrainConfig(head_solver="lbfgs"), dropout=0.1)


def test_there_is_no_learning_rate_and_no_batch_size_to_find(few):
    trainer = allkit.Trainer(**SMALL)
    for find in (trainer.find_learning_rate, trainer.find_batch_size):
        with pytest.raises(ConfigError, match=r"not trained in steps\. Give head_solver=adamw"):
            find(allkit.Dataset.open(few))


# ── whole trainings ────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def logged(few):
    """A model of the default solver on the 24 smears, and the lines that its recorder got."""
    lines = []
    recorder = SimpleNamespace(log=lambda values: lines.append(dict(values)))
    model = allkit.Trainer(**SMALL, recorder=recorder).fit(allkit.Dataset.open(few))
    return model, lines


@pytest.mark.slow
def test_a_training_with_the_defaults_solves_the_head_and_keeps_its_curves(logged):
    model, lines = logged
    assert model.info.config.head_solver == "lbfgs"
    assert len(model.info.history) == 1
    assert len(model.info.history[0]) > 3
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= set(
        model.info.history[0][0]
    )
    judged = [line for line in lines if line["member"] == 0]
    assert [line["val_loss"] for line in judged] == [e["val_loss"] for e in model.info.history[0]]
    assert {line["member"] for line in lines} == {0, 1}  # then again on all images
    assert all(line["seconds"] > 0 and line["phase"] == "head" for line in lines)
    assert "decide when to stop" not in model.info.validation["protocol"]
    assert model.predict([np.zeros((64, 64, 3), np.uint8)])


@pytest.mark.slow
def test_the_same_images_give_the_same_model_whatever_the_seed_of_the_head(logged, few):
    model, _ = logged
    again = allkit.Trainer(**SMALL).fit(allkit.Dataset.open(few))
    assert torch.equal(weights_of(model.network.heads[0]), weights_of(again.network.heads[0]))


@pytest.mark.slow
def test_a_training_that_was_ended_goes_on_with_the_heads_that_were_finished(
    few, tmp_path, monkeypatch
):
    data = allkit.Dataset.open(few)
    settings = SMALL | {"folds": 2}
    whole = allkit.Trainer(**settings).fit(data)
    assert len(whole.network.heads) == 2
    train = Session.train
    trained = []

    def ended(self, number):
        trained.append(number)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return train(self, number)

    monkeypatch.setattr(Session, "train", ended)
    with pytest.raises(KeyboardInterrupt):
        allkit.Trainer(**settings).fit(data, out=tmp_path / "m")
    facts = tmp_path / "m.run" / "run.json"
    before = json.loads(facts.read_text())
    older = before | {"config": {k: v for k, v in before["config"].items() if "head_" not in k}}
    older["config"]["head_decay"] = before["config"]["head_decay"]
    facts.write_text(json.dumps(older))
    with pytest.raises(ConfigError, match="head_solver = 'adamw', not 'lbfgs'"):
        allkit.Trainer(**settings).fit(data, out=tmp_path / "m", resume=True)
    facts.write_text(json.dumps(before))
    resumed = allkit.Trainer(**settings).fit(data, out=tmp_path / "m", resume=True)
    for head, other in zip(resumed.network.heads, whole.network.heads, strict=True):
        assert torch.equal(weights_of(head), weights_of(other))
