"""`allkit cache`: the group of its commands; without one it lists."""

from __future__ import annotations

import typer

from allkit.cli.cache_clear import clear_cache
from allkit.cli.cache_list import list_cache

__all__ = ["cache"]

cache = typer.Typer()
cache.command("list")(list_cache)
cache.command("clear")(clear_cache)


@cache.callback()
def _list_by_default(context: typer.Context) -> None:
    """What the frozen passes computed, kept to be used again.

    Example:
    allkit cache
    """
    if context.invoked_subcommand is None:
        list_cache()
