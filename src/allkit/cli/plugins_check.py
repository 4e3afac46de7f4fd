"""`allkit plugins check`: the conformance checks of plugins."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.extras import require_training_packages
from allkit.cli.options import AsJson
from allkit.cli.plugins_results import keep_result, result_of, write_results
from allkit.cli.progress import flush_streams, put, put_json
from allkit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allkit.plugins import Plugin, Registry
    from allkit.testing.checks import Outcome

__all__ = ["check_plugin"]

SAMPLES = 8
"""Images of `--data` that are looked at."""
TRAIN_FIRST = ("backbone", "view", "explainer", "exporter")
"""The kinds whose checks need a network."""


def check_plugin(
    names: Annotated[
        list[str],
        typer.Argument(
            help="packages, parts, PACKAGE/PART, or the folder of a package", metavar="NAME…"
        ),
    ],
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="a check that may fail, and why; repeatable"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="check on images of this set, not on drawn ones")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="a file for the checks of a reader; repeatable")
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="what says in those files whose they are; repeatable"),
    ] = None,
    upcoming: Annotated[bool, typer.Option("--next", help="what is deprecated fails too")] = False,
    out: Annotated[Path | None, typer.Option(help="the file of results to write: .json")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance checks.

    Exit status 1 when one fails. What was skipped, and why, is told at the end.

    Example:
    allkit plugins check allkit-mine
    allkit plugins check vgg16 --data smears
    allkit plugins check allkit-mine --file field.mine --identity "Jane Doe"
    allkit plugins check allkit-mine --next --out results.json
    """
    reasons = _expected_failures(expect or [])
    if out is not None and not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}. Make it first.")
    from allkit.plugins import Registry, using

    with using(Registry(fresh=True)) as host:
        named = dict.fromkeys(_of_folder(host, name) for name in names)
        subjects = [(name, *_meant(host, name)) for name in named]
        if any(kind in TRAIN_FIRST for _, _, kinds in subjects for kind in kinds):
            require_training_packages()
        images = _sample_images(data, SAMPLES) if data else []
        with _files(file or [], identity or []):
            found = [
                (name, plugin, _run(name, reasons, images, upcoming=upcoming, quiet=as_json))
                for name, plugin, _ in subjects
            ]
    results = []
    for name, plugin, outcomes in found:
        result = result_of(plugin, outcomes, upcoming=upcoming)
        if _is_package(name, plugin) and not (reasons or data):
            keep_result(result)
        results.append(result)
    if out is not None:
        write_results(out, results)
    if as_json:
        put_json(
            [
                {"package": plugin.distribution, "version": plugin.version} | asdict(outcome)
                for _, plugin, outcomes in found
                for outcome in outcomes
            ],
            indent=1,
        )
    else:
        put("".join(_end(name, plugin, outcomes) for name, plugin, outcomes in found))
    outcomes = [outcome for _, _, several in found for outcome in several]
    raise typer.Exit(int(any(outcome.state == "failed" for outcome in outcomes)))


def _files(files: Sequence[Path], identity: Sequence[str]) -> AbstractContextManager[None]:
    """Let the checks of readers look at these files, and for these words in what comes of them."""
    if identity and not files:
        raise ConfigError("--identity names words in a file. Give the file too: --file FILE.")
    for path in files:
        if not path.is_file():
            raise ConfigError(
                f"--file {path} is not a file. Name a real one of the reader's format."
            )
    if not files:
        return nullcontext()
    from allkit.testing.readers import using_files

    return using_files(files, identity=identity)


def _is_package(name: str, plugin: Plugin) -> bool:
    from allkit.plugins.catalogue import plain

    return plain(name) == plain(plugin.distribution)


def _of_folder(host: Registry, name: str) -> str:
    """Return the package whose sources lie in the folder `name`, which has to be installed; else `name`."""
    project = Path(name) / "pyproject.toml"
    if any(_is_package(name, plugin) for plugin in host.plugins) or not project.is_file():
        return name
    try:
        package = str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{project} names no package. Name the package itself.") from None
    if not any(_is_package(package, plugin) for plugin in host.plugins):
        raise ConfigError(
            f"{name} is the folder of {package}, which is not installed here, or has no plugin. Type: pip "
            f"install --editable {shlex.quote(str(Path(name).absolute()))}"
        )
    return package


def _meant(host: Registry, name: str) -> tuple[Plugin, set[str]]:
    """Return the first plugin that a name means, and the kinds of what will be checked."""
    from allkit.plugins.offers import KINDS
    from allkit.records import Reference
    from allkit.testing.checks import checks_of

    mine = [plugin for plugin in host.plugins if _is_package(name, plugin)]
    if mine:
        return mine[0], {offer.kind for plugin in mine for offer in plugin.offers}
    asked = Reference.of(name)
    for kind in KINDS:
        if any(offer.answers(kind, asked.name) for _, offer in host.offers(kind)):
            return host.provider(kind, asked), {kind}
    checks_of(name)  # which says what there is
    raise ConfigError(f"There is nothing to check in {name!r}.")


def _run(
    name: str,
    reasons: dict[str, str],
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    upcoming: bool,
    quiet: bool,
) -> list[Outcome]:
    from allkit.testing.checks import line, run_checks

    subject = None

    def show(outcome: Outcome) -> None:
        nonlocal subject
        if quiet:
            return
        if outcome.subject != subject:
            subject = outcome.subject
            put(f"{subject}\n")
        told = replace(outcome, message="") if outcome.state == "skipped" else outcome
        put(line(told) + "\n")  # why something was skipped is told at the end, once
        flush_streams()

    given: Any = {"expected_failures": reasons, "images": images, "upcoming": upcoming}
    return run_checks(name, **given, told=show)


def _end(name: str, plugin: Plugin, outcomes: Sequence[Outcome]) -> str:
    """Return what is told at the end: what failed, what was skipped, and one sentence."""
    from allkit.testing.checks import summary

    lines = []
    for state, title in (("failed", "FAILED"), ("skipped", "SKIPPED, so not checked")):
        those = [outcome for outcome in outcomes if outcome.state == state]
        if those:
            lines.append(f"{len(those)} {title}:")
            alike: dict[tuple[str, str], list[str]] = {}
            for one in those:
                alike.setdefault((one.subject, one.message), []).append(one.check)
            lines += [f"  {whose}  {', '.join(c)}: {why}" for (whose, why), c in alike.items()]
    subject = plugin.origin if _is_package(name, plugin) else f"{name} of {plugin.origin}"
    return "".join(f"{line}\n" for line in [*lines, f"{subject}: {summary(outcomes)}."])


def _expected_failures(texts: Sequence[str]) -> dict[str, str]:
    """Return the reasons by check, from texts of the form `CHECK=REASON`."""
    reasons = {}
    for text in texts:
        check, separator, reason = text.partition("=")
        if not separator or not reason.strip():
            raise ConfigError(f"--expect {text!r} lacks its reason. Write --expect CHECK='why'.")
        reasons[check.strip()] = reason.strip()
    return reasons


def _sample_images(data: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Read at most `count` images `(H, W, 3)` of a set, at equal distances."""
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(data)
    step = max(1, len(dataset) // count)
    return [dataset.read(i) for i in range(0, len(dataset), step)[:count]]
