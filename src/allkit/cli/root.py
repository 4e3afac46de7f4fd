"""The command line as a whole: the commands, in their order and groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from allkit import __version__
from allkit.cli.adapt import adapt
from allkit.cli.app import app
from allkit.cli.audit import audit
from allkit.cli.benchmark import benchmark
from allkit.cli.cache import cache
from allkit.cli.check import check
from allkit.cli.clean import clean
from allkit.cli.clinic import clinic
from allkit.cli.demo import demo
from allkit.cli.doctor import doctor
from allkit.cli.evaluate import evaluate
from allkit.cli.explain import explain
from allkit.cli.export import export
from allkit.cli.offered import Commands
from allkit.cli.plugins import plugins
from allkit.cli.predict import predict
from allkit.cli.progress import put
from allkit.cli.reproduce import reproduce
from allkit.cli.serve import serve
from allkit.cli.sign import sign
from allkit.cli.split import split
from allkit.cli.train import train
from allkit.cli.tune import tune
from allkit.cli.verify import verify

__all__ = ["root"]

# A new command gets its line here. Every module above is imported for `allkit --help`: what is
# heavy waits inside the functions. typer reads the annotations of a command when it runs, so what
# they name is imported for real, and not under TYPE_CHECKING.
GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (demo, doctor, app),
    "Images": (check, audit, clean, split),
    "Models": (train, tune, evaluate, explain, adapt, reproduce),
    "Use": (predict, serve, export, verify, sign, benchmark),
}
NESTED = {"clinic": (clinic, "Use"), "plugins": (plugins, "Extend"), "cache": (cache, "Extend")}
"""Commands that have commands of their own, with the group in which they stand."""

root = typer.Typer(
    name="allkit",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@root.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False,
) -> None:
    """Classifiers of acute lymphoblastic leukaemia in blood-smear images that tell the truth.
    Research use; not a diagnosis.

    Example:
    allkit demo
    """
    if version:
        put(f"allkit {__version__}\n")
        raise typer.Exit


for _title, _commands in GROUPS.items():
    for _command in _commands:
        root.command(rich_help_panel=_title)(_command)
for _name, (_group, _title) in NESTED.items():
    root.add_typer(
        _group, name=_name, rich_help_panel=_title, invoke_without_command=_title == "Extend"
    )
