"""The plugin host: finds plugins, keeps broken ones out, and looks records up by name."""

from allkit.plugins.host import Plugin, Registry, registry, resolve_weights, using

__all__ = ["Plugin", "Registry", "registry", "resolve_weights", "using"]
