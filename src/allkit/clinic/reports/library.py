"""The libraries of the extra `clinic`, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from allkit.errors import ConfigError

__all__ = ["library"]


def library(name: str) -> ModuleType:
    """Return the module `name`, or say how to install what it belongs to.

    Raises `ConfigError` where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"This format of a report needs {name.split('.')[0]}, which cannot be imported ({error}). "
            "Type: pip install 'allkit[clinic]'"
        ) from None
