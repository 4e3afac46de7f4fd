"""Commands of plugins: `allkit NAME` runs them, the help lists them, and none replaces one of ours."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import typer

from allkit import Command
from allkit.cli.root import root
from allkit.plugins import OWN_COMMANDS, Registry, using
from allkit.testing import run_checks

SOURCE = '''
from allkit import Command, hookimpl

api_version = 2

def build_slices():
    import typer

    def slices(slide: str, size: int = 224):
        """Cut a slide into slices."""
        print(f"{slide} in {size}")
        if size == 1: raise ValueError("too small")
        if size == 2: raise typer.Exit(7)
        if size == 3: raise SystemExit(8)
        if size == 4: raise typer.Abort()
        if size == 5: raise typer.BadParameter("five is no size")
        if size == 6: raise KeyboardInterrupt
        return size

    return slices

def build_click():
    import click

    @click.command()
    @click.argument("slide")
    @click.option("--size", type=int)
    def shown(slide, size):
        """Show a slide by click."""
        click.echo(f"{slide} of {size}")
        if size == 2: click.get_current_context().exit(7)
        if size == 4: raise click.Abort
        if size == 6: raise click.ClickException("no slide")
        return size

    return shown

def build_group():
    import typer

    group = typer.Typer(help="Everything about slides.")

    @group.command()
    def first(count: int = 1):
        """The first slides."""
        print(f"first {count}")

    @group.command()
    def last():
        """The last slide."""
        print("last")

    return group

def build_nothing():
    return 42

def build_none():
    return None

async def late():
    print("never")

def build_late():
    return late

def build_yielding():
    def yielding():
        yield print("never")
    return yielding

def build_late_group():
    import typer

    group = typer.Typer()
    group.callback()(lambda: None)
    group.command()(late)
    return group

def build_late_click():
    import click

    return click.command()(late)

@hookimpl
def allkit_commands():
    return [RECORDS]
'''
TILES = 'Command("slices", build_slices, "cut a slide [bold]into[/] slices")'
ALL = (
    f'{TILES}, Command("clicked", build_click, "show a slide"), Command("slides", build_group, "all about '
    'slides"), Command("nothing", build_nothing), Command("train", build_slices, "not ours")'
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A file of what was asked already, so that each plugin is asked once for all tests."""
    return tmp_path_factory.mktemp("asked") / "plugins.json"


@pytest.fixture
def install(tmp_path, monkeypatch, asked):
    """Put a distribution with commands on the path, known or still to be asked."""
    site = tmp_path / "installed"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    known_here = Path(os.environ["ALLKIT_CACHE"]) / "plugins.json"

    def run(name, records=TILES, *, known=True):
        module = f"plugin_{name}"
        (site / f"{module}.py").write_text(SOURCE.replace("RECORDS", records))
        info = site / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[allkit]\nplugin = {module}\n")
        (info / "RECORD").write_text(f"{module}.py,{hash(records)},\n")
        importlib.invalidate_caches()
        sys.modules.pop(module, None)
        if known:
            if asked.exists():
                shutil.copy(asked, known_here)
            assert Registry().names("command")
            shutil.copy(known_here, asked)

    return run


@pytest.fixture
def run(cli):
    """Run the command line with a registry that looks again what is installed."""

    def call(*arguments):
        with using(Registry()):
            return cli(*arguments)

    return call


def test_hook_allkit_commands_adds_a_command_with_arguments_and_options(install, run):
    install("acme")
    assert run("slices", "a.svs", "--size", "96") == (0, "a.svs in 96\n", "")
    assert run("acme/slices", "a.svs")[:2] == (0, "a.svs in 224\n")
    status, out, _ = run("slices", "--help")
    assert status == 0
    assert "Cut a slide into slices." in out
    assert "allkit slices [OPTIONS]" in out


def test_the_help_lists_what_plugins_add_and_imports_none_of_them(install, run):
    install("acme", ALL)
    status, out, _ = run("--help")
    assert status == 0
    assert "─ Plugins ─" in out
    assert "cut a slide [bold]into[/] slices (acme 1.2)" in out
    assert "show a slide (acme 1.2)" in out
    assert "plugin_acme" not in sys.modules


def test_the_help_asks_nobody_and_says_who_was_not_asked(install, run):
    install("acme", known=False)
    out = run("--help")[1]
    assert "Not asked yet what they offer: acme 1.2" in out
    assert "slices" not in out
    assert run("slices", "a.svs")[0] == 0  # which asks
    assert "Not asked" not in run("--help")[1]


def test_a_command_of_ours_is_never_replaced_and_the_other_is_reached_in_full(install, run):
    install("acme", ALL)
    assert "Train a classifier" in run("train", "--help")[1]
    assert "acme/train" in run("--help")[1]
    assert run("acme/train", "a.svs")[1] == "a.svs in 224\n"
    with using(Registry()) as host:
        (conflict,) = [c for c in host.conflicts() if c.kind == "command"]
    assert "'train' is offered by allkit" in str(conflict)
    assert conflict.own


def test_two_of_one_name_are_named_and_each_is_reached_in_full(install, run):
    install("acme")
    install("bolt")
    status, _, err = run("slices", "a.svs")
    assert status == 2
    assert "acme 1.2 and bolt 1.2. Name one in full: acme/slices or bolt/slices." in err
    assert run("bolt/slices", "a.svs")[:2] == (0, "a.svs in 224\n")
    out = run("--help")[1]
    assert "acme/slices" in out
    assert "bolt/slices" in out


