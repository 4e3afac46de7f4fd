"""`allkit plugins check`: the conformance checks of a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.extras import require_training_packages
from allkit.cli.options import AsJson
from allkit.cli.progress import flush_streams, put, put_json
from allkit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allkit.testing.checks import Outcome

__all__ = ["check_plugin"]

SAMPLES = 8
"""Images of `--data` that are looked at."""


def check_plugin(
    name: Annotated[
        str,
        typer.Argument(
            help="a package, or the name of a backbone, augmentation or exporter", metavar="NAME"
        ),
    ],
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="a check that may fail, and why; repeatable"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="check on images of this set, not on drawn ones")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance checks.

    Exit status 1 when one fails.

    Example:
    allkit plugins check allkit-mine
    allkit plugins check vgg16 --data smears
    """
    require_training_packages()
    reasons = _expected_failures(expect or [])
    images = _sample_images(data, SAMPLES) if data else []
    from allkit.plugins import Registry, using
    from allkit.testing.checks import line, run_checks, summary

    subject = None

    def show(outcome: Outcome) -> None:
        nonlocal subject
        if as_json:
            return
        if outcome.subject != subject:
            subject = outcome.subject
            put(f"{subject}\n")
        put(line(outcome) + "\n")
        flush_streams()

    with using(Registry(fresh=True)):
        outcomes = run_checks(name, expected_failures=reasons, images=images, told=show)
    if as_json:
        put_json([asdict(outcome) for outcome in outcomes], indent=1)
    else:
        put(f"{summary(outcomes)}.\n")
    raise typer.Exit(int(any(outcome.state == "failed" for outcome in outcomes)))


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
