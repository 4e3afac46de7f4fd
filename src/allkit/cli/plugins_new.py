"""`allkit plugins new`: a complete package from the template, and what is new in the template."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from allkit.cli.options import spell_out
from allkit.cli.plugins_template import Answers, answers_of, rendered, update
from allkit.cli.progress import say
from allkit.errors import ConfigError
from allkit.files import whole_folder
from allkit.plugins import OWN_COMMANDS
from allkit.plugins.offers import Kind

__all__ = ["new_plugin"]

TAKEN = {"plugin", "plugins", "test", "tests"}
"""Names that many folders have, so that now one of them is imported and now the other."""


def new_plugin(
    name: Annotated[
        str | None, typer.Argument(help="of the package: allkit-mine", metavar="NAME")
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="what is offered", metavar=spell_out(Kind))
    ] = "backbone",
    part: Annotated[
        str | None,
        typer.Option(help="the name of what is offered", show_default="NAME without `allkit-`"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the folder to write", show_default="NAME")
    ] = None,
    renew: Annotated[
        Path | None,
        typer.Option("--update", help="bring what is new in the template into this package"),
    ] = None,
) -> None:
    """Write a complete package for a plugin of your own, with tests.

    With --update, files that you never changed are renewed; beside the others,
    what is new is written as FILE.new.

    Example:
    allkit plugins new allkit-mine --kind augmentation
    allkit plugins new --update allkit-mine
    """
    if importlib.util.find_spec("jinja2") is None:
        raise ConfigError("This needs jinja2. Type: pip install 'allkit[author]'")
    if renew is not None:
        if name is not None or out is not None or part is not None:
            raise ConfigError(
                "--update takes a folder that is there, and neither NAME nor --out nor --part."
            )
        _update(renew)
        return
    if name is None:
        raise ConfigError("Name the package, as in: allkit plugins new allkit-mine")
    answers = _checked(name, kind, part or "")
    target = out or Path(name)
    if target.exists():
        raise ConfigError(f"{target} exists already. Name another folder with --out.")
    _require_free(answers)
    with whole_folder(target) as building:
        for path, text in rendered(answers).items():
            written = building / path
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text, encoding="utf-8", newline="\n")
    say(f"Wrote {target}. Your part is in {target / answers.module}.py. Then:")
    say(f"  pip install --editable '{target}[dev]'")
    say(f"  allkit plugins check {name}")


def _update(folder: Path) -> None:
    answers = answers_of(folder)
    _checked(answers.name, answers.kind, answers.part)
    for line in update(folder, answers):
        say(line)


def _checked(name: str, kind: Kind, part: str) -> Answers:
    """Return what a package is made of; raise `ConfigError` where a name is none."""
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is None or len(name) > 60:
        raise ConfigError(
            f"{name!r:.100} is no name for a package. Use small letters, digits and hyphens: allkit-mine."
        )
    if part and (re.fullmatch(r"[a-z0-9][a-z0-9._-]*", part) is None or len(part) > 60):
        raise ConfigError(
            f"--part {part!r:.100} is no name for a part. Use small letters, digits and . _ -: mine."
        )
    answers = Answers(name, kind, part)
    if answers.module == "allkit" or answers.module in sys.stdlib_module_names:
        raise ConfigError(f"{name!r} is taken by another module. Choose another name.")
    return answers


def _require_free(answers: Answers) -> None:
    """Raise `ConfigError` where a new package would hide a module, or its command could not be called."""
    module, record = answers.module, answers.values["record"]
    if module in TAKEN or importlib.util.find_spec(module) is not None:
        raise ConfigError(
            f"{answers.name!r} is taken by another module, {module}. Choose another name."
        )
    if answers.kind == "command" and record in OWN_COMMANDS:
        raise ConfigError(
            f"`allkit {record}` is a command of allkit's own, and stays so. Choose another name, as in "
            f"{answers.name}-mine."
        )
