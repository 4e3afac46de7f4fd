"""What the shell is offered for the value of an option, without importing torch."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.records import Backbone

__all__ = ["complete_backbone", "complete_config", "complete_exporter", "complete_method"]


def complete_backbone(incomplete: str) -> list[str]:
    """Return the backbones whose name begins like this."""
    # Not by the registry, which imports every built-in: that takes twice as long as all the rest.
    from allkit.builtin.backbones import allkit_backbones
    from allkit.plugins.catalogue import installed, offers_of

    described = offers_of(installed()[0])
    offers = [offer for one in described for offer in one["offers"] if offer["kind"] == "backbone"]
    names = {record.name for record in allkit_backbones() if isinstance(record, Backbone)}
    return _beginning(names | {offer["name"] for offer in offers}, incomplete)


def complete_exporter(incomplete: str) -> list[str]:
    """Return the exporters whose name begins like this."""
    from allkit.plugins import registry

    return _beginning(registry().names("exporter"), incomplete)


def complete_method(incomplete: str) -> list[str]:
    """Return the ways to explain an answer whose name begins like this."""
    from allkit.plugins import registry

    return _beginning(["auto", "cells", *registry().names("explainer")], incomplete)


def complete_config(incomplete: str) -> list[str]:
    """Return the recipes whose name begins like this; where there is none the shell offers files."""
    from allkit.config import recipes

    return [name for name in recipes() if name.startswith(incomplete)]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    # A family stands there as `timm:NAME`, which nobody types.
    return sorted(name for name in names if name.startswith(incomplete) and ":" not in name)
