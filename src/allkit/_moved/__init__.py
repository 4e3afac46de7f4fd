"""Names and import paths of 0.1.0: they work for one version, with a warning; then this folder goes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["also_in", "forward", "warn_renamed"]


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn the caller's caller that it uses a name of 0.1.0."""
    warnings.warn(
        f"{old} is called {new} now. The old name goes with allkit 0.2.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def forward(module: str, homes: Mapping[str, str], *, stacklevel: int = 3) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose names moved: `homes` says where each is now."""

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, known = homes[name].rpartition(".")
        warn_renamed(f"{module}.{name}", homes[name], stacklevel=stacklevel)
        return getattr(importlib.import_module(home), known)

    return get


def also_in(package: str, path: Sequence[str]) -> list[str]:
    """Return where the modules of a package are sought: last of all, where the old ones are."""
    return [*path, str(Path(__file__).parent / package)]
