"""The command line."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any, TextIO

__all__ = ["main"]

STOPPED = 130
"""The exit status after Ctrl-C."""


def main() -> None:
    """Run `allkit`; a mistake of the user is told on standard error, with exit status 2."""
    import typer

    from allkit.cli.progress import drop_unread, flush_streams, ready_streams, say
    from allkit.cli.root import root
    from allkit.errors import AllkitError
    from allkit.telemetry import torch_folder

    # Any mistake in a command line; typer gives a name to this kind of it only.
    usage_error: Any = typer.BadParameter.__mro__[1]
    warnings.showwarning = _show_warning
    ready_streams()
    try:
        with torch_folder():
            # In the other mode typer draws a frame around a mistake, which wraps its words.
            status = root(prog_name="allkit", standalone_mode=False)
        if status == STOPPED:  # typer makes a status of Ctrl-C
            say("Stopped.")
        flush_streams()
        sys.exit(status)
    except usage_error as error:
        _show_mistake(error)
        sys.exit(2)
    except AllkitError as error:
        say(f"Error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("Stopped.")
        sys.exit(STOPPED)
    except typer.Abort:  # a question was answered with no, or could not be asked
        say("Stopped: it was not confirmed; nothing was changed.")
        sys.exit(1)
    except BrokenPipeError:  # `allkit predict … | head`
        sys.exit(1)
    except OSError as error:  # wherever it was written, also by a library
        if error.errno != errno.ENOSPC:
            raise
        say(f"Error: Cannot write: {error.strerror}. Free some space, or write elsewhere.")
        sys.exit(2)
    finally:
        drop_unread()


def _show_mistake(error: Any) -> None:
    """Say what is wrong with a command line, and where its form is shown."""
    from allkit.cli.progress import say

    # Without any argument the help is shown already, and there are no words.
    message = str(error.format_message()).replace("Value error, ", "").rstrip(".")
    if message:
        end = "" if message.endswith("?") else "."
        say(f"Error: {message}{end} See: {error.ctx.command_path} --help")


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
