"""The optional dependencies of allkit, and the one sentence where they are missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from allkit.errors import ConfigError

__all__ = ["EXTRAS", "missing_modules", "require_training_packages"]

EXTRAS = {
    "train": (
        "torch",
        "timm",
        "albumentations",
        "sklearn",
        "pandas",
        "pyarrow",
        "matplotlib",
        "onnx",
    ),
    "app": ("streamlit", "authlib", "pypdfium2"),
    "clinic": (
        "sqlalchemy",
        "alembic",
        "ulid",
        "pydicom",
        "highdicom",
        "fhir.resources",
        "hl7",
        "fpdf",
        "openpyxl",
    ),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "python_multipart"),
    "ray": ("ray",),
    "sign": ("cryptography",),
    "download": ("kagglehub",),
}
"""The modules that `pip install 'allkit[EXTRA]'` brings, by extra."""

_TO_TRAIN = ("torch", "timm", "albumentations", "matplotlib", "platformdirs")


def missing_modules(names: Iterable[str]) -> list[str]:
    """Return those of the modules that are not installed; none is imported."""
    return [name for name in names if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that would hold it is not there either
        return False


def require_training_packages() -> None:
    """Raise `ConfigError` when the `train` extra is not installed."""
    missing = missing_modules(_TO_TRAIN)
    if missing:
        raise ConfigError(
            f"This needs {', '.join(missing)}, which are not installed. "
            f"Type: pip install 'allkit[train]'"
        )
