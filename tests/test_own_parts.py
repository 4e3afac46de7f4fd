"""Parts of the user's own in a training: they work, are repeated, and are named where they count."""

import copy
import functools
import io
import json
import pickle  # noqa: TID251 - a classifier with an own backbone is sent to other processes

import numpy as np
import pytest
import torch
from torch import nn

import allkit
from allkit.config import TrainConfig
from allkit.errors import (
    AllkitError,
    CheckpointError,
    ConfigError,
    DatasetError,
    PluginError,
)
from allkit.features import FeatureCache
from allkit.model.own import classifier_in, own_backbone
from allkit.model.parts import packed, read_parts, unpacked
from allkit.telemetry import import_silent
from allkit.training import Epoch
from allkit.training.own import taken
from allkit.training.own_augment import own_augmentation
from allkit.training.reproduce import reproduce

SMALL = {"cache": None, "calibration_folds": 0, "view": "rgb", "bag": "field", "refit": False}
TINY = {"backbone": "timm:test_resnet", "weights": "none", **SMALL}

albumentations = import_silent("albumentations")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 5, 4), nn.Conv2d(4, 6, 3, 2)

    def forward(self, x):
        return self.second(self.first(x).relu()).relu().mean((2, 3))


class Highest(Net):
    def forward(self, x):
        return self.second(self.first(x).relu()).relu().amax((2, 3))


def net(kind=Net):
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return kind()


def chain():
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def data(few):
    return allkit.Dataset.open(few)


def pack(model):
    return packed(model.network, model.info, model.trust, model.training)


@pytest.fixture(scope="module")
def model(data):
    return allkit.Trainer(backbone=net(), **SMALL).fit(data)


# ── an own backbone ────────────────────────────────────────────────────────────────────────


def test_a_module_is_trained_as_it_is_and_left_as_it_was(data, model):
    given = net()
    before = copy.deepcopy(given.state_dict())
    again = allkit.Trainer(backbone=given, **SMALL).fit(data)
    assert all(torch.equal(given.state_dict()[k], v) for k, v in before.items())
    assert again.content_hash() == model.content_hash()
    info = model.info
    assert (info.backbone.name, info.config.backbone) == ("own:Net", "own:Net")
    assert info.own == ("backbone own:Net",)
    assert info.backbone.input.size == 224
    for name, tensor in before.items():
        assert torch.equal(model.network.backbone.state_dict()[name], tensor)


def test_a_record_says_how_its_input_is_made(data):
    record = allkit.Backbone("mine", lambda weights: net(), input=allkit.InputSpec(size=96))
    model = allkit.Trainer(backbone=record, **SMALL).fit(data)
    assert model.info.backbone.name == "own:mine"
    assert model.spec.size == 96


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["last", pytest.param("full", marks=pytest.mark.nightly)])
def test_an_own_chain_is_trained_to_the_end(data, strategy):
    settings = SMALL | {"epochs": 1, "finetune_epochs": 2, "keep": "last"}
    model = allkit.Trainer(backbone=chain(), strategy=strategy, **settings).fit(data)
    assert model.info.backbone.trained == {"last": ("2",), "full": ("0", "2")}[strategy]
    now, before = model.network.backbone.state_dict(), chain().state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(now[name], before[name])}
    assert changed == set(model.info.backbone.trained)
    assert copy.deepcopy(model).content_hash() == model.content_hash()


def test_what_is_no_chain_cannot_be_cut(data):
    with pytest.raises(ConfigError, match="'own:Net' declares no stages"):
        allkit.Trainer(backbone=net(), strategy="last", **SMALL).fit(data)


