"""The plugin host: finds plugins, keeps broken ones out, and looks records up by name.

host       the registry: every record by kind and name
asked      a record with its settings bound and its calls guarded
guard      what goes wrong in a plugin is named with its package and its step
offers     what a record is known by, and the kinds of records
loading    one plugin: its contract version, its hooks, its records
catalogue  what is installed, and what each offers, without importing it
probe      asking a plugin in a process of its own
tracing    ALLKIT_TRACE
kept       the names under which models keep their parts
weights    which weights a backbone is built with
"""

from allkit.plugins.guard import calling
from allkit.plugins.host import Conflict, Plugin, Registry, registry, using
from allkit.plugins.weights import resolve_weights

__all__ = ["Conflict", "Plugin", "Registry", "calling", "registry", "resolve_weights", "using"]
