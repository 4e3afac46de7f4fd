"""`allkit plugins …` and `allkit cache …`; what each does lies in a module of its own."""

# typer reads the annotations when the command runs, so they may not be postponed strings here.
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["cache_app", "plugins_app"]

plugins_app = typer.Typer(help="What is installed: backbones, augmentations, exporters.")

cache_app = typer.Typer(help="What the frozen passes computed, kept to be used again.")


@plugins_app.callback()
def _plugins(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        plugins_list()


@plugins_app.command("list")
def plugins_list(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    family: Annotated[str | None, typer.Option(help="every name of a family: timm")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="ask every plugin again")] = False,
) -> None:
    """Show every plugin, what it offers, and what is wrong with it."""
    from allkit.cli.system import run_plugins

    run_plugins(as_json=as_json, family=family, refresh=refresh)


@plugins_app.command("check")
def plugins_check(
    name: Annotated[
        str, typer.Argument(help="a package, or the name of a backbone, augmentation or exporter")
    ],
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="a check that may fail, and why; repeatable"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="check on images of this set, not on drawn ones")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Run the conformance checks. Exit status 1 when one fails."""
    from allkit.cli.checks import run_check

    raise typer.Exit(run_check(name, expected=expect or [], data=data, as_json=as_json))


@cache_app.callback()
def _cache(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        cache_list()


@cache_app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show what is kept, by backbone and engine, with sizes and when it was used last."""
    from allkit.cli.cache import run_cache_list

    run_cache_list(as_json=as_json)


@cache_app.command("clear")
def cache_clear(
    backbone: Annotated[str | None, typer.Option(help="only what this backbone made")] = None,
    unused_days: Annotated[
        float | None, typer.Option(min=0, help="only what was not used for so many days")
    ] = None,
) -> None:
    """Drop what is kept. It costs the time to compute it again, never a result."""
    from allkit.cli.cache import run_cache_clear

    run_cache_clear(backbone=backbone, unused_days=unused_days)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="of the package: allkit-mine")],
    kind: Annotated[str, typer.Option(help="backbone, augmentation or exporter")] = "backbone",
    out: Annotated[Path | None, typer.Option(help="the folder to write [default: NAME]")] = None,
) -> None:
    """Write a complete package for a plugin of your own, with tests."""
    from allkit.cli.new import run_new

    run_new(name, kind, out)
