"""What is trained beside the head, and what can go wrong meanwhile."""

import json
import os
import socket
import subprocess
import sys
import warnings
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import allkit
import allkit.plugins
from allkit.config import TrainConfig
from allkit.errors import AllkitError, ConfigError, PluginError
from allkit.features import FeatureCache
from allkit.network.modules import oriented
from allkit.training.averaging import Average
from allkit.training.objective import Objective, class_weights, mix
from allkit.training.seeds import epoch_order, generator

QUICK = {"epochs": 2, "finetune_epochs": 2, "finetune_batch_size": 8, "precision": "float32"}


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn)


@pytest.fixture
def settings(tiny_settings):
    return tiny_settings | QUICK


def stages(model):
    return dict(model.network.backbone.named_children())


def changed(model, name):
    """Whether a stage's weights differ from those that the backbone was built with."""
    fresh = allkit.plugins.registry().get("backbone", "timm:test_resnet")
    built = allkit.network.modules.build_backbone(fresh, "none", "a test")
    before = dict(built.named_children())[name].state_dict()
    return any(not torch.equal(v, before[k]) for k, v in stages(model)[name].state_dict().items())


# ── strategies ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_last_trains_the_last_stage_and_nothing_before_it(trained):
    model = trained(**QUICK, strategy="last", keep="last")
    assert changed(model, "layer4")
    assert not any(changed(model, name) for name in ("stem", "layer1", "layer2", "layer3"))
    assert model.info.backbone.trained == ("layer4",)
    assert model.info.backbone.weights_sha256 != model.info.backbone.pretrained_sha256
    assert len(model.info.history[0]) == 4  # two epochs of the head, two of the stage


@pytest.mark.slow
def test_the_card_says_what_was_trained(trained):
    from allkit.report.card import model_card

    tuned = trained(**QUICK, strategy="last", tta=True)
    text = model_card(tuned.info.model_dump(mode="json"))
    assert "with layer4 trained, its features averaged over the eight orientations" in text
    assert "frozen" not in text
    head = trained(**QUICK)
    assert "frozen; " in model_card(head.info.model_dump(mode="json"))


@pytest.mark.slow
def test_more_stages_are_trained_when_asked_for(data, settings):
    model = allkit.Trainer(**settings, strategy="last", unfreeze=2, keep="last").fit(data)
    assert changed(model, "layer3")
    assert not changed(model, "layer2")


@pytest.mark.slow
def test_full_unfreezes_one_stage_after_another(few, settings):
    more = {"strategy": "full", "keep": "last", "val": 0.0}
    one = allkit.Trainer(**settings | more | {"finetune_epochs": 10, "epochs": 1})
    seen = []

    class Recorder:
        def log(self, values):
            seen.append((values["phase"], values["epoch"]))

    one.recorder = Recorder()
    model = one.fit(allkit.Dataset.open(few))
    assert [phase for phase, _ in seen] == ["head"] + 10 * ["full"]
    assert all(changed(model, name) for name in ("stem", "layer1", "layer4"))


@pytest.mark.slow
def test_batch_statistics_stay_as_they_came(trained):
    model = trained(**QUICK, strategy="full", keep="last")
    fresh = allkit.plugins.registry().get("backbone", "timm:test_resnet")
    before = allkit.network.modules.build_backbone(fresh, "none", "a test").state_dict()
    for name, value in model.network.backbone.state_dict().items():
        if "running_" in name:
            assert torch.equal(value, before[name])


@pytest.mark.slow
def test_adapters_are_merged_into_a_plain_network(data, trained, tmp_path):
    pytest.importorskip("peft")
    model = trained(**QUICK, strategy="lora", keep="last", finetune_learning_rate=1e-2)
    assert not [name for name in model.network.state_dict() if "lora" in name]
    # Not in the blocks: random weights begin with branches that are scaled by zero.
    assert changed(model, "stem")
    again = allkit.Classifier.load(model.save(tmp_path / "m"))
    image = [data.read(0)]
    np.testing.assert_array_equal(again.probabilities(image), model.probabilities(image))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["last", "lora"])
