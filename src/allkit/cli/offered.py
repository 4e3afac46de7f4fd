"""The commands of plugins beside allkit's own: `allkit NAME`, and in full `allkit PACKAGE/NAME`.

The help and the shell are told from the catalogue what there is; a plugin is imported when its
command is run.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NoReturn

import typer
import typer.core

from allkit.cli.ending import Stopped
from allkit.cli.progress import say
from allkit.errors import AllkitError, PluginError, did_you_mean

__all__ = ["Commands", "as_command"]

PANEL = "Plugins"
PLUGIN = "allkit.plugin"
"""Where a context of the command line holds the package and the name of the command that runs."""
LATER = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
# typer brings a click of its own since version 0.26; before, these are click's.
Command: Any = typer.core.TyperCommand.__mro__[1]
Mistake: Any = typer.BadParameter.__mro__[2]
Misuse: Any = typer.BadParameter.__mro__[1]


class Commands(typer.core.TyperGroup):
    """allkit's own commands, and after them those of plugins, which replace none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return [*super().list_commands(ctx), *self._listed]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command of allkit's own, or what the help shows of a plugin's."""
        return super().get_command(ctx, cmd_name) or self._listed.get(cmd_name)

    @cached_property
    def _known(self) -> list[tuple[Any, dict[str, Any] | None]]:
        """The plugins that are installed with what is known of them, none of them asked."""
        from allkit.plugins.catalogue import installed, known

        with contextlib.suppress(
            AllkitError
        ):  # of a setting, which is told when a plugin is needed
            found, _ = installed()
            return list(zip(found, known(found), strict=True))
        return []

    @cached_property
    def _offered(self) -> list[tuple[Any, dict[str, Any]]]:
        return [
            (found, offer)
            for found, description in self._known
            for offer in (description or {}).get("offers", ())
            if offer["kind"] == "command"
        ]

    @cached_property
    def _listed(self) -> dict[str, Any]:
        """What the help shows of the commands of plugins; two of one name stand there in full."""
        names = [offer["name"] for _, offer in self._offered]
        commands = {}
        for found, offer in self._offered:
            name = offer["name"]
            if names.count(name) > 1 or name in self.commands:
                name = f"{found.distribution}/{name}"
            text = f"{offer['summary'] or 'no summary'} ({found.origin})"
            if self.rich_markup_mode == "rich":
                text = text.replace("[", r"\[")  # a stranger's text is text
            commands[name] = typer.core.TyperCommand(
                name, help=text, short_help=text, rich_help_panel=PANEL, add_help_option=False
            )
        return dict(sorted(commands.items()))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, and below it which plugins were not asked yet."""
        unasked = [found.origin for found, description in self._known if description is None]
        if unasked:
            self.epilog = (
                f"Not asked yet what they offer: {', '.join(unasked[:5])}"
                f"{' and others' if len(unasked) > 5 else ''}. `allkit plugins` asks them."
            )
        super().format_help(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the words call, as its plugin builds it where it is a plugin's."""
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        try:
            command = self._built(ctx, name)
        except AllkitError:
            if not ctx.resilient_parsing:  # a shell asks what may follow: nothing that we know
                raise
            command = None
        if command is None:
            if not ctx.resilient_parsing:
                self._say_of_plugins(ctx, name)
            return super().resolve_command(ctx, args)
        return name, command, args[1:]

    def _built(self, ctx: Any, name: str) -> Any:
        """Return the command of a plugin, built; `None` where no plugin offers it."""
        offered = "/" in name or any(offer["name"] == name for _, offer in self._offered)
        if not offered and all(description is not None for _, description in self._known):
            return None
        from allkit.plugins import calling, registry

        host = registry()
        if "/" not in name and name not in host.names("command"):
            return None
        origin = host.provider("command", name).origin
        made = host.get("command", name).build()
        try:
            with calling(origin, "command", name, "build"):
                command = as_command(made, name)
        except PluginError as error:
            raise PluginError(f"{origin}: {str(error).removeprefix(f'{origin}: ')}") from error
        ctx.meta[PLUGIN] = origin, name
        return command

    def _say_of_plugins(self, ctx: Any, name: str) -> None:
        """Fail where the plugins explain why there is no such command."""
        if did_you_mean(name, self.commands):
            return
        broken = [
            found.origin for found, description in self._known if (description or {}).get("error")
        ]
        meant = did_you_mean(name, self._listed)
        failed = f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
        if meant or broken:
            ctx.fail(f"No such command {name!r}.{meant}{failed if broken else ''}")

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what goes wrong in a plugin's is named with its package."""
        try:
            value = super().invoke(ctx)
        except BaseException as error:
            if PLUGIN in ctx.meta:
                origin, name = ctx.meta[PLUGIN]
                _end(origin, name, error)
            raise
        return None if PLUGIN in ctx.meta else value


