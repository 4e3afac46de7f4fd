"""The settings of a training: a recipe or file, the options over it, --set over both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allkit.config import TrainConfig

__all__ = ["read_settings"]


def read_settings(
    config: str | None, options: Mapping[str, Any | None], assignments: Sequence[str]
) -> TrainConfig:
    """Return the settings; an option that is `None` was not given.

    Raises `ConfigError` when there is no such recipe or file, or a setting is wrong.
    """
    from allkit.config import TrainConfig, load_config, override

    values = load_config(config) if config else {}
    values |= {name: value for name, value in options.items() if value is not None}
    merged = override(values, list(assignments))
    return TrainConfig.parse(
        merged, source=config or "the options", listed="`--print-config` shows all settings."
    )
