"""`allkit cache clear`: drop what is kept."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from allkit.cli.cache_list import cache_entries
from allkit.cli.extras import require_training_packages
from allkit.cli.progress import put
from allkit.errors import ConfigError

__all__ = ["clear_cache"]


def clear_cache(
    backbone: Annotated[str | None, typer.Option(help="only what this backbone made")] = None,
    unused_days: Annotated[
        float | None, typer.Option(min=0, help="only what was not used for so many days")
    ] = None,
) -> None:
    """Drop what is kept. It costs the time to compute it again, never a result.

    Example:
    allkit cache clear --unused-days 30
    """
    require_training_packages()
    import sqlite3

    from allkit.features import ActivationStore, FeatureCache, activations_folder

    unused_since = None if unused_days is None else time.time() - unused_days * 86_400
    backbones = sorted({entry["backbone"] for entry in cache_entries()})
    if backbone is not None and backbone not in backbones:
        raise ConfigError(
            f"Nothing is kept for the backbone {backbone!r}. "
            f"There is: {', '.join(backbones) or 'nothing'}."
        )
    cache = FeatureCache()
    try:
        features = cache.clear(backbone=backbone, unused_since=unused_since)
    except sqlite3.Error as error:
        raise ConfigError(
            f"The feature cache {cache.path} cannot be cleared ({error}). Delete the file."
        ) from None
    images = ActivationStore.clear(
        activations_folder(), backbone=backbone, unused_since=unused_since
    )
    put(f"Dropped {features:,} features and the activations of {images:,} images.\n")