def test_a_copy_answers_the_same_and_a_folder_asks_for_the_module(data, model, tmp_path):
    images = [data.read(0), data.read(7)]
    expected = model.probabilities(images)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
        assert (copied.probabilities(images) == expected).all()
    folder = model.save(tmp_path / "m")
    with pytest.raises(PluginError, match=r"own backbone \('own:Net'\).*backbone=module"):
        read_parts(folder)
    for given in (net(), Net):
        parts = read_parts(folder, given)
        loaded = allkit.Classifier(parts.network, parts.info, trust=parts.trust)
        assert (loaded.probabilities(images) == expected).all()
    with pytest.raises(CheckpointError, match="other tensors than 'own:Net'"):
        read_parts(folder, chain())
    with pytest.raises(CheckpointError, match="computes other features from the same weights"):
        read_parts(folder, net(Highest))


def test_a_backbone_that_is_given_for_a_model_of_a_plugin_is_refused(trained):
    with pytest.raises(ConfigError, match="Leave `backbone` out"):
        unpacked(*pack(trained()), net())


def test_two_modules_of_one_name_and_the_same_weights_do_not_share_features(data, tmp_path):
    cache = FeatureCache(tmp_path)
    first = allkit.Trainer(backbone=net(), **SMALL | {"cache": cache}).fit(data)

    class Net(Highest):
        pass

    second = allkit.Trainer(backbone=net(Net), **SMALL | {"cache": cache}).fit(data)
    alone = allkit.Trainer(backbone=net(Net), **SMALL).fit(data)
    assert first.info.backbone.weights_sha256 == second.info.backbone.weights_sha256
    assert second.content_hash() == alone.content_hash() != first.content_hash()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_model_with_an_own_backbone_is_exported_as_others_are(model, data, tmp_path):
    report = model.export(tmp_path / "m.onnx", check=[data.read(0), data.read(5)])
    assert report.images == 2
    assert (tmp_path / "m.onnx").is_file()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, ConfigError, "The backbone is 3"),
        (lambda: 3, PluginError, "returned a int, no module of torch"),
        (lambda: 1 / 0, PluginError, "failed: ZeroDivisionError"),
    ],
)
def test_what_is_no_backbone_is_named(given, error, message):
    with pytest.raises(error, match=message):
        own_backbone(given)


def test_random_weights_of_a_module_are_refused():
    with pytest.raises(ConfigError, match="weights = none does nothing"):
        allkit.Trainer(backbone=net(), weights="none")


# ── own augmentations ──────────────────────────────────────────────────────────────────────


def darker(image):
    return image // 2


def unchanged(image, **_):
    return image


def shifted(image, rng):
    return np.roll(image, int(rng.integers(image.shape[0])), axis=0)


def test_names_functions_records_and_transforms_stand_beside_each_other(data):
    record = allkit.Augmentation("mine", shifted)
    augment = ["flip", darker, shifted, record, albumentations.HorizontalFlip(p=0.5)]
    settings = TINY | {"augment": augment, "copies": 1}
    first, second = (allkit.Trainer(**settings).fit(data) for _ in range(2))
    names = ("flip", "own:darker", "own:shifted", "own:mine", "own:HorizontalFlip")
    assert first.info.config.augment == names
    assert first.info.own == tuple(f"augment {name}" for name in names[1:])
    assert first.content_hash() == second.content_hash()
    without = allkit.Trainer(**TINY | {"augment": ["flip"], "copies": 1}).fit(data)
    assert without.content_hash() != first.content_hash()


