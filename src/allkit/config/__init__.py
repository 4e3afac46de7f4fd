"""Settings: frozen, checked, complete, and saved with the model they made.

settings   `TrainConfig`: every setting, its range and its default
solver     what trains the head, and which settings exclude each other
effect     which settings do nothing beside others
part       the settings that name parts of plugins
own        the names of what was given as an object
spelling   how something is given in Python and on the command line
elsewhere  what other tools call a setting
files      settings from a YAML file, a recipe, or the command line
"""

from allkit.config.files import load_config, override, recipes
from allkit.config.settings import Config, TrainConfig
from allkit.config.solver import OLDER_HEAD

__all__ = ["OLDER_HEAD", "Config", "TrainConfig", "load_config", "override", "recipes"]
