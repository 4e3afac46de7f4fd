"""`allkit plugins`: the group of its commands; without one it lists."""

from __future__ import annotations

import typer

from allkit.cli.plugins_check import check_plugin
from allkit.cli.plugins_doctor import doctor_plugins
from allkit.cli.plugins_list import list_plugins
from allkit.cli.plugins_new import new_plugin
from allkit.cli.plugins_show import show_plugin

__all__ = ["plugins"]

plugins = typer.Typer()
plugins.command("list")(list_plugins)
plugins.command("show")(show_plugin)
plugins.command("check")(check_plugin)
plugins.command("doctor")(doctor_plugins)
plugins.command("new")(new_plugin)


@plugins.callback()
def _list_by_default(context: typer.Context) -> None:
    """What is installed, from backbones to commands: list, show, check, make.

    Example:
    allkit plugins
    """
    if context.invoked_subcommand is None:
        list_plugins()
