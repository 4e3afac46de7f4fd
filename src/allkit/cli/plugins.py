"""`allkit plugins`: the group of its commands; without one it lists."""

from __future__ import annotations

import typer

from allkit.cli.plugins_check import check_plugin
from allkit.cli.plugins_list import list_plugins
from allkit.cli.plugins_new import new_plugin
from allkit.cli.plugins_show import show_plugin

__all__ = ["plugins"]

plugins = typer.Typer()
plugins.command("list")(list_plugins)
plugins.command("check")(check_plugin)
plugins.command("new")(new_plugin)
plugins.command("show")(show_plugin)


@plugins.callback()
def _list_by_default(context: typer.Context) -> None:
    """What is installed: backbones, augmentations, exporters.

    Example:
    allkit plugins
    """
    if context.invoked_subcommand is None:
        list_plugins()
