"""The command line."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO

__all__ = ["main"]


def main() -> None:
    """Run `allkit`; a mistake of the user is told on standard error, with exit status 2."""
    from allkit.cli.commands import app
    from allkit.errors import AllkitError
    from allkit.telemetry import torch_folder

    warnings.showwarning = _show_warning
    try:
        with torch_folder():
            app(prog_name="allkit")
    except AllkitError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)
    except BrokenPipeError:  # `allkit predict … | head`
        sys.stderr.close()
        sys.exit(1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Ours are sentences for the user; a library's are for its developers.
    if category is UserWarning and "allkit" in filename:
        sys.stderr.write(f"Warning: {message}\n")
