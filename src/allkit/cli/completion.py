"""What the shell is offered for the value of an option, without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allkit.plugins.loading import Kind

__all__ = ["complete_backbone", "complete_config", "complete_exporter"]


def complete_backbone(incomplete: str) -> list[str]:
    """Return the backbones whose name begins like this."""
    return _records("backbone", incomplete)


def complete_exporter(incomplete: str) -> list[str]:
    """Return the exporters whose name begins like this."""
    return _records("exporter", incomplete)


def complete_config(incomplete: str) -> list[str]:
    """Return the recipes whose name begins like this; where there is none the shell offers files."""
    from allkit.config import recipes

    return [name for name in recipes() if name.startswith(incomplete)]


def _records(kind: Kind, incomplete: str) -> list[str]:
    from allkit.plugins import registry

    names = registry().names(kind)  # a family stands there as `timm:NAME`, which nobody types
    return [name for name in names if name.startswith(incomplete) and ":" not in name]