def test_cached_activations_give_the_weights_that_images_give(few, settings, tmp_path, strategy):
    data = allkit.Dataset.open(few)
    more = {"strategy": strategy, "unfreeze": 1, "keep": "last", "engine": "torch"}
    plain = allkit.Trainer(**settings | more).fit(data)
    cached = allkit.Trainer(**settings | more | {"cache": FeatureCache(tmp_path)}).fit(data)
    again = allkit.Trainer(**settings | more | {"cache": FeatureCache(tmp_path)}).fit(data)
    assert list((tmp_path / "activations").iterdir())
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(cached.network.state_dict()[name], value, atol=1e-4, rtol=1e-3)
        assert torch.equal(again.network.state_dict()[name], cached.network.state_dict()[name])


@pytest.mark.slow
def test_a_stage_that_makes_it_worse_is_not_kept(data, settings):
    """Learning wildly, the stage is worse in most epochs; the best moment answers."""
    split = data.split(test=0.34, seed=0)
    wild = settings | {"strategy": "last", "finetune_learning_rate": 0.05, "finetune_epochs": 4}
    model = allkit.Trainer(**wild, clip=0.0).fit(split.train, split.test)
    losses = [entry["val_loss"] for entry in model.info.history[0]]
    assert losses[-1] > min(losses)
    answers = model.probabilities([split.test.read(i) for i in range(len(split.test))])
    loss = -np.log(answers[np.arange(len(answers)), split.test.labels]).mean()
    assert loss == pytest.approx(min(losses), abs=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unfreeze": 9}, "unfreeze = 9, but 'timm:test_resnet' has 5 stages: stem, layer1"),
        ({"backbone": "timm:test_vit"}, "declares no stages, so it cannot be cut"),
        ({"precision": "float16"}, "float16 is for graphics cards"),
    ],
)
def test_what_cannot_be_trained_is_refused(data, settings, more, message):
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**settings | {"strategy": "last", "device": "cpu"} | more).fit(data)


def plugin(monkeypatch, record):
    host = allkit.plugins.Registry(discover=False)
    hook = allkit.hookimpl(lambda: [record])
    host.register(SimpleNamespace(allkit_backbones=hook), name="test")
    monkeypatch.setattr("allkit.plugins.host._instead", [host])


