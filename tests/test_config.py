"""Settings: written out whole, read back the same, refused when they are wrong."""

import pytest
import yaml

from allkit.config import TrainConfig, load_config, recipes
from allkit.errors import ConfigError


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"learning_rate": 1e-5, "weights": "a folder/w: #1.safetensors", "augment": []},
        {"augment": ["flip", "stain"], "trackers": ["wandb"], "val": 0, "backbone": "no"},
    ],
)
def test_settings_that_are_written_read_back_the_same(tmp_path, values):
    config = TrainConfig.parse(values)
    (tmp_path / "c.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert TrainConfig.parse(load_config(tmp_path / "c.yaml")) == config


def test_every_setting_is_written_with_what_it_means_and_its_range():
    text = TrainConfig().to_yaml()
    for name, field in TrainConfig.model_fields.items():
        assert f"\n{name}: " in text
        assert field.description
        assert field.description.split()[0] in text
    flowing = text.replace("\n# ", " ")  # a comment may be wrapped anywhere
    assert "[at least 0, at most 64]" in flowing
    assert "any of tensorboard, mlflow, wandb" in flowing
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("epochs: 3\nloss: [focal\n", "line 3"),
        ("a: b: c\n", "line 1"),
        ("epochs: 3\n\tval: 0\n", "line 2"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(tmp_path, text, where):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"is not YAML of settings: \w+.* in {where}, column"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", ["epochs", "dropout", "cell_size"])
def test_a_truth_value_is_no_number(name):
    with pytest.raises(ConfigError, match=f"{name} = True in the settings: it must be a number"):
        TrainConfig.parse({name: True})


def test_every_recipe_is_a_set_of_settings_and_standard_is_the_defaults():
    assert list(recipes()) == ["best", "quick", "standard"]
    read = {name: TrainConfig.parse(load_config(name)) for name in recipes()}
    assert read["standard"] == TrainConfig()
    assert len({config.to_yaml() for config in read.values()}) == 3


def test_a_file_goes_by_its_path_also_when_a_recipe_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").write_text("epochs: 3\n")
    assert load_config("./quick") == {"epochs": 3}
    assert load_config("quick") == yaml.safe_load(recipes()["quick"])


def test_a_recipe_that_is_not_there_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"Did you mean 'standard'\?.*best, quick, standard"):
        load_config("standrad")
