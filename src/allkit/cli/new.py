"""`allkit plugins new`."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import allkit
from allkit.cli.progress import say
from allkit.errors import ConfigError
from allkit.files import whole_folder

__all__ = ["run_new"]

KINDS = ("backbone", "augmentation", "exporter")


def run_new(name: str, kind: str, out: Path | None) -> None:
    """Write a complete, tested package for one plugin into the folder `out`, or `name`."""
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is None:
        raise ConfigError(
            f"{name!r} is no name for a package. Use small letters, digits and hyphens: allkit-mine."
        )
    if kind not in KINDS:
        raise ConfigError(f"--kind is {kind!r}. It is one of: {', '.join(KINDS)}.")
    module = name.replace("-", "_")
    if module == "allkit" or module in sys.stdlib_module_names:
        raise ConfigError(f"{name!r} is taken by another module. Choose another name.")
    if importlib.util.find_spec("copier") is None:
        raise ConfigError("This needs copier. Type: pip install 'allkit[author]'")
    import copier

    target = out or Path(name)
    with whole_folder(target) as building:
        copier.run_copy(
            str(Path(allkit.__file__).parent / "plugins" / "template"), str(building),
            data={
                "name": name, "module": module, "kind": kind, "allkit_version": allkit.__version__,
                "record": name.removeprefix("allkit-"),
            },
            defaults=True, overwrite=True, quiet=True,
        )  # fmt: skip
    say(f"Wrote {target}. Your part is in {target / module}.py. Then:")
    say(f"  pip install --editable {target}")
    say(f"  allkit plugins check {name}")
