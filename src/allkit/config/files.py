"""Settings from a YAML file, a recipe that comes with allkit, or `key=value` of the command line."""

from __future__ import annotations

import importlib.resources
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from allkit.errors import ConfigError, did_you_mean
from allkit.plugins.written import parse_yaml

__all__ = ["load_config", "override", "parse_yaml", "recipes"]

MOST_BYTES = 2**20
FORM = "`TrainConfig().to_yaml()` shows the form, and so does `allkit train DATA --print-config`."


def recipes() -> dict[str, str]:
    """Return the text of the named sets of settings that come with allkit, by name."""
    folder = importlib.resources.files("allkit.config") / "recipes"
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def load_config(source: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file, or the recipe of that name, into a plain dictionary.

    A file whose name is that of a recipe is reached by `./NAME`. Raises `ConfigError` when there
    is no such file or recipe, or it does not hold settings.
    """
    known = recipes()
    if str(source) in known:
        values: dict[str, Any] = yaml.safe_load(known[str(source)]) or {}
        return values
    path = Path(source)
    if not path.suffix and not path.exists():
        raise ConfigError(
            f"There is no recipe and no file {str(source)!r}.{did_you_mean(str(source), known)} "
            f"The recipes are {', '.join(known)}."
        )
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise ConfigError(f"The settings file {path} is no file. Give a YAML file.")
        if before.st_size > MOST_BYTES:
            raise ConfigError(
                f"The settings file {path} has {before.st_size:,} bytes; settings take a few thousand. "
                f"Give another file."
            )
        values = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the settings file {path}: {error.strerror or error}. Check the path."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML of settings: {error}. {FORM}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must hold `key: value` lines. {FORM}")
    return values


def override(values: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Return `values` with `key=value` assignments applied; the values are read as YAML."""
    merged = dict(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r} is not of the form key=value.")
        try:
            merged[key.strip()] = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(
                f"--set {assignment[:200]!r}: the value is not readable as YAML: {error}."
            ) from None
    return merged
