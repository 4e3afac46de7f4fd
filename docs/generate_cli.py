"""Write docs/reference/cli.md from the commands; with --check, exit 1 when it is stale.

The page is made from the parameters themselves and not from the text of `--help`, whose form
depends on the terminal and on the version of typer.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from allkit.cli.commands import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 80
HIDDEN = {"install_completion", "show_completion"}  # typer's own, for the shell

INTRODUCTION = """\
# Command line

Every command, as its `--help` tells it. This page is generated: run `python docs/generate_cli.py`
after a change.

`DATA` is a folder of class folders, a zip of one, or a table; see
[Prepare data](../how-to/data.md). `MODEL` is a model folder or, for `predict`, an exported file.
What `--out` names must not exist, unless `--overwrite` is given. For exit statuses see
[Errors](errors.md).
"""


def page() -> str:
    """Return the whole page."""
    sections = [_section(path, command) for path, command in _commands("allkit", _root())]
    return INTRODUCTION + "\n" + "\n".join(sections)


def _root() -> Any:
    return typer.main.get_command(app)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", inner)


def _section(path: str, command: Any) -> str:
    parameters = [p for p in command.params if p.name not in HIDDEN | {"help"}]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    usage = [path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
    inner = getattr(command, "commands", {})
    kinds = _kinds(command)
    if inner:
        usage.append("[COMMAND]")
    blocks = [" ".join(usage)]
    if command.help:
        blocks.append(_wrapped(command.help))
    rows = {
        "Arguments": [(_argument(p), _explained(p)) for p in arguments],
        "Options": [(_option(p, kinds[p.name]), _explained(p)) for p in options],
        "Commands": [(name, (c.help or "").splitlines()[0]) for name, c in inner.items()],
    }
    blocks += [f"{title}:\n{_columns(lines)}" for title, lines in rows.items() if lines]
    return f"## `{path}`\n\n```text\n" + "\n\n".join(blocks) + "\n```\n"


def _argument(parameter: Any) -> str:
    text = str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return text if parameter.required else f"[{text}]"


def _option(parameter: Any, kind: str) -> str:
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or kind}" + (" ..." if parameter.multiple else "")


def _kinds(command: Any) -> dict[str, str]:
    """Return the word for the value of each parameter, from the function's annotations."""
    words = {str: "TEXT", Path: "PATH", int: "N", float: "F"}
    hints = typing.get_type_hints(command.callback) if command.callback else {}
    members = {name: {hint, *typing.get_args(hint)} for name, hint in hints.items()}
    return {
        name: next((word for kind, word in words.items() if kind in found), "VALUE")
        for name, found in members.items()
    }


def _explained(parameter: Any) -> str:
    text = (parameter.help or "").strip()
    default = parameter.default
    if parameter.param_type_name == "option" and parameter.required:
        return f"{text} (required)"
    plain = isinstance(default, (str, int, float, Path)) and not isinstance(default, bool)
    return f"{text} (default: {default})" if plain and default != "" else text


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH)


def _columns(rows: list[tuple[str, str]]) -> str:
    left = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, text in rows:
        first, *rest = textwrap.wrap(text, WIDTH - left) or [""]
        lines.append(f"  {name:<{left - 2}}{first}".rstrip())
        lines += [" " * left + line for line in rest]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or compare it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is stale")
    check = parser.parse_args(arguments).check
    wanted = page()
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"{PAGE.name} is stale. Run: python docs/generate_cli.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