@pytest.mark.parametrize(
    "given",
    [shifted, albumentations.RandomBrightnessContrast(p=1.0)],
    ids=["function", "transform"],
)
def test_a_draw_is_a_function_of_the_generator(given):
    record = own_augmentation(given, "own:x").record
    image = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
    before = image.copy()
    one, same, other = (record.apply(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert (image == before).all()


def test_only_what_is_known_by_its_content_is_kept_in_the_cache(data, tmp_path):
    cache = FeatureCache(tmp_path)

    def kept(augment):
        settings = TINY | {"augment": [augment], "copies": 1, "cache": cache}
        allkit.Trainer(**settings).fit(data)
        return sum(entry[2] for entry in cache.entries() if entry[0] == "timm:test_resnet")

    with_blur = kept(albumentations.Blur(blur_limit=3, p=1.0))
    assert with_blur > 24
    assert kept(albumentations.Blur(blur_limit=3, p=1.0)) == with_blur
    assert kept(albumentations.Blur(blur_limit=7, p=1.0)) > with_blur
    before = kept(albumentations.Blur(blur_limit=7, p=1.0))
    assert kept(darker) == kept(albumentations.Lambda(image=unchanged, name="f")) == before


def test_an_augmentation_that_fails_is_named(data):
    with pytest.raises(PluginError, match=r"augmentation 'own:lambda' returned \(5, 5, 3\) uint8"):
        allkit.Trainer(**TINY, augment=[lambda image: image[:5, :5]], copies=1).fit(data)
    with pytest.raises(ConfigError, match="An augmentation is 3"):
        allkit.Trainer(augment=[3])


# ── own loss, optimiser, scheduler ─────────────────────────────────────────────────────────


def cross_entropy(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def adamw(parameters, lr):
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=TrainConfig().head_decay)


async def asynchronous(*_):
    return True


def generating(*_):
    yield True


class Cosine:
    def __init__(self, optimiser, steps):
        self.optimiser, self.steps, self.done = optimiser, steps, 0
        self.set()

    def set(self):
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * 0.5 * (1 + np.cos(np.pi * self.done / self.steps))

    def step(self):
        self.done += 1
        self.set()


def weights(model):
    return model.network.heads[0].linear.weight


def test_what_allkit_does_itself_is_the_same_as_own_parts(data):
    settings = TINY | {"epochs": 3}
    expected = weights(allkit.Trainer(**settings).fit(data))
    own = allkit.Trainer(**settings, loss=cross_entropy, optimizer=adamw, scheduler=Cosine).fit(
        data
    )
    torch.testing.assert_close(weights(own), expected, rtol=1e-4, atol=1e-6)
    assert own.info.config.head_solver == "adamw"
    assert own.info.own == (
        "optimizer own:adamw", "scheduler own:Cosine", "loss own:cross_entropy",
    )  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.3)},
        {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)},
        {"scheduler": lambda optimiser, steps: torch.optim.lr_scheduler.StepLR(optimiser, 1, 0.1)},
    ],
    ids=["loss", "optimizer", "scheduler"],
)
def test_each_own_part_changes_what_is_learnt(data, parts, trained_in_steps):
    assert not torch.equal(
        weights(allkit.Trainer(**TINY, **parts, epochs=2, keep="last").fit(data)), trained_in_steps
    )


