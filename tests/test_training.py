"""Training, answering, judging, keeping."""

import contextlib
import importlib.util
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import allkit
import allkit.plugins
from allkit.config import TrainConfig
from allkit.errors import CheckpointError, ConfigError, DatasetError, PluginError
from allkit.features import WORTH_AN_ENGINE
from allkit.network.modules import Head
from allkit.training.device import processes
from allkit.training.loop import Loop
from allkit.training.member import Member
from allkit.training.objective import Objective
from allkit.training.plan import Plan
from allkit.training.sources import FeatureSource

OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others(data, tiny_settings):
    split = data.split(test=0.34, seed=0)
    settings = tiny_settings | {"copies": 0, "epochs": 3}

    def weights(seed):
        model = allkit.Trainer(**settings, seed=seed).fit(split.train, split.test)
        return torch.cat([p.flatten() for p in model.network.heads.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.slow
def test_training_leaves_the_random_state_of_the_user_alone(data, tiny_settings):
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()
    allkit.Trainer(**tiny_settings | {"copies": 1, "epochs": 2}).fit(data)
    after = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_a_head_learns_what_the_features_tell():
    """With features that give the class away, the held-out images are answered rightly."""
    labels = torch.arange(4).repeat(50)
    features = torch.nn.functional.one_hot(labels, 4).float() * 5 + torch.randn(
        200, 4, generator=torch.Generator().manual_seed(0)
    )
    head, history = trained_head(features, labels, 120, patience=40, learning_rate=0.05)
    assert (head(features[120:]).argmax(1) == labels[120:]).float().mean() > 0.9
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_the_loss_of_a_step_is_the_one_that_was_asked_for():
    """With one step an epoch, the first figure is the loss of the weights before any step."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 24 + [1] * 12 + [2] * 8 + [3] * 4)
    features = torch.randn(48, 16, generator=rng)
    settings = {
        "epochs": 1, "batch_size": 48, "loss": "focal", "focal_gamma": 2.0, "label_smoothing": 0.1,
        "class_weights": True, "dropout": 0.0,
    }  # fmt: skip
    with head_loop(features, labels, 48, **settings) as loop:
        with torch.inference_mode():
            logs = torch.log_softmax(loop.member.head(features), dim=1)
        (told,) = loop.fit()
    own = logs.gather(1, labels[:, None])[:, 0]
    smoothed = -(0.9 * own + 0.1 * logs.mean(dim=1))
    weights = torch.tensor([0.5, 1.0, 1.5, 3.0])[labels]
    expected = (weights * (1 - own.exp()) ** 2 * smoothed).sum() / weights.sum()
    assert told["train_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_batches_are_balanced_mixed_and_warmed_up_when_asked_for(monkeypatch):
    told, rates = [], []
    losses = Objective.losses

    def watched(self, logits, labels):
        told.append(labels.clone())
        return losses(self, logits, labels)

    monkeypatch.setattr(Objective, "losses", watched)
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 180 + [1] * 12 + [2] * 4 + [3] * 4)
    settings = {
        "epochs": 4, "batch_size": 200, "balanced_sampler": True, "mixup": 0.4, "warmup": 0.5,
        "learning_rate": 0.01,
    }  # fmt: skip
    with head_loop(torch.randn(200, 16, generator=rng), labels, 200, **settings) as loop:
        loop.recorder = SimpleNamespace(log=lambda values: rates.append(values["learning_rate"]))
        loop.fit()
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.005])
    # Each step asks twice: for an image's own label, and for that of the one it is mixed with.
    assert len(told) == 8
    for own, other in zip(told[::2], told[1::2], strict=True):
        assert not torch.equal(own, other)
        assert torch.equal(own.sort().values, other.sort().values)
    shares = torch.bincount(torch.cat(told), minlength=4) / 1600
    assert ((shares > 0.2) & (shares < 0.3)).all()


def test_early_stopping_keeps_the_best_epoch():
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 16, generator=rng), torch.arange(60) % 4
    head, history = trained_head(features, labels, 40, epochs=200, patience=3, learning_rate=0.5)
    losses = [epoch["val_loss"] for epoch in history]
    assert len(history) < 200
    with torch.inference_mode():
        logits = head(features[40:])
        best = float(torch.nn.functional.cross_entropy(logits, labels[40:]))
    assert best == pytest.approx(min(losses), abs=1e-5)


def test_the_last_epoch_is_kept_when_asked_for():
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 16, generator=rng), torch.arange(60) % 4
    head, history = trained_head(features, labels, 40, epochs=12, learning_rate=0.5, keep="last")
    with torch.inference_mode():
        logits = head(features[40:])
        last = float(torch.nn.functional.cross_entropy(logits, labels[40:]))
    assert last == pytest.approx(history[-1]["val_loss"], abs=1e-5)
    assert last > min(entry["val_loss"] for entry in history)


@contextlib.contextmanager
def head_loop(features, labels, learnt, **settings):
    """A loop that trains a head on the first `learnt` rows and checks it on the others."""
    config = TrainConfig(**settings)
    member = Member(torch.nn.Identity(), Head(features.shape[1], 4))
    member.head.fit_scale([features[:learnt]])
    with processes(torch.device("cpu")) as accelerator:
        yield Loop(
            accelerator, config, Plan("head", config.epochs, config.batch_size, config.learning_rate),
            member, FeatureSource([features.numpy()], torch.device("cpu")),
            np.arange(learnt), np.arange(learnt, len(labels)), labels,
        )  # fmt: skip


def trained_head(features, labels, learnt, **settings):
    """A head that such a loop has trained, and its history."""
    with head_loop(features, labels, learnt, **settings) as loop:
        history = loop.fit()
        return loop.member.head, history


def test_the_validation_part_is_taken_by_group(data, tiny_settings):
    model = allkit.Trainer(**tiny_settings | {"val": 0.3}).fit(data)
    assert "by group" in model.info.validation["protocol"]
    assert len(model.info.data.images_sha256) == 48
    assert len(model.info.data.groups_sha256) == 12


@pytest.mark.slow
def test_a_head_that_was_judged_is_trained_again_on_all_images(data, tiny_settings):
    split = data.split(test=0.34, seed=0)
    settings = tiny_settings | {"copies": 1}
    again = allkit.Trainer(**settings).fit(split.train, split.test)
    once = allkit.Trainer(**settings, refit=False).fit(split.train, split.test)
    told = again.info.validation
    # What is told of it is of the head that had not seen the validation part.
    assert (told["n"], told["confusion"]) == (len(split.test), once.info.validation["confusion"])
    assert again.info.history == once.info.history
    assert "before the head was trained again on all images" in told["protocol"]
    assert "again" not in once.info.validation["protocol"]
    (answers,) = again.network.heads
    (judged,) = once.network.heads

    def of(images):
        """Mean of the features of images and of their copies, as a head takes it."""
        return allkit.Trainer(**settings | {"val": 0.0}).fit(images).network.heads[0].mean

    assert torch.allclose(judged.mean, of(split.train))
    both = data.subset([i for i, s in enumerate(split.whole) if s.part in ("train", "test")])
    assert torch.allclose(answers.mean, of(both))


def test_folds_judge_every_image_once_and_answer_with_the_mean(data, tiny_settings):
    model = allkit.Trainer(**tiny_settings | {"folds": 3, "epochs": 3}).fit(data)
    assert model.info.validation["n"] == 48
    assert model.info.validation["protocol"] == "3-fold cross-validation by group, pooled"
    assert len(model.network.heads) == 3
    image = data.read(0)
    features = torch.from_numpy(model._extractor.compute([image]))
    mean = torch.stack([head(features) for head in model.network.heads]).mean(0)
    np.testing.assert_allclose(model.outputs([image]).logits, mean.numpy(), atol=1e-5)


def test_a_training_without_validation_says_that_it_has_no_figures(data, tiny_settings):
    model = allkit.Trainer(**tiny_settings | {"val": 0.0, "epochs": 2}).fit(data)
    assert model.info.validation is None
    from allkit.report.card import model_card

    assert "None: it was trained without a validation part" in model_card(model.info.model_dump())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vgg61"}, "Did you mean 'vgg16'"),
        ({"augment": ["standart"]}, "Did you mean 'standard'"),
        ({"learning_rat": 1}, "Unknown setting 'learning_rat'.*Did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs = 0"),
        ({"val": 1.5}, "val = 1.5"),
        ({"strategy": "ful"}, "strategy = 'ful'"),
        ({"device": "gpu9"}, "'gpu9' is no device"),
        ({"folds": 1}, "folds = 1"),
        ({"weights": "no/such.safetensors"}, "not a file"),
    ],
)
def test_a_wrong_setting_is_named(data, tiny_settings, settings, message):
    with pytest.raises((ConfigError, PluginError), match=message):
        allkit.Trainer(**tiny_settings | settings).fit(data)


def test_a_class_with_one_image_and_a_set_with_one_class_are_refused(data, tiny_settings):
    pro = [i for i, s in enumerate(data) if s.label == "Pro"]
    others = [i for i in range(len(data)) if i not in pro]
    trainer = allkit.Trainer(**tiny_settings | {"val": 0.0})
    with pytest.raises(DatasetError, match="Pro: one image only"):
        trainer.fit(data.subset([*others, pro[0]]))
    with pytest.raises(DatasetError, match="Pro"):
        trainer.fit(data.subset(others))
    with pytest.raises(DatasetError, match="one class only"):
        trainer.fit(allkit.Dataset([data.samples[i] for i in pro]))


def test_a_label_in_one_part_only_is_refused(data, tiny_settings):
    train = allkit.Dataset([s for s in data if s.label != "Pro"])
    val = allkit.Dataset([s for s in data if s.label == "Pro"])
    with pytest.raises(DatasetError, match="Pro: in the validation part only"):
        allkit.Trainer(**tiny_settings).fit(train, val)


def test_a_backbone_that_pools_nothing_is_refused_by_name(data, tiny_settings):
    from allkit import plugins
    from allkit.plugins.host import using

    host = plugins.Registry(discover=False)
    record = allkit.Backbone("flat", lambda weights: torch.nn.Conv2d(3, 4, 3))
    hook = allkit.hookimpl(lambda: [record])
    host.register(SimpleNamespace(allkit_backbones=hook), name="flat")
    with using(host), pytest.raises(PluginError, match=r"'flat' returned .* it must return"):
        allkit.Trainer(**tiny_settings | {"backbone": "flat"}).fit(data)


# ── answering ─────────────────────────────────────────────────────────────────────────────────


def test_an_answer_has_probabilities_that_sum_to_one_and_waits_for_review(tiny, data):
    (answer,) = tiny.predict(data.read(0))
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
    assert answer.verdict == "review"
    assert "not calibrated" in answer.reasons  # eight validation images are too few


def test_answers_come_in_order_and_bad_images_are_answers_too(tiny, data, tmp_path):
    good = data.samples[0].source.path
    (tmp_path / "bad.jpg").write_text("text")
    answers = tiny.predict([good, tmp_path / "bad.jpg", tmp_path / "none.png", data.read(1), good])
    assert [a.verdict for a in answers] == [
        "review",
        "unreadable",
        "unreadable",
        "review",
        "review",
    ]
    assert [a.image for a in answers][3] == "image 3"
    assert answers[0].probabilities == pytest.approx(answers[4].probabilities, abs=1e-6)
    assert "bad.jpg" in answers[1].error
    assert answers[1].label is None


def test_answers_do_not_depend_on_the_batch(tiny, data):
    images = [data.read(i) for i in range(7)]
    together = tiny.probabilities(images)
    alone = np.concatenate([tiny.probabilities([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_long_stream_holds_three_batches_of_images_at_the_most(tiny, data):
    alive, most = 0, 0
    source = data.samples[0].source.read()

    class Counting(bytes):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def images():
        nonlocal alive, most
        for _ in range(200):
            alive += 1
            most = max(most, alive)
            yield Counting(source)

    assert sum(1 for _ in tiny.stream(images(), batch_size=4)) == 200
    assert most <= 20


def test_threads_sharing_one_model_get_the_answers_of_one_alone(tiny, data):
    images = [data.read(i) for i in range(8)]
    alone = [tiny.probabilities([image]) for image in images]
    together = [None] * 8

    def run(i):
        together[i] = tiny.probabilities([images[i]])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@OPENVINO
def test_threads_that_share_openvino_get_the_answers_of_one_alone(tiny_folder, data):
    shared = allkit.Classifier.load(tiny_folder, engine="openvino")
    images = [data.read(i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(shared.probabilities, [[image] for image in images] * 4))
    for number, got in enumerate(together):
        np.testing.assert_array_equal(got, shared.probabilities([images[number % 8]]))


@OPENVINO
def test_many_images_do_not_change_the_engine_of_what_is_asked_later(tiny_folder, data):
    model = allkit.Classifier.load(tiny_folder)
    image = data.read(0)
    before = model.probabilities([image])
    assert len(list(model.stream([image] * WORTH_AN_ENGINE))) == WORTH_AN_ENGINE
    np.testing.assert_array_equal(model.probabilities([image]), before)


# ── judging ───────────────────────────────────────────────────────────────────────────────────


def test_the_figures_are_those_of_the_answers(tiny, data):
    test = data.split(test=0.34, seed=0).test
    figures = tiny.evaluate(test)
    labels = [a.label for a in tiny.predict([test.read(i) for i in range(len(test))])]
    right = np.mean([a == s.label for a, s in zip(labels, test, strict=True)])
    assert figures.accuracy == pytest.approx(right)
    assert sum(map(sum, figures.confusion)) == len(test)
    assert not any("trained on:" in note for note in figures.notes)


@pytest.mark.slow
def test_images_and_groups_that_were_trained_on_are_noticed(tiny, data):
    split = data.split(test=0.34, seed=0)
    notes = " ".join(tiny.evaluate(split.train).notes)
    assert f"{len(split.train)} of these {len(split.train)} images were trained on" in notes
    other = allkit.Dataset.sample(12, groups=12, seed=9)
    from dataclasses import replace

    group = split.train.samples[0].group
    mixed = allkit.Dataset([replace(s, group=group) for s in other], other.classes)
    assert "come from groups that were trained on" in " ".join(tiny.evaluate(mixed).notes)


@pytest.mark.slow
def test_an_image_level_split_is_named_beside_its_figure(data, tiny_settings):
    split = data.split(test=0.3, by="image", seed=0)
    model = allkit.Trainer(**tiny_settings | {"epochs": 2}).fit(split.train)
    assert any("Image-level split" in note for note in model.evaluate(split.test).notes)


@pytest.mark.slow
def test_folds_and_validation_of_an_image_level_split_keep_its_label(data, tiny_settings, tmp_path):
    data.to_folds_csv(tmp_path / "f.csv", 3, by="image")
    settings = tiny_settings | {"epochs": 2, "copies": 0}
    folds = allkit.Dataset.open(tmp_path / "f.csv")
    model = allkit.Trainer(**settings | {"folds": 3}).fit(folds)
    assert "by image" in model.info.validation["protocol"]
    assert any("Image-level" in note for note in model.info.validation["notes"])
    model = allkit.Trainer(**settings).fit(data.split(test=0.3, by="image").train)
    assert model.info.data.split_by == "image"


def test_the_folder_of_the_weights_is_not_kept(data, tiny_settings, tmp_path):
    import timm
    from safetensors.torch import save_file

    net = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    settings = tiny_settings | {"weights": str(tmp_path / "mine.safetensors"), "copies": 0}
    model = allkit.Trainer(**settings).fit(data)
    assert model.info.config.weights == "mine.safetensors"


def test_labels_that_the_model_does_not_know_are_refused(tiny, data):
    from dataclasses import replace

    other = allkit.Dataset([replace(s, label="cat") for s in data.samples[:3]])
    with pytest.raises(DatasetError, match="'cat', which this model does not know"):
        tiny.evaluate(other)


# ── keeping ───────────────────────────────────────────────────────────────────────────────────


def test_a_saved_model_answers_to_the_bit_like_before(tiny, tiny_folder, data):
    images = [data.read(i) for i in range(5)]
    again = allkit.Classifier.load(tiny_folder)
    np.testing.assert_array_equal(again.probabilities(images), tiny.probabilities(images))
    assert again.info == tiny.info
    assert sorted(p.name for p in tiny_folder.iterdir()) == [
        "README.md", "SHA256SUMS", "model.json", "model.safetensors", "plots",
    ]  # fmt: skip
    assert {p.name for p in (tiny_folder / "plots").iterdir()} == {
        "learning_curves.png", "confusion.png", "reliability.png",
    }  # fmt: skip


def test_the_sums_are_those_of_sha256sum(tiny_folder):
    import subprocess

    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tiny_folder, check=True)


def test_no_file_name_and_no_group_name_of_the_training_is_in_the_model(tiny_folder):
    text = (tiny_folder / "model.json").read_text() + (tiny_folder / "README.md").read_text()
    assert "drawn-0" not in text
    assert "slide-" not in text


def test_an_existing_folder_is_replaced_only_when_asked(tiny, tmp_path):
    tiny.save(tmp_path / "m")
    with pytest.raises(ConfigError, match="exists already"):
        tiny.save(tmp_path / "m")
    (tmp_path / "m" / "mine.txt").write_text("x")
    tiny.save(tmp_path / "m", overwrite=True)
    assert not (tmp_path / "m" / "mine.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_save_that_fails_leaves_nothing_and_keeps_the_old(tiny, tmp_path, monkeypatch):
    tiny.save(tmp_path / "m")
    before = (tmp_path / "m" / "SHA256SUMS").read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(allkit.AllkitError, match="No space left"):
        tiny.save(tmp_path / "m", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "SHA256SUMS").read_bytes() == before


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_one_flipped_bit_is_noticed(tiny_folder, tmp_path, name):
    rng = np.random.default_rng(0)
    original = (tiny_folder / name).read_bytes()
    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    for position in rng.integers(len(original), size=25):
        data = bytearray(original)
        data[position] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(data)
        with pytest.raises(CheckpointError, match="altered or damaged"):
            allkit.Classifier.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "SHA256SUMS"])
def test_a_missing_file_is_named(tiny_folder, tmp_path, name):
    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        allkit.Classifier.load(folder)


def test_an_edited_card_only_warns(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    (folder / "README.md").write_text("mine")
    with pytest.warns(UserWarning, match="was edited"):
        allkit.Classifier.load(folder)


def resealed(folder, change):
    """Change model.json and its hash, as another program might have written it."""
    import hashlib

    info = json.loads((folder / "model.json").read_text())
    change(info)
    (folder / "model.json").write_text(json.dumps(info))
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    lines = [f"{digest}  model.json" if line.endswith("model.json") else line for line in lines]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.update(format=3), "format 3; this allkit reads up to 2. Update allkit"),
        (lambda i: i.pop("classes"), "classes"),
        (lambda i: i.update(classes=["Benign"]), "classes"),
        (
            lambda i: i["backbone"].update(width=7),
            r"backbone.width = 7 with 4 classes needs \(7,\)",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tiny_folder, tmp_path, change, message):
    folder = resealed(shutil.copytree(tiny_folder, tmp_path / "m"), change)
    with pytest.raises(CheckpointError, match=message):
        allkit.Classifier.load(folder)


def test_a_model_of_a_missing_plugin_says_what_to_install(tiny_folder, tmp_path):
    def change(info):
        info["backbone"] |= {"name": "bloom", "distribution": "allkit-bloom", "version": "3.1"}

    folder = resealed(shutil.copytree(tiny_folder, tmp_path / "m"), change)
    with pytest.raises(PluginError, match=r"install allkit-bloom==3\.1"):
        allkit.Classifier.load(folder)


def test_what_is_no_model_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        allkit.Classifier.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="SHA256SUMS"):
        allkit.Classifier.load(tmp_path)