class Pooled(nn.Module):
    """A last stage that does what `act` says to the means of the channels."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.act(self, self.linear(x.mean(dim=(2, 3))))


def backbone(act, stages=("first", "second")):
    def build(weights):
        first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU())
        return nn.Sequential(OrderedDict([("first", first), ("second", Pooled(act))]))

    return allkit.Backbone("odd", build, input=allkit.InputSpec(64), stages=stages)


def test_stages_that_the_backbone_does_not_have_are_the_plugins_fault(data, settings, monkeypatch):
    plugin(monkeypatch, backbone(lambda m, x: x, stages=("first", "third")))
    with pytest.raises(PluginError, match="has no child named 'third'"):
        allkit.Trainer(**settings | {"backbone": "odd", "strategy": "last", "augment": []}).fit(
            data
        )


# ── what can go wrong ─────────────────────────────────────────────────────────────────────────


def odd(settings, act, monkeypatch, **more):
    plugin(monkeypatch, backbone(act))
    values = settings | {"backbone": "odd", "strategy": "last", "augment": [], "engine": "torch"}
    return allkit.Trainer(**values | more)


def test_a_loss_that_is_no_number_stops_at_once_and_keeps_the_state(
    data, settings, monkeypatch, tmp_path
):
    count = []

    def act(module, x):
        if module.training:
            count.append(1)
        return x * (float("nan") if len(count) == 7 else 1.0)

    trainer = odd(settings, act, monkeypatch)
    with pytest.raises(
        AllkitError, match=r"loss is no longer a number in epoch 2, step 3 \(last\)"
    ):
        trainer.fit(data, out=tmp_path / "m")
    assert len(count) == 7
    from allkit.training.run import TrainingRun

    kept = TrainingRun(tmp_path / "m.run").state()
    assert (kept.facts["epoch"], kept.facts["step"]) == (1, 2)
    assert all(bool(t.isfinite().all()) for t in kept.tensors.values())
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_too_little_memory_says_how_many_images_fit(data, settings, monkeypatch):
    def act(module, x):
        if module.training and len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    trainer = odd(settings, act, monkeypatch, finetune_batch_size=16)
    with pytest.raises(AllkitError, match=r"Out of memory with 16 images at once.* 2 fit: give "
                       r"accumulation=8 \(--set accumulation=8\)"):  # fmt: skip
        trainer.fit(data)
    odd(settings, act, monkeypatch, finetune_batch_size=16, accumulation=8).fit(data)


@pytest.mark.slow
def test_a_backbone_that_fails_in_the_middle_is_named(data, settings, monkeypatch, tmp_path):
    count = []

    def act(module, x):
        if module.training:
            count.append(1)
            if len(count) == 5:
                raise ValueError("the moon is full")
        return x

    trainer = odd(settings, act, monkeypatch)
    with pytest.raises(PluginError, match=r"'odd' failed in `forward`.*full.* epoch 2.*--resume"):
        trainer.fit(data, out=tmp_path / "m")
    assert not (tmp_path / "m").exists()
    trainer.fit(data, out=tmp_path / "m", resume=True)
    assert (tmp_path / "m").exists()


# ── the pieces ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_accumulation_gives_the_result_of_the_whole_batch(trained):
    whole = trained(**QUICK, strategy="last", keep="last")
    parts = trained(**QUICK, strategy="last", keep="last", accumulation=3)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_members_answer_as_one_and_share_the_trunk(few, settings, tmp_path):
    data = allkit.Dataset.open(few)
    model = allkit.Trainer(**settings, strategy="last", members=2, folds=2, keep="last").fit(data)
    assert len(model.network.heads) == len(model.network.backbone.tails) == 4
    assert "stem" in dict(model.network.backbone.trunk.named_children())
    assert len(model.network.layers("layer4")) == 4
    assert len(model.network.layers("layer1")) == 1
    first, second = model.network.backbone.tails[:2]
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    again = allkit.Classifier.load(model.save(tmp_path / "m"))
    images = [data.read(i) for i in range(3)]
    np.testing.assert_array_equal(again.probabilities(images), model.probabilities(images))
    assert model.info.validation["n"] == len(data)


@pytest.mark.slow
def test_with_all_orientations_an_answer_does_not_depend_on_how_the_field_lies(
    data, trained, tmp_path
):
    model = trained(**QUICK, strategy="last", tta=True)
    image = data.read(0)
    turned = [np.ascontiguousarray(np.rot90(image, k)) for k in range(4)]
    turned += [np.ascontiguousarray(t[:, ::-1]) for t in turned]
    answers = model.probabilities(turned)
    np.testing.assert_allclose(answers, answers[:1].repeat(8, axis=0), atol=1e-5)
    again = allkit.Classifier.load(model.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.probabilities([image]), model.probabilities([image]))
    assert model.export(tmp_path / "m.onnx").difference < 1e-4


def test_the_eight_orientations_are_all_different():
    square = torch.arange(16.0).view(1, 1, 4, 4)
    views = {tuple(oriented(square, n).flatten().tolist()) for n in range(8)}
    assert len(views) == 8
    assert torch.equal(oriented(square, 0), square)


def test_the_average_of_the_weights_warms_up():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = Average(module, 0.999)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, 0)
    assert float(average.module.weight.detach()) == pytest.approx(0.9)
    for step in range(1, 40):
        average.update(module, step)
    assert float(average.module.weight.detach()) > 0.999
    assert float(module.weight.detach()) == 1.0


@pytest.mark.slow
def test_the_average_is_what_is_kept(data, settings, monkeypatch):
    """The kept weights are those of the formula, from the weights after every step."""
    update, expected, steps = Average.update, [], []

    def watched(self, module, step):
        own, after = self.module.head.linear.weight, module.head.linear.weight.detach()
        before = expected[-1] if expected else own.detach().clone()
        decay = min(0.99, (1 + step) / (10 + step))
        expected.append(decay * before + (1 - decay) * after)
        steps.append(after.clone())
        update(self, module, step)

    monkeypatch.setattr(Average, "update", watched)
    model = allkit.Trainer(**settings, keep="last", val=0.0, ema=0.99).fit(data)
    (head,) = model.network.heads
    torch.testing.assert_close(head.linear.weight, expected[-1])
    assert (head.linear.weight - steps[-1]).abs().max() > 1e-4  # the last weights are others


def test_the_losses_are_those_of_torch():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor(
        [0, 1, 2, 2, 2, 1]
    )  # fmt: skip
    weights = class_weights(labels, 3, balanced=True)
    objective = Objective.of(TrainConfig(class_weights=True), weights)
    mine = objective.losses(logits, labels) * weights[labels] / weights[labels].sum()
    theirs = nn.functional.cross_entropy(logits, labels, weights)
    assert float(mine.sum()) == pytest.approx(float(theirs), abs=1e-6)
    focal = Objective.of(TrainConfig(loss="focal"), torch.ones(3)).losses(logits, labels)
    assert (focal < objective.losses(logits, labels)).all()


def test_a_balanced_epoch_draws_every_class_alike_often():
    labels = np.repeat([0, 1], [900, 100])
    drawn = labels[epoch_order(generator(0), labels, balanced=True)]
    assert 0.42 < drawn.mean() < 0.58
    once = epoch_order(generator(0), labels, balanced=False)
    assert sorted(once) == list(range(1000))


def test_mixing_keeps_the_share_that_it_reports():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8).contiguous()
    mixed, how = mix(images, generator(1), mixup=0.0, cutmix=1.0)
    own = (mixed == images).float().mean(dim=(1, 2, 3))
    other = how.partners != torch.arange(4)
    assert torch.allclose(own[other], torch.full_like(own[other], how.share))
    mixed, how = mix(images, generator(1), mixup=1.0, cutmix=0.0)
    expected = images * how.share + images[how.partners] * (1 - how.share)
    assert torch.allclose(mixed, expected)
    same, nothing = mix(images, generator(1), mixup=0.0, cutmix=0.0)
    assert nothing is None
    assert same is images


@pytest.mark.slow
def test_the_options_of_the_loss_and_the_sampler_reach_every_step(data, settings, monkeypatch):
    mixed, weighted = [], []
    options = {
        "loss": "focal", "label_smoothing": 0.1, "class_weights": True, "balanced_sampler": True,
        "mixup": 0.4, "cutmix": 1.0, "warmup": 0.2,
    }  # fmt: skip

    def watched_mix(inputs, rng, **how):
        mixed.append((inputs.ndim, how))
        return mix(inputs, rng, **how)

    def watched_losses(self, logits, labels):
        weighted.append((self.gamma, self.smoothing))
        return losses(self, logits, labels)

    losses = Objective.losses
    monkeypatch.setattr("allkit.training.loop.mix", watched_mix)
    monkeypatch.setattr(Objective, "losses", watched_losses)
    allkit.Trainer(**settings | {"strategy": "last"} | options).fit(data)
    # A head learns from rows of features, a stage from maps: only these can be cut.
    assert {ndim for ndim, _ in mixed} == {2, 4}
    assert all(how == {"mixup": 0.4, "cutmix": 1.0} for _, how in mixed)
    assert set(weighted) == {(2.0, 0.1)}


# ── finders ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["head", "last"])
def test_finders_leave_everything_as_it_was(few, settings, strategy, monkeypatch):
    data = allkit.Dataset.open(few)
    # With the memory of a large machine it would try batches of a thousand images.
    monkeypatch.setattr("allkit.training.finders.free_bytes", lambda: 2**28)
    trainer = allkit.Trainer(**settings | {"strategy": strategy})
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    rates = trainer.find_learning_rate(data)
    sizes = trainer.find_batch_size(data)
    assert torch.equal(before, torch.random.get_rng_state())
    assert 1e-7 <= rates.suggestion <= 0.1
    assert len(rates.rates) == len(rates.losses) > 10
    assert sizes.largest >= sizes.fastest >= 1
    with_finder = trainer.fit(data).network.state_dict()
    without = allkit.Trainer(**settings | {"strategy": strategy}).fit(data).network.state_dict()
    assert all(torch.equal(with_finder[k], without[k]) for k in without)


@pytest.mark.slow
def test_a_finder_leaves_the_loop_as_it_was(few, settings):
    data = allkit.Dataset.open(few)
    from allkit.training.finders import batch_sizes, learning_rates

    trainer = allkit.Trainer(**settings | {"strategy": "last"})
    with trainer._session(data, None) as session:
        loop = session.last_loop()
        before = {k: v.clone() for k, v in loop.snapshot().tensors.items()}
        learning_rates(loop, steps=20)
        batch_sizes(loop, most=8)
        after = loop.snapshot().tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_largest_batch_is_the_one_that_fits(data, settings, monkeypatch):
    def act(module, x):
        if module.training and len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    sizes = odd(settings, act, monkeypatch).find_batch_size(data)
    assert sizes.sizes == (1, 2, 4)


def test_a_processor_is_not_filled_to_find_a_batch_size(data, settings, monkeypatch):
    monkeypatch.setattr("allkit.training.finders.free_bytes", lambda: 8 * 2**20)
    sizes = allkit.Trainer(**settings, strategy="full").find_batch_size(data)
    assert sizes.largest <= 2


# ── several processes ─────────────────────────────────────────────────────────────────────────

TOGETHER = """
import json, sys
import allkit
out, data, settings = json.loads(sys.argv[1])
allkit.Trainer(**settings).fit(allkit.Dataset.open(data), out=out)
"""


def torchrun(tmp_path, job):
    """TrainingRun the job as two processes, as a user starts it; `--standalone` looks for a free port."""
    (tmp_path / "job.py").write_text(TOGETHER)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
         "--nproc-per-node=2", str(tmp_path / "job.py"), job],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def together(start, job):
    """TrainingRun the job as two processes with the variables that torchrun gives to each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    program = f"import sys; sys.argv[1:] = [{job!r}]\n{TOGETHER}"
    ranks = [start(program, shared | {"RANK": r, "LOCAL_RANK": r}) for r in ("0", "1")]
    for process in ranks:
        process.join()
        assert process.exitcode == 0, process.errors.read_text()[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["head", "last", "full"])