def as_command(made: Any, name: str) -> Any:
    """Return what a plugin built as a command of typer; raise `PluginError` where it is none.

    What begins only when it is waited for would do nothing: functions of `async def`, and those that yield.
    """
    command = _as_command(made, name)
    for function in _functions(getattr(command, "of_click", command)):
        inner = inspect.unwrap(function)
        if any(begins(inner) for begins in LATER):
            raise PluginError(
                f"The command {name!r} was built of {getattr(inner, '__name__', inner)!r:.100}, which is "
                f"async or yields, so that calling it does nothing. Its author calls it in a plain function "
                f"(asyncio.run, or a loop)."
            )
    return command


def _functions(command: Any) -> Iterator[Any]:
    """Yield the functions that a command calls, and those below it."""
    if command.callback is not None:
        yield command.callback
    for below in getattr(command, "commands", {}).values():
        yield from _functions(below)


def _as_command(made: Any, name: str) -> Any:
    if isinstance(made, typer.Typer):
        return typer.main.get_command(made)
    if isinstance(made, Command):
        return made
    if hasattr(made, "make_context") and hasattr(made, "invoke"):
        return _OfClick(made, name)
    if not callable(made):
        raise PluginError(
            f"The command {name!r} was built as {made!r:.200}; `build` must return a function, a Typer or a "
            f"command of click."
        )
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, context_settings={"help_option_names": ["-h", "--help"]})(made)
    try:
        return typer.main.get_command(app)
    except NameError as error:
        raise NameError(
            f"{error}; import what annotations name at the top of the module"
        ) from error


class _OfClick(typer.core.TyperCommand):
    """A command of click itself, which reads its own words."""

    def __init__(self, command: Any, name: str) -> None:
        super().__init__(name, help=getattr(command, "help", None), add_help_option=False)
        self.of_click = command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return []

    def invoke(self, ctx: Any) -> None:
        with self.of_click.make_context(ctx.command_path, list(ctx.args)) as inner:
            self.of_click.invoke(inner)


def _end(origin: str, name: str, error: BaseException) -> NoReturn:
    """Raise what ends the program as the command wants it to end, or a named error."""
    from allkit.plugins import calling

    click: Any = sys.modules.get("click")
    if click and isinstance(error, click.exceptions.Exit):
        raise typer.Exit(error.exit_code) from None
    if isinstance(error, (typer.Abort, *((click.Abort,) if click else ()))):
        say("Stopped.")
        raise typer.Exit(1) from None
    if click and isinstance(error, click.ClickException) and not isinstance(error, Mistake):
        error.show()
        raise typer.Exit(error.exit_code) from None
    if isinstance(error, Mistake) and not isinstance(error, Misuse):
        say(f"Error: {error.format_message()}")
        raise typer.Exit(error.exit_code) from None
    if isinstance(error, SystemExit) and not isinstance(error, Stopped):  # a command may end so
        if isinstance(error.code, int | None):
            raise typer.Exit(error.code or 0) from None
        say(str(error.code))
        raise typer.Exit(1) from None
    if isinstance(error, (typer.Exit, Misuse, BrokenPipeError)):
        raise error
    with calling(origin, "command", name, "run"):
        raise error
