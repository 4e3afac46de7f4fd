"""The files that a command writes beside what it prints: `--json` and `--html`."""

from __future__ import annotations

from pathlib import Path

from allkit.cli.progress import say
from allkit.errors import ConfigError
from allkit.files import require_file, write_whole

__all__ = ["require_places", "write_report"]


def require_places(*files: Path | None) -> None:
    """Raise `ConfigError` when a report could not be written, before the work is done."""
    for file in files:
        if file is None:
            continue
        require_file(file)
        if str(file) == "-":
            raise ConfigError("'-' is not standard output here. Name a file to write.")
        if not file.parent.is_dir():
            raise ConfigError(f"The folder {file.parent} does not exist. Make it first.")


def write_report(file: Path | None, text: str) -> None:
    """Write a report, if one was asked for, and say so."""
    if file is not None:
        write_whole(file, text)
        say(f"Saved {file}.")