def test_two_processes_train_what_one_trains(few, settings, tmp_path, start, strategy):
    """Weights agree within 1e-4: sums of gradients are rounded in another order."""
    from safetensors.torch import load_file

    values = settings | {"strategy": strategy, "keep": "last", "device": "cpu", "clip": 1.0}
    allkit.Trainer(**values).fit(allkit.Dataset.open(few), out=tmp_path / "one")
    job = json.dumps([str(tmp_path / "two"), str(few), values])
    if strategy == "last":
        torchrun(tmp_path, job)
    else:
        together(start, job)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)
    loaded = [json.loads((tmp_path / n / "model.json").read_text()) for n in ("one", "two")]
    assert loaded[1]["passport"]["processes"] == 2
    assert loaded[0]["history"][0][-1]["val_loss"] == pytest.approx(
        loaded[1]["history"][0][-1]["val_loss"], abs=1e-4
    )


# ── timm's networks as stages ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "mobilenetv3_small_050",
     "regnetx_002", "test_vit"],
)  # fmt: skip
def test_a_network_of_timm_computes_the_same_as_a_chain_of_stages(name):
    import timm

    from allkit.builtin.sequences import as_sequence, stages_of

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.random.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=0).eval()
        images = torch.randn(2, 3, *timm.get_pretrained_cfg(name).input_size[1:])
    with torch.inference_mode():
        before = model(images)
        chain = as_sequence(model)
        torch.testing.assert_close(chain(images), before)
        declared = stages_of(model)
        assert bool(declared) == isinstance(chain, nn.Sequential)
        assert set(declared) <= {child for child, _ in chain.named_children()}
        for cut in range(len(chain) if declared else 0):
            torch.testing.assert_close(chain[cut:](chain[:cut](images)), before)
    record = allkit.plugins.registry().get("backbone", f"timm:{name}")
    assert record.stages == declared