@pytest.fixture(scope="module")
def trained_in_steps(data):
    return weights(allkit.Trainer(**TINY, epochs=2, keep="last").fit(data))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"loss": cross_entropy, "head_solver": "lbfgs"}, "loss = own:cross_entropy.*lbfgs"),
        ({"optimizer": adamw, "head_solver": "lbfgs"}, "optimizer = own:adamw.*lbfgs"),
        (
            {"loss": cross_entropy, "label_smoothing": 0.1},
            "label_smoothing = 0.1 does nothing beside loss",
        ),
        ({"optimizer": adamw, "head_decay": 0.1}, "head_decay = 0.1 does nothing beside optimizer"),
        ({"scheduler": Cosine, "warmup": 0.1}, "warmup = 0.1 does nothing beside scheduler"),
        ({"optimizer": lambda p: p, "learning_rate": 0.1}, "learning_rate = 0.1 does nothing"),
        ({"loss": "own:mine"}, r"own part.*Give it again: Trainer\(\.\.\., loss=\.\.\.\)"),
        ({"loss": "hinge"}, "must be cross_entropy or focal; in Python a function"),
        (
            {"loss": nn.CrossEntropyLoss},
            r"the class CrossEntropyLoss\. Give an instance: loss=CrossEntropyLoss\(\)",
        ),
        (
            {"optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))])},
            r"^optimizer is an SGD that has its parameters already.*lambda parameters: SGD\(.*\)\.$",
        ),
        (
            {"scheduler": torch.optim.lr_scheduler.ExponentialLR},
            r"takes no number of steps.*lambda optimizer, steps: ExponentialLR\(optimizer",
        ),
        ({"augment": [darker], "copies": 0}, "augment = own:darker does nothing with copies = 0"),
        ({"callbacks": asynchronous}, "callbacks: 'asynchronous' is an async function"),
        ({"callbacks": [generating]}, "callbacks: 'generating' is a generator"),
        ({"callbacks": functools.partial(generating)}, "'generating' is a generator"),
        ({"loss": asynchronous}, "loss: 'asynchronous' is an async function"),
        ({"optimizer": generating}, "optimizer: 'generating' is a generator"),
        ({"augment": [generating]}, "augment: 'generating' is a generator"),
    ],
)
def test_contradictions_are_refused_by_name(parts, message):
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"loss": lambda logits, labels: logits},
            r"loss 'own:lambda' returned the shape \(\d+, 4\)",
        ),
        ({"loss": lambda logits, labels: 1 / 0}, "loss 'own:lambda' failed: ZeroDivisionError"),
        ({"loss": lambda logits, labels: torch.tensor(1.0)}, "without a gradient"),
        (
            {"loss": lambda logits, labels: cross_entropy(logits, labels).detach()},
            r"loss 'own:lambda' returned a value without a gradient.*epoch 1",
        ),
        ({"optimizer": lambda parameters: 3}, "optimizer 'own:lambda' returned a int"),
        ({"scheduler": lambda optimiser, steps: 3}, "scheduler 'own:lambda' returned a int"),
        (
            {"scheduler": lambda o, s: torch.optim.lr_scheduler.ReduceLROnPlateau(o)},
            "scheduler 'own:lambda' failed: TypeError",
        ),
    ],
)
def test_an_own_part_that_fails_is_named(data, parts, message):
    with pytest.raises(PluginError, match=message):
        allkit.Trainer(**TINY, **parts, epochs=1).fit(data)


# ── callbacks ──────────────────────────────────────────────────────────────────────────────


def test_a_callback_is_told_of_every_epoch_and_may_end_the_training(data):
    told = []
    model = allkit.Trainer(
        **TINY | {"refit": True}, epochs=5, callbacks=[told.append, lambda e: e.epoch == 2]
    ).fit(data)
    assert [(e.member, e.phase, e.epoch, e.epochs) for e in told] == [
        (0, "head", 1, 5), (0, "head", 2, 5), (1, "head", 1, 5), (1, "head", 2, 5),
    ]  # fmt: skip
    assert isinstance(told[0], Epoch)
    assert set(told[0].metrics) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert np.isnan(told[2].metrics["val_loss"])
    (history,) = model.info.history
    assert len(history) == 2
    assert history[-1]["ended_by_callback"] == 1
    assert model.info.own == ("callback own:append", "callback own:lambda")


@pytest.mark.parametrize("answer", [np.bool_(True), np.float64(0.1) < 1])
def test_a_truth_value_of_numpy_ends_a_training_as_well(data, answer):
    model = allkit.Trainer(**TINY, epochs=4, callbacks=[lambda e: answer, lambda e: None]).fit(data)
    assert len(model.info.history[0]) == 1


@pytest.mark.parametrize("answer", [np.bool_(False), False, None])
def test_a_callback_that_does_not_say_stop_lets_the_training_go_on(data, answer):
    model = allkit.Trainer(**TINY, epochs=2, callbacks=lambda e: answer).fit(data)
    assert len(model.info.history[0]) == 2


@pytest.mark.parametrize("answer", [1, "stop", np.array([True])], ids=repr)
def test_a_callback_that_returns_anything_else_is_refused_by_name(data, answer):
    def deciding(epoch):
        return answer

    kind = type(answer).__name__
    with pytest.raises(
        ConfigError, match=f"callback 'own:deciding' returned a {kind} after epoch 1"
    ):
        allkit.Trainer(**TINY, epochs=2, callbacks=deciding).fit(data)


