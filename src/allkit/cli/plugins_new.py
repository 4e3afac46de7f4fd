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
    if importlib.util.find_spec("copier") is None:
        raise ConfigError("This needs copier. Type: pip install 'allkit[author]'")
    import copier

    template = Path(allkit.__file__).parent / "plugins" / "template"
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
        copier.run_copy(
            str(template),
            str(building),
            data=answers,
            defaults=True,
            overwrite=True,
            quiet=True,
        )
    say(f"Wrote {target}. Your part is in {target / module}.py. Then:")
    say(f"  pip install --editable {target}")
    say(f"  allkit plugins check {name}")
