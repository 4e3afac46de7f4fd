"""The one folder that allkit writes to without being told a name."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return `ALLKIT_CACHE`, or the user's cache folder."""
    setting = os.environ.get("ALLKIT_CACHE")
    if setting:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("allkit", appauthor=False))
