"""Names and import paths of 0.1.0 still work, and say what to write now."""

import importlib

import pytest

import allkit
from allkit.config import TrainConfig
from allkit.errors import ConfigError
from allkit.model.info import BackboneInfo

PATHS = [
    ("allkit.metrics", "Evaluation", "allkit.evaluation.result"),
    ("allkit.metrics", "compare", "allkit.evaluation.compare"),
    ("allkit.explain", "Explanation", "allkit.model.explanation"),
    ("allkit.explain", "Mapper", "allkit.model.maps"),
    ("allkit.duplicates", "find_duplicates", "allkit.images.same_field"),
    ("allkit.probes", "Probe", "allkit.evaluation.shortcuts"),
    ("allkit.classifier", "Classifier", "allkit.model.classifier"),
    ("allkit.weights", "load_weights", "allkit.network.weights"),
    ("allkit.runtime.trust", "Trust", "allkit.trust.verdict"),
    ("allkit.quality.adapt", "adapt", "allkit.adaptation.adapt"),
    ("allkit.images", "read_image", "allkit.images.decode"),
    ("allkit.adaptation", "Adaptation", "allkit.model.adaptation"),
]


@pytest.mark.parametrize(("old", "name", "new"), PATHS)
def test_an_import_path_of_0_1_0_gives_what_it_gave_and_names_the_new_one(old, name, new):
    with pytest.warns(DeprecationWarning, match=rf"{new}\.{name} now"):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)


@pytest.mark.parametrize(
    ("old", "code", "text"),
    [
        ("NOT_CALIBRATED", "NOT_CALIBRATED", "not calibrated"),
        ("UNFAMILIAR", "UNFAMILIAR_SLIDE", "unfamiliar slide"),
    ],
)
def test_a_reason_of_0_1_0_is_the_text_that_it_was_and_names_its_code(old, code, text):
    with pytest.warns(DeprecationWarning, match=rf"{old} is called allkit\.trust\.reasons\.{code}"):
        assert getattr(importlib.import_module("allkit.runtime.trust"), old) == text


@pytest.mark.parametrize("old", dict.fromkeys(old for old, _, _ in PATHS))
def test_an_old_module_knows_no_other_names(old):
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        importlib.import_module(old).nothing  # noqa: B018 - the access is the test


def test_a_setting_of_0_1_0_is_taken_under_its_new_name():
    with pytest.warns(UserWarning, match="tune_epochs is called finetune_epochs now"):
        config = TrainConfig.parse({"tune_epochs": 3})
    assert config.finetune_epochs == 3
    with pytest.raises(ConfigError, match="tune_epoch'"):
        TrainConfig.parse({"tune_epoch": 3})


def test_methods_of_0_1_0_do_what_they_did(drawn, tiny, tmp_path):
    data = allkit.Dataset.open(drawn)
    with pytest.warns(DeprecationWarning, match=r"Dataset\.leave_one_group_out now"):
        splits = list(data.leave_one_out("group"))
    assert [s.held_out for s in splits] == [s.held_out for s in data.leave_one_group_out("group")]
    with pytest.warns(DeprecationWarning, match="to_leave_one_group_out_csv now"):
        assert data.to_leave_one_out_csv(tmp_path / "folds.csv") == len(splits)
    with pytest.warns(DeprecationWarning, match=r"Classifier\.content_hash now"):
        assert tiny.mark() == tiny.content_hash()
    with pytest.warns(DeprecationWarning, match=r"ModelInfo\.provenance now"):
        assert tiny.info.passport is tiny.info.provenance
    with pytest.warns(DeprecationWarning, match=r"BackboneInfo\.input\.size now"):
        assert tiny.info.backbone.size == tiny.info.backbone.input.size
    evaluation = tiny.evaluate(data, probes=False)
    with pytest.warns(DeprecationWarning, match=r"Evaluation\.metrics now"):
        assert evaluation.figures is evaluation.metrics


def test_a_description_is_written_with_the_keys_of_0_1_0(tiny):
    written = tiny.info.model_dump(mode="json")["backbone"]
    keys = list(written)
    first = keys.index("orientations") + 1
    assert keys[first : first + 5] == ["size", "mean", "std", "view", "bag"]
    assert BackboneInfo.model_validate(written) == tiny.info.backbone
    with pytest.raises(ValueError, match="it lacks size"):
        BackboneInfo.model_validate({k: v for k, v in written.items() if k != "size"})
    with pytest.raises(ValueError, match="view"):
        BackboneInfo.model_validate(written | {"view": "sideways"})


def test_everything_of_an_old_module_is_imported_at_once():
    names = {}
    with pytest.warns(DeprecationWarning, match="now"):
        exec("from allkit.metrics import *", names)
    assert {"Comparison", "Evaluation", "compare", "evaluate"} <= set(names)


def test_settings_of_0_1_0_are_read_and_written_by_their_old_names(tiny):
    with pytest.warns(DeprecationWarning, match=r"TrainConfig\.finetune_epochs now"):
        config = TrainConfig(tune_epochs=3)
    with pytest.warns(DeprecationWarning, match=r"TrainConfig\.finetune_epochs now"):
        assert config.tune_epochs == 3
    with pytest.raises(ConfigError, match="two names of one setting"):
        TrainConfig.parse({"tune_epochs": 3, "finetune_epochs": 4})
    with pytest.warns(DeprecationWarning, match=r"Dataset\.passes\.load now"):
        allkit.Dataset.sample(4, groups=4).load(0)


def test_model_json_keeps_its_keys(tiny):
    from allkit.model.info import ModelInfo

    values = tiny.info.model_dump(mode="json")
    assert values["passport"] == tiny.info.provenance.model_dump(mode="json")
    assert "provenance" not in values
    assert values["config"]["tune_epochs"] == tiny.info.config.finetune_epochs
    assert not any(name.startswith("finetune_") for name in values["config"])
    assert ModelInfo.model_validate(values) == tiny.info


def test_a_search_space_of_0_1_0_is_taken(tmp_path):
    from allkit.training.tuning import read_space

    space = read_space("tune_learning_rate: {low: 0.001, high: 0.1}", TrainConfig())
    assert list(space) == ["finetune_learning_rate"]


@pytest.mark.parametrize("name", ["Trust", "UNFAMILIAR"])
def test_the_warning_is_shown_where_the_old_name_is_used(name):
    with pytest.warns(DeprecationWarning, match="now") as caught:
        exec(compile(f"from allkit.runtime.trust import {name}", "mine.py", "exec"), {})
    assert {warning.filename for warning in caught} == {"mine.py"}
