"""The folder in which computed features and activations are kept, and its limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from allkit.errors import ConfigError
from allkit.files import cache_folder

__all__ = ["activations_folder", "activations_limit", "cache_folder", "chunks", "features_limit"]

FEATURES_LIMIT = 2 * 2**30
ACTIVATIONS_LIMIT = 16 * 2**30


def activations_folder() -> Path:
    """Return the folder of the activation stores, beside the feature cache."""
    return cache_folder() / "activations"


def features_limit() -> int:
    """Return the bytes that features may take: `ALLKIT_CACHE_LIMIT` megabytes, or 2 GiB."""
    return _megabytes("ALLKIT_CACHE_LIMIT", FEATURES_LIMIT)


def activations_limit() -> int:
    """Return the bytes that activations may take: `ALLKIT_ACTIVATIONS_LIMIT` MB, or 16 GiB."""
    return _megabytes("ALLKIT_ACTIVATIONS_LIMIT", ACTIVATIONS_LIMIT)


def _megabytes(variable: str, default: int) -> int:
    setting = os.environ.get(variable)
    if setting is None:
        return default
    if not setting.isdigit():
        raise ConfigError(f"{variable} is {setting!r}; give whole megabytes, as in 2000.")
    return int(setting) * 2**20


def chunks(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Yield `items` in pieces of at most `size`: a query takes a limited number of keys."""
    return (items[i : i + size] for i in range(0, len(items), size))
