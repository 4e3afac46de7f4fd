"""`allkit plugins new`: a complete package from the template."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import allkit
from allkit.cli.progress import say
from allkit.errors import ConfigError
from allkit.files import whole_folder

__all__ = ["new_plugin"]

SUFFIX = ".jinja"
"""The ending of a template's files whose content is filled; others are copied."""


def new_plugin(
    name: Annotated[str, typer.Argument(help="of the package: allkit-mine", metavar="NAME")],
    kind: Annotated[
        Literal["backbone", "augmentation", "exporter"],
        typer.Option(help="what it offers", metavar="backbone | augmentation | exporter"),
    ] = "backbone",
    out: Annotated[
        Path | None, typer.Option(help="the folder to write", show_default="NAME")
    ] = None,
) -> None:
    """Write a complete package for a plugin of your own, with tests.

    Example:
    allkit plugins new allkit-mine --kind augmentation
    """
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is None:
        raise ConfigError(
            f"{name!r} is no name for a package. Use small letters, digits and hyphens: allkit-mine."
        )
    module = name.replace("-", "_")
    if module == "allkit" or module in sys.stdlib_module_names:
        raise ConfigError(f"{name!r} is taken by another module. Choose another name.")
    if importlib.util.find_spec("jinja2") is None:
        raise ConfigError("This needs jinja2. Type: pip install 'allkit[author]'")
    answers = {
        "name": name,
        "module": module,
        "kind": kind,
        "allkit_version": allkit.__version__,
        "record": name.removeprefix("allkit-"),
    }
    target = out or Path(name)
    if target.exists():
        raise ConfigError(f"{target} exists already. Name another folder with --out.")
    with whole_folder(target) as building:
        _fill(Path(allkit.__file__).parent / "plugins" / "template", building, answers)
    say(f"Wrote {target}. Your part is in {target / module}.py. Then:")
    say(f"  pip install --editable {target}")
    say(f"  allkit plugins check {name}")


def _fill(template: Path, target: Path, answers: dict[str, str]) -> None:
    """Write every file of a template, the names and contents of `*.jinja` filled with `answers`."""
    import jinja2

    # What is written is Python and TOML for this machine, not a page: nothing to escape.
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    for source in sorted(path for path in template.rglob("*") if path.is_file()):
        text = source.read_text(encoding="utf-8")
        name = environment.from_string(source.relative_to(template).as_posix()).render(answers)
        if source.suffix == SUFFIX:
            text = environment.from_string(text).render(answers)
        written = target / name.removesuffix(SUFFIX)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text, encoding="utf-8")
