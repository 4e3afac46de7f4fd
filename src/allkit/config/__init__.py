"""Settings: frozen, checked, complete, and saved with the model they made."""

from allkit.config.files import load_config, override, recipes
from allkit.config.settings import Config, TrainConfig

__all__ = ["Config", "TrainConfig", "load_config", "override", "recipes"]
