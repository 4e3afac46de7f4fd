"""What files of 0.1.0 hold is read and written under the names that they have."""

import pytest

from allkit.config import TrainConfig
from allkit.errors import ConfigError
from allkit.model.info import BackboneInfo


def test_a_description_is_written_with_the_keys_of_0_1_0(tiny):
    written = tiny.info.model_dump(mode="json")["backbone"]
    keys = list(written)
    first = keys.index("orientations") + 1
    assert keys[first : first + 5] == ["size", "mean", "std", "view", "bag"]
    assert BackboneInfo.model_validate(written) == tiny.info.backbone
    with pytest.raises(ValueError, match="it lacks size"):
        BackboneInfo.model_validate({k: v for k, v in written.items() if k != "size"})
    with pytest.raises(ValueError, match="view"):
        BackboneInfo.model_validate(written | {"view": 7})


def test_model_json_keeps_its_keys(tiny):
    from allkit.model.info import ModelInfo

    values = tiny.info.model_dump(mode="json")
    assert values["passport"] == tiny.info.provenance.model_dump(mode="json")
    assert "provenance" not in values
    assert values["config"]["tune_epochs"] == tiny.info.config.finetune_epochs
    assert not any(name.startswith("finetune_") for name in values["config"])
    assert ModelInfo.model_validate(values) == tiny.info


def test_settings_are_not_taken_by_their_names_of_0_1_0():
    with pytest.raises(ConfigError, match="finetune_epochs"):
        TrainConfig.parse({"tune_epochs": 3})