def test_a_callback_that_switches_gradients_off_changes_nothing(data, trained_in_steps):
    def off(epoch):
        torch.set_grad_enabled(False)

    model = allkit.Trainer(**TINY, epochs=2, keep="last", callbacks=off).fit(data)
    assert torch.is_grad_enabled()
    assert torch.equal(weights(model), trained_in_steps)


def test_a_head_that_is_solved_is_told_once(data):
    told = []
    model = allkit.Trainer(**TINY, callbacks=told.append).fit(data)
    assert [(e.epoch, e.epochs) for e in told] == [(1, 1)]
    assert told[0].metrics["val_loss"] == model.info.history[0][-1]["val_loss"]


@pytest.mark.slow
def test_a_training_goes_on_after_a_callback_has_failed(data, tmp_path):
    settings = TINY | {
        "epochs": 4,
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "scheduler": lambda o, n: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, n),
    }
    expected = allkit.Trainer(**settings, callbacks=lambda e: None).fit(data)
    told = []
    faults = [True]

    def lambda_(epoch):
        told.append(epoch.epoch)
        if epoch.epoch == 2 and faults:
            faults.pop()
            raise OSError("no room")

    lambda_.__name__ = "<lambda>"
    trainer = allkit.Trainer(**settings, callbacks=lambda_)
    with pytest.raises(
        AllkitError, match=r"callback 'own:lambda' failed after epoch 2.*resume=True"
    ):
        trainer.fit(data, out=tmp_path / "m")
    with pytest.raises(ConfigError, match="started with other own parts"):
        allkit.Trainer(**settings).fit(data, out=tmp_path / "m", resume=True)
    resumed = trainer.fit(data, out=tmp_path / "m", resume=True)
    assert told == [1, 2, 2, 3, 4]
    assert resumed.content_hash() == expected.content_hash()
    assert (
        trainer.fit(data, out=tmp_path / "m", resume=True).content_hash() == resumed.content_hash()
    )


def test_what_cannot_be_repeated_says_so(data):
    model = allkit.Trainer(**TINY, epochs=1, loss=cross_entropy).fit(data)
    with pytest.raises(CheckpointError, match=r"own parts \(loss own:cross_entropy\)"):
        reproduce(model, data)
    ended = allkit.Trainer(**TINY, epochs=3, callbacks=lambda e: True).fit(data)
    with pytest.raises(CheckpointError, match=r"own parts \(callback own:lambda\)"):
        reproduce(ended, data)


# ── settings and sets ──────────────────────────────────────────────────────────────────────


def test_a_trainer_is_shown_by_what_is_not_usual():
    assert repr(allkit.Trainer()) == "Trainer(backbone='vgg16')"
    assert (
        repr(allkit.Trainer(epochs=5)) == "Trainer(backbone='vgg16', head_solver='adamw', epochs=5)"
    )
    assert "backbone='own:Net'" in repr(allkit.Trainer(backbone=net()))


def test_a_name_from_another_tool_leads_to_the_one_of_here():
    for name, meant in {
        "lr": "learning_rate", "bs": "batch_size", "n_epochs": "epochs", "arch": "backbone",
        "pretrained": "weights", "transforms": "augment", "criterion": "loss",
        "random_state": "seed", "valid_pct": "val", "wd": "weight_decay", "opt_func": "optimizer",
        "freeze": "strategy", "early_stopping": "patience", "imgsz": "backbone",
        "Epochs": "epochs", "learning-rate": "learning_rate",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError) as raised:
            allkit.Trainer(**{name: 1})
        message = str(raised.value)
        assert f"'{meant}'" in message or f"`{meant}`" in message, message
        assert len(message) < 250
        assert "--" not in message


