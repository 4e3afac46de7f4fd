"""Settings: frozen, checked, complete, and saved with the model they made."""

from allkit.config.files import load_config, override, recipes
from allkit.config.settings import Config, TrainConfig
from allkit.config.solver import OLDER_HEAD

__all__ = ["OLDER_HEAD", "Config", "TrainConfig", "load_config", "override", "recipes"]
