"""Training again: identical, within tolerance, or different, and why."""

import json
import shutil

import pytest
import torch

import allkit
from allkit.errors import CheckpointError, ConfigError
from allkit.model.provenance import differences
from allkit.training.reproduce import reproduce


@pytest.fixture(scope="module")
def data(drawn):
    return allkit.Dataset.open(drawn).split(test=0.34, seed=0)


def altered(model, **changes):
    provenance = model.info.provenance.model_copy(update=changes)
    model = allkit.Classifier(
        model.network, model.info.model_copy(update={"provenance": provenance})
    )
    return model


def test_a_place_that_cannot_be_written_is_told_before_anything_is_trained(cli, tiny_folder, drawn):
    status, _, err = cli("reproduce", tiny_folder, drawn, "--json", "nowhere/r.json")
    assert status == 2
    assert "nowhere does not exist" in err
    assert "images (" not in err


def test_a_model_says_what_it_was_made_of(tiny, data):
    provenance = tiny.info.provenance
    assert provenance.data == data.train.fingerprint
    assert provenance.threads == torch.get_num_threads()
    assert provenance.versions["torch"] == torch.__version__.split("+")[0]
    assert provenance.plugins.keys() == {"allkit"}
    assert {"processor", "cores", "instructions"} <= provenance.hardware.keys()
    assert len(provenance.result) == len(provenance.weights) == len(provenance.division) == 64


def test_the_passport_is_saved_with_the_model(tiny, tiny_folder):
    assert allkit.Classifier.load(tiny_folder).info.provenance == tiny.info.provenance


def test_the_same_training_on_the_same_machine_is_identical(tiny, data):
    result, again = reproduce(tiny, data.train)
    assert (result.verdict, result.reasons) == ("identical", ())
    assert again.info.provenance == tiny.info.provenance


def test_another_division_gives_another_passport(tiny, tiny_settings, data):
    other = allkit.Trainer(**tiny_settings, seed=1, val=0).fit(data.train).info.provenance
    found = differences(tiny.info.provenance, other)
    assert "seed 0, now 1" in found
    assert "which images were learnt from and which were held out differ" in found


def test_what_differs_is_named_when_the_weights_do(tiny, data):
    network = allkit.Classifier(tiny.network, tiny.info).pipeline().network
    with torch.no_grad():
        network.heads[0].linear.bias.add_(1e-4)
    versions = tiny.info.provenance.versions | {"torch": "2.0.0"}
    info = altered(tiny, versions=versions, threads=1).info
    result, _ = reproduce(allkit.Classifier(network, info), data.train)
    assert result.verdict == "within tolerance"
    assert 0 < result.largest_difference < 1e-3
    assert f"package torch: 2.0.0, now {torch.__version__.split('+')[0]}" in result.reasons


def test_another_answer_is_different(tiny, data):
    network = allkit.Classifier(tiny.network, tiny.info).pipeline().network
    with torch.no_grad():
        network.heads[0].linear.weight.mul_(-1)
    result, _ = reproduce(allkit.Classifier(network, tiny.info), data.train)
    assert result.verdict == "different"
    assert result.changed_labels > 0
    assert "a computation that is not repeatable" in result.reasons[0]


def test_other_images_are_told_before_anything_is_trained(tiny, data):
    result, again = reproduce(tiny, data.train.subset(range(20)))
    assert (result.verdict, result.retrained, again) == ("different", False, None)
    assert "not the images it was trained on" in result.message


def test_a_changed_label_is_told(tiny, data):
    from dataclasses import replace

    samples = list(data.train.samples)
    samples[0] = replace(samples[0], label="Pro" if samples[0].label != "Pro" else "Pre")
    result, _ = reproduce(tiny, allkit.Dataset(samples, data.train.classes))
    assert result.verdict == "different"
    assert "their labels" in result.message


def test_the_number_of_threads_is_that_of_the_model_and_is_put_back(tiny, data, monkeypatch):
    seen = []
    fit = allkit.Trainer.fit

    def watched(self, *parts):
        seen.append(torch.get_num_threads())
        return fit(self, *parts)

    monkeypatch.setattr(allkit.Trainer, "fit", watched)
    before = torch.get_num_threads()
    reproduce(altered(tiny, threads=before + 1), data.train)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_model_without_a_provenance_or_without_its_weights_is_a_clear_error(tiny, data):
    old = allkit.Classifier(tiny.network, tiny.info.model_copy(update={"provenance": None}))
    with pytest.raises(CheckpointError, match="without a provenance"):
        reproduce(old, data.train)
    config = tiny.info.config.model_copy(update={"weights": "mine.safetensors"})
    info = tiny.info.model_copy(update={"config": config})
    with pytest.raises(ConfigError, match=r"mine\.safetensors.*--weights PATH"):
        reproduce(allkit.Classifier(tiny.network, info), data.train)


@pytest.mark.slow
def test_the_command_says_what_came_of_it(cli, drawn, tiny_settings):
    options = [f"--set={k}={v}" for k, v in tiny_settings.items() if k not in ("cache",)]
    assert cli("train", drawn, "--out", "m", *options)[0] == 0
    status, out, _ = cli("reproduce", "m", drawn, "--json", "r.json")
    assert status == 0
    assert out.startswith("identical: Every weight has the same bits.")
    with open("r.json") as stream:
        assert json.load(stream)["verdict"] == "identical"
    shutil.copytree(drawn.parent, "other")
    lines = (drawn.parent / "index.csv").read_text().splitlines(keepends=True)
    with open("other/index.csv", "w") as stream:
        stream.writelines(lines[:-4])
    status, out, _ = cli("reproduce", "m", "other/index.csv")
    assert status == 1
    assert out.startswith("different: These are not the images")


@pytest.mark.slow
def test_a_training_of_the_last_stage_is_repeated_to_the_bit(tmp_path, tiny_settings, data):
    from allkit.features import FeatureCache

    settings = tiny_settings | {"cache": FeatureCache(tmp_path), "epochs": 3}
    model = allkit.Trainer(**settings, strategy="last", finetune_epochs=2).fit(data.train)
    result, _ = reproduce(model, data.train)
    assert (result.verdict, result.reasons) == ("identical", ())