def test_every_setting_of_the_table_of_other_tools_is_there():
    from allkit.config.elsewhere import ELSEWHERE

    known = {*TrainConfig.model_fields, "callbacks"}
    assert {setting for meant, _ in ELSEWHERE.values() for setting in meant} <= known
    assert not set(ELSEWHERE) & known


def test_the_command_line_names_its_own_way_to_all_settings(cli, few):
    status, _, err = cli("train", few, "--out", "m", "--set", "lr=0.1")
    assert status == 2
    assert "'learning_rate'" in err
    assert "--print-config" in err


def test_a_model_of_timm_is_proposed_by_its_whole_name():
    with pytest.raises(PluginError, match="Did you mean 'timm:resnet18'"):
        allkit.Trainer(backbone="resnet18")
    with pytest.raises(PluginError, match=r"Did you mean 'timm:resnet18\.a1_in1k'"):
        allkit.Trainer(backbone="resnet18.a1_in1k")
    with pytest.raises(PluginError, match="Did you mean 'vgg16'"):
        allkit.Trainer(backbone="vgg61")


def test_what_is_no_set_is_told_how_to_become_one(data):
    import pandas as pd

    trainer = allkit.Trainer(**TINY)
    for given, way in (
        ([data.read(0)], r"Dataset\.from_arrays.*Dataset\.open.*SmearClassifier"),
        ("smears", r"allkit\.Dataset\.open\('smears'\)"),
        (pd.DataFrame({"image": ["a.png"]}), "from_dataframe"),
        (data.split(test=0.34, seed=0), r"fit\(split\.train, split\.val\)"),
        (io.BytesIO(), "not a BytesIO"),
    ):
        with pytest.raises(DatasetError, match=way):
            trainer.fit(given, [0])
    with pytest.raises(DatasetError, match="not a list"):
        trainer.fit(data, [0])


def test_settings_with_own_parts_are_plain_values():
    values, own = taken({"backbone": net(), "loss": cross_entropy, "augment": darker})
    config = TrainConfig.parse(values)
    assert json.loads(config.model_dump_json())["loss"] == "own:cross_entropy"
    assert own.loss is cross_entropy
    assert TrainConfig.parse(json.loads(config.model_dump_json())) == config


# ── a backbone that is none ───────────────────────────────────────────────────────────────────


class Broken(Net):
    def forward(self, x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class Lazy(Net):
    def __init__(self):
        super().__init__()
        self.last = nn.LazyLinear(5)

    def forward(self, x):
        return self.last(super().forward(x))


class Named(Net):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(super().forward(x))


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Broken, PluginError, r"'own:Broken' failed on an image of zeros.*mat1.*features \(N, D\)"),
        (nn.Identity, PluginError, r"'own:Identity' returned \(1, 3, 224, 224\).*must return \(1, D\)"),
        (Lazy, ConfigError, r"'last' of the backbone 'own:Lazy' takes its size.*LazyLinear.*once"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bag", ["field", "both"])
def test_a_module_that_gives_no_features_is_named_with_what_is_wanted(
    data, kind, error, message, bag
):
    with pytest.raises(error, match=message):
        allkit.Trainer(**SMALL | {"backbone": net(kind), "bag": bag}).fit(data)


def test_a_lazy_module_that_has_seen_an_image_is_a_backbone_like_others(data):
    module = net(Lazy)
    module(torch.zeros(1, 3, 224, 224))
    assert allkit.Trainer(backbone=module, **SMALL).fit(data).info.backbone.width == 5


def test_logits_that_are_taken_for_features_are_warned_of_by_the_name_of_their_layer(data):
    with pytest.warns(UserWarning, match=r"'own:Named' ends in a classifier \(fc\): its 4 outputs"):
        allkit.Trainer(backbone=net(Named), **SMALL).fit(data)


def test_features_of_a_linear_layer_with_another_name_are_features():
    assert classifier_in(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), 5) == ""
    assert classifier_in(net(Named), 4) == "fc"
    assert classifier_in(net(Named), 6) == ""  # what it gives is not what that layer gives
    assert classifier_in(net(), 6) == ""