@pytest.mark.parametrize(
    ("size", "status", "message"),
    [
        (1, 2, "Error: acme 1.2: the command 'slices' failed in `run`: ValueError: too small.\n"),
        (2, 7, ""),
        (3, 8, ""),
        (4, 1, "Stopped.\n"),
        (5, 2, "Error: Invalid value: five is no size. See: allkit slices --help\n"),
        (6, 130, "Stopped.\n"),
        ("x", 2, "Error: Invalid value for '--size': "),
    ],
)
def test_a_command_ends_as_it_wants_and_its_failures_are_named(install, run, size, status, message):
    install("acme")
    ended, _, err = run("slices", "a.svs", "--size", size)
    assert ended == status
    assert err.startswith(message)
    assert bool(err) == bool(message)


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["a.svs", "--size", "9"], 0, "a.svs of 9", ""),
        (["a.svs", "--size", "2"], 7, "a.svs of 2", ""),
        (["a.svs", "--size", "4"], 1, "a.svs of 4", "Stopped."),
        (["a.svs", "--size", "6"], 1, "a.svs of 6", "Error: no slide"),
        (["--help"], 0, "Show a slide by click.", ""),
        ([], 2, "", "Missing argument 'SLIDE'"),
    ],
)
def test_a_command_of_click_is_run_by_click(install, run, words, status, out, err):
    pytest.importorskip("click")
    install("acme", ALL)
    ended, said, complained = run("clicked", *words)
    assert ended == status
    assert out in said
    assert err in complained


def test_a_typer_of_several_commands_is_a_group(install, run):
    install("acme", ALL)
    assert run("slides", "first", "--count", "3")[:2] == (0, "first 3\n")
    assert run("slides", "last")[:2] == (0, "last\n")
    assert "Everything about slides." in run("slides", "--help")[1]


def test_what_is_no_command_is_named(install, run):
    install("acme", ALL)
    status, _, err = run("nothing")
    assert status == 2
    assert "The command 'nothing' was built as 42" in err


def test_a_command_that_would_do_nothing_is_refused_and_its_package_named(install, run):
    builds = ("build_late", "build_yielding", "build_late_group", "build_late_click", "build_none")
    install("acme", ", ".join(f'Command("late{n}", {build})' for n, build in enumerate(builds)))
    said = ["of 'late', which is async or yields"] * 5
    said[1] = "of 'yielding', which is async or yields"
    said[4] = "as None"
    for number, words in enumerate(said):
        status, out, err = run(f"late{number}")
        assert (status, out) == (2, "")
        assert f"acme 1.2: The command 'late{number}' was built {words}" in err


def test_an_unknown_command_is_answered_with_the_nearest_and_with_what_is_broken(install, run):
    install("acme")
    status, _, err = run("slicess")
    assert status == 2
    assert "No such command 'slicess'. Did you mean 'slices'?" in err
    install("bolt", "1 / 0", known=False)
    assert Registry().plugins
    err = run("unheard-of")[2]
    assert "Plugins that failed to load: bolt 1.2; see `allkit plugins`" in err
    assert "The package crux" in run("crux/slices")[2]


@pytest.mark.parametrize(
    ("words", "wanted"), [("allkit sli", "slices"), ("allkit slices a.svs --si", "--size")]
)
def test_a_shell_is_offered_commands_of_plugins_and_their_options(
    install, run, monkeypatch, words, wanted
):
    install("acme")
    monkeypatch.setenv("_ALLKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert run()[1].split() == [wanted]


def test_the_commands_of_our_own_are_all_known_to_the_host():
    assert tuple(typer.main.get_command(root).commands) == OWN_COMMANDS


# ── the checks ────────────────────────────────────────────────────────────────────────────────


def failed(record):
    return {outcome.check for outcome in run_checks(record) if outcome.state == "failed"}


def build_good():
    def good(slide: str) -> None:
        """Look at a slide and say so."""

    return good


def build_silent():
    def silent(slide):
        pass

    return silent


def build_slowly():
    import time

    time.sleep(0.6)
    return build_good()


def build_number():
    return 42


def build_with_chance():
    import random

    random.seed(1)
    return build_good()


@pytest.mark.slow
def test_a_good_command_passes_every_check(monkeypatch):
    monkeypatch.syspath_prepend(str(importlib.import_module("blocks").ROOT / "tests"))
    assert failed(Command("good", build_good, "look at a slide")) == set()


@pytest.mark.parametrize(
    ("record", "check"),
    [
        (Command("train", build_good, "look at a slide"), "name_is_free"),
        (Command("good", build_good), "has_a_summary"),
        (Command("good", build_slowly, "look at a slide"), "builds_quickly"),
        (Command("good", build_number, "look at a slide"), "builds_what_can_be_run"),
    ],
)
def test_a_bad_command_fails_the_check_of_its_fault(record, check, monkeypatch):
    from allkit.testing import ConformanceError, checks_of

    (one,) = [c for c in checks_of(record) if c.name == check]
    with pytest.raises(ConformanceError):
        one()


def test_a_command_without_a_docstring_or_that_changes_the_process_fails():
    from allkit.testing import ConformanceError, checks_of

    for build, check in (
        (build_silent, "help_says_what_it_does"),
        (build_with_chance, "builds_anew"),
    ):
        record = Command("bad", build, "look at a slide")
        (one,) = [c for c in checks_of(record) if c.name == check]
        with pytest.raises(ConformanceError):
            one()
