"""The checks of a command."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

from allkit.plugins import OWN_COMMANDS
from allkit.records import Command
from allkit.testing.checks import Skipped, require
from allkit.testing.surroundings import changed, global_state, no_network

__all__ = ["CHECKS"]

BUILD_SECONDS = 0.5
RUN_SECONDS = 60.0
"""What the help may take in a process of its own, the start of Python with it."""
SHORTEST = 10
"""Characters of a sentence, at least."""


def name_is_free(record: Command) -> None:
    """Its name is none of allkit's own commands, which no plugin replaces."""
    require(
        record.name not in OWN_COMMANDS,
        f"`allkit {record.name}` is a command of allkit's own, and stays so. Choose another name.",
    )


def has_a_summary(record: Command) -> None:
    """The help of allkit shows a sentence on one line: at most 100 characters."""
    summary = record.summary
    require(
        len(summary) >= SHORTEST and len(summary) <= 100 and "\n" not in summary,
        f"Its summary is {summary!r:.120}. `allkit --help` shows it: say in a line what the command does.",
    )


def builds_quickly(record: Command) -> None:
    """`build()` takes at most half a second: heavy imports wait in the function that it returns."""
    record.build()  # the first call may import libraries of the command line
    start = time.perf_counter()
    record.build()
    seconds = time.perf_counter() - start
    require(
        seconds <= BUILD_SECONDS,
        f"Building it takes {seconds:.2f} s; at most {BUILD_SECONDS} s is fair.",
    )


def builds_what_can_be_run(record: Command) -> None:
    """It is built as a function, a `typer.Typer` or a command of click."""
    _command_of(record)


def builds_anew(record: Command) -> None:
    """Building changes nothing of the process and reaches no network; twice gives two that are equal."""
    record.build()  # the first call may import libraries
    state = random.getstate()
    try:
        random.seed(time.time_ns())  # so that a seed that is set shows, though it was set before
        with no_network() as attempts:
            before = global_state()
            first, second = record.build(), record.build()
            different = changed(before, global_state())
    finally:
        random.setstate(state)
    require(not different, f"Building it changed: {', '.join(different)}.")
    require(not attempts, f"Building it tried to reach {', '.join(attempts)}.")
    require(type(first) is type(second), "Built twice it is of two kinds.")


def help_says_what_it_does(record: Command) -> None:
    """`--help` ends with status 0 and shows a sentence of the command's own."""
    done = _ran(record, "--help")
    require(
        done.returncode == 0, f"`--help` ended with status {done.returncode}: {done.stderr:.300}"
    )
    command = _command_of(record)
    said = (getattr(command, "help", "") or "").strip()
    require(
        len(said) >= SHORTEST,
        "Its help says nothing. Write a docstring under the function: its first sentence is shown.",
    )
    first = said.split()[0]
    require(first in done.stdout, f"`--help` does not show its docstring: {done.stdout:.300}")


def refuses_unknown_options(record: Command) -> None:
    """An option that does not exist ends it with status 2 and no traceback."""
    done = _ran(record, "--no-such-option-of-any-command")
    require(
        done.returncode == 2 and "Traceback" not in done.stderr,
        f"An unknown option ended with status {done.returncode}: {done.stderr:.300}",
    )


def _command_of(record: Command) -> Any:
    import typer

    from allkit.errors import PluginError

    made = record.build()
    kind = type(made).__name__
    command = hasattr(made, "make_context") and hasattr(made, "invoke")
    require(
        callable(made) or command,
        f"It was built as {kind}; `build` must return a function, a Typer or a command of click.",
    )
    if command:
        return made
    if isinstance(made, typer.Typer):
        app = made
    else:
        app = typer.Typer(add_completion=False)
        app.command(record.name)(made)
    try:
        return typer.main.get_command(app)
    except NameError as error:
        raise PluginError(
            f"typer cannot read its annotations: {error}. Import what they name at the top of the module."
        ) from error
    except RuntimeError as error:  # of typer, about a signature that it cannot read
        raise PluginError(f"typer cannot take it: {error}") from error


def _ran(record: Command, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as `allkit NAME` in a process of its own, which is told only its module and name."""
    function = getattr(record.build, "func", record.build)
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier() or find_spec(module) is None:
        raise Skipped("Its `build` is no function of a module that another process can import.")
    package, _, version = getattr(record.build, "origin", "unpackaged 0").rpartition(" ")
    code = (
        "import importlib, sys, types\n"
        "from allkit import Command, hookimpl\n"
        "from allkit.plugins import Registry, using\n"
        f"build = getattr(importlib.import_module({module!r}), {name!r})\n"
        f"record = Command({record.name!r}, build)\n"
        "plugin = types.SimpleNamespace(api_version=2, allkit_commands=hookimpl(lambda: [record]))\n"
        "host = Registry(discover=False)\n"
        f"host.register(plugin, name='checked', distribution={package!r}, version={version!r})\n"
        "from allkit.cli import main\n"
        f"sys.argv = ['allkit', '{package}/{record.name}', *sys.argv[1:]]\n"
        "with using(host): main()\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TERMINAL_WIDTH": "200",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    try:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        require(False, f"After {RUN_SECONDS:g} s `allkit {record.name} {arguments[0]}` goes on.")
        raise


CHECKS = (
    name_is_free,
    has_a_summary,
    builds_quickly,
    builds_what_can_be_run,
    builds_anew,
    help_says_what_it_does,
    refuses_unknown_options,
)
