"""The names under which models keep their parts, and what such a name means."""

from __future__ import annotations

from typing import Any

from allkit.plugins.host import OWN, Plugin, registry
from allkit.plugins.offers import Kind
from allkit.records import Reference

__all__ = ["kept", "mark_of_kept", "meant", "provider_of_kept"]


def kept(kind: Kind, name: Any) -> str:
    """Return the text under which a model keeps the part that `name` asks for.

    It is the full reference: package, name, every setting. A built-in part without settings is kept
    by its name alone, as models always did. Raises `PluginError` and `ConfigError` as `registry().get`.
    """
    full = registry().reference(kind, name)
    return full.name if full.package == OWN and not full.settings else full.text


def meant(kind: Kind, text: Any) -> Reference:
    """Return what a kept name means: one without a package is the built-in part, where there is one.

    No plugin is looked for where the part is built in.
    """
    reference = Reference.of(text)
    if not reference.package and _is_built_in(kind, reference.name):
        return reference._replace(package=OWN)
    return reference


def provider_of_kept(kind: Kind, text: Any) -> Plugin | None:
    """Return the plugin that a kept part comes from; `None` for a built-in one."""
    plugin = registry().provider(kind, meant(kind, text))
    return None if plugin.built_in else plugin


def mark_of_kept(kind: Kind, text: Any) -> tuple[str, ...]:
    """Return what a part adds to the keys of a cache that hold its kept name already.

    Nothing for a built-in part without settings: its keys are those of the versions before.
    """
    reference = meant(kind, text)
    if reference.package == OWN and not reference.settings:
        return ()
    return (registry().mark(kind, reference),)


def _is_built_in(kind: Kind, name: str) -> bool:
    return any(offer.answers(kind, name) for _, offer in registry().offers(kind, own=True))
