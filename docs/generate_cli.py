"""Write docs/reference/cli.md from the commands; with --check, exit 1 when it is stale.

The page is made from the parameters themselves and not from the text of `--help`, whose form
depends on the terminal and on the version of typer.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from allkit.cli.root import root

PAGE = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 80
WORDS = {str: "TEXT", Path: "PATH", int: "N", float: "F"}
HIDDEN = {"install_completion", "show_completion"}  # typer's own, for the shell

INTRODUCTION = """\
# Command line

Every command, as its `--help` tells it. This page is generated: run `python docs/generate_cli.py`
after a change.

`DATA` is a folder of class folders, a zip of one, or a table; see
[Prepare data](../how-to/data.md). `MODEL` is a model folder or, where that is said, an exported file.
What `--out` names must not exist, unless `--overwrite` is given. For exit statuses see
[Errors](errors.md). `allkit --install-completion` teaches the shell the commands, options and choices,
and the names of backbones, formats and recipes.
"""


def page() -> str:
    """Return the whole page: the commands in the groups of `allkit --help`."""
    whole = typer.main.get_command(root)
    sections = [_section("allkit", whole)]
    for title, names in _panels(whole).items():
        sections.append(f"## {title}\n")
        for name in names:
            inner = _commands(f"allkit {name}", whole.commands[name])
            sections += [_section(path, command, level=3) for path, command in inner]
    return INTRODUCTION + "\n" + "\n".join(sections)


def _panels(command: Any) -> dict[str, list[str]]:
    """Return the names of the commands inside one, by the title of their group in its `--help`."""
    panels: dict[str, list[str]] = {}
    for name, inner in getattr(command, "commands", {}).items():
        title = inner.rich_help_panel
        panels.setdefault(title if isinstance(title, str) else "Commands", []).append(name)
    return panels


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", inner)


def _section(path: str, command: Any, level: int = 2) -> str:
    parameters = [p for p in command.params if p.name not in HIDDEN | {"help"}]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    usage = [path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
    inner = getattr(command, "commands", {})
    hints = typing.get_type_hints(command.callback) if command.callback else {}
    if inner:
        usage.append("[COMMAND]")
    blocks = [" ".join(usage)]
    blocks += _paragraphs(command.help)
    rows = {
        "Arguments": [(_argument(p), _explained(p, hints[p.name])) for p in arguments],
        "Options": [(_option(p, hints[p.name]), _explained(p, hints[p.name])) for p in options],
    }
    for title, names in _panels(command).items():
        rows[title] = [(name, " ".join(_first(inner[name].help).split())) for name in names]
    blocks += [f"{title}:\n{_columns(lines)}" for title, lines in rows.items() if lines]
    return f"{'#' * level} `{path}`\n\n```text\n" + "\n\n".join(blocks) + "\n```\n"


def _paragraphs(text: str) -> list[str]:
    """Return the text of a command, paragraph by paragraph; the lines of an example stay."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return [
        paragraph.replace("\n", "\n  ") if paragraph.startswith("Example:") else _wrapped(paragraph)
        for paragraph in paragraphs
    ]


def _first(text: str) -> str:
    return inspect.cleandoc(text).split("\n\n")[0]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    text = name + ("..." if parameter.nargs == -1 else "")
    return text if parameter.required else f"[{text}]"


def _option(parameter: Any, hint: Any) -> str:
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    if parameter.is_flag:
        return names
    word = "CHOICE" if _choices(hint) else parameter.metavar or _word(hint)
    return f"{names} {word}" + (" ..." if parameter.multiple else "")


def _word(hint: Any) -> str:
    """Return the word for a value of this type, or of one that may be missing."""
    members = (hint, *typing.get_args(hint))
    return next((word for kind, word in WORDS.items() if kind in members), "VALUE")


def _choices(hint: Any) -> tuple[str, ...]:
    """Return the values of a `Literal`, or of one that may be missing."""
    members = (hint, *typing.get_args(hint))
    literals = [m for m in members if typing.get_origin(m) is typing.Literal]
    return typing.get_args(literals[0]) if literals else ()


def _explained(parameter: Any, hint: Any) -> str:
    text = (parameter.help or "").strip()
    choices = _choices(hint)
    if choices:
        text = f"{', '.join(choices[:-1])} or {choices[-1]}: {text}"
    default = parameter.default
    if parameter.param_type_name == "option" and parameter.required:
        return f"{text} (required)"
    if isinstance(parameter.show_default, str):
        return f"{text} (default: {parameter.show_default})"
    plain = isinstance(default, (str, int, float, Path)) and not isinstance(default, bool)
    return f"{text} (default: {default})" if plain and default != "" else text


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False)


def _columns(rows: list[tuple[str, str]]) -> str:
    left = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, text in rows:
        first, *rest = textwrap.wrap(text, WIDTH - left, break_on_hyphens=False) or [""]
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
