"""The command line."""

from __future__ import annotations

import sys
import warnings
from typing import Any, TextIO

from allkit.cli.ending import Stopped, explained, notes_of, stoppable

__all__ = ["main"]

STOPPED = 130
"""The exit status after Ctrl-C."""


def main() -> None:
    """Run `allkit`; a mistake of the user is told on standard error, with exit status 2.

    So is what the machine does not give: memory, space on a disk, handles. The status is 130 after
    Ctrl-C and 143 after SIGTERM.
    """
    with stoppable():
        try:
            status = _run()
        except (KeyboardInterrupt, Stopped) as stop:
            _say(f"Stopped.{notes_of(stop)}")
            status = int(stop.code or 0) if isinstance(stop, Stopped) else STOPPED
        except SystemExit as end:
            if end.code or _by_typer(end):  # typer ends so what it answers itself, as completions
                raise
            _say("Error: something in the middle of the command ended the program (SystemExit).")
            status = 1
        except BrokenPipeError:  # `allkit predict … | head`
            status = 1
        except Exception as error:
            reason = explained(error)
            if reason is None:
                raise
            _say(f"Error: {reason}{notes_of(error)}")
            status = 2
        finally:
            from allkit.cli.progress import drop_unread

            drop_unread()
        sys.exit(status)


def _run() -> int:
    """Run the command and return its exit status; what is no mistake of the user is raised."""
    import typer

    from allkit.cli.progress import flush_streams, ready_streams
    from allkit.cli.root import root
    from allkit.errors import AllkitError
    from allkit.telemetry import torch_folder

    # Any mistake in a command line; typer gives a name to this kind of it only.
    mistake: Any = typer.BadParameter.__mro__[2]
    warnings.showwarning = _show_warning
    ready_streams()
    try:
        with torch_folder():
            # In the other mode typer draws a frame around a mistake, which wraps its words.
            status: int | None = root(prog_name="allkit", standalone_mode=False)
        if status == STOPPED:  # typer makes a status of Ctrl-C
            _say("Stopped.")
        flush_streams()
        return status or 0
    except mistake as error:
        _show_mistake(error)
        return 2
    except AllkitError as error:
        _say(f"Error: {error}{notes_of(error)}")
        return 2
    except typer.Abort:  # a question was answered with no, or could not be asked
        _say("Stopped: it was not confirmed; nothing was changed.")
        return 1


def _by_typer(error: BaseException) -> bool:
    """Say whether an error was raised in the code of typer, or of click."""
    place, where = error.__traceback__, ""
    while place is not None:
        where, place = place.tb_frame.f_globals.get("__name__", ""), place.tb_next
    return where.partition(".")[0] in ("typer", "click")


def _say(text: str) -> None:
    from allkit.cli.progress import say

    say(text)


def _show_mistake(error: Any) -> None:
    """Say what is wrong with a command line, and where its form is shown."""
    from allkit.cli.progress import say

    # Without any argument the help is shown already, and there are no words.
    message = str(error.format_message()).replace("Value error, ", "").rstrip(".")
    if message:
        end = "" if message.endswith("?") else "."
        context = getattr(error, "ctx", None)  # an option without its value comes without one
        command = _called(sys.argv[1:]) if context is None else context.command_path
        say(f"Error: {message}{end} See: {command} --help")


def _called(words: list[str]) -> str:
    """Return the command that those words of a command line call."""
    import typer

    from allkit.cli.root import root

    command: Any = typer.main.get_command(root)
    path = ["allkit"]
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from allkit.cli.progress import say

    # Ours are sentences for the user; a library's are for its developers.
    if category is UserWarning and "allkit" in filename:
        say(f"Warning: {message}")
