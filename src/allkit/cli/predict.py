"""`allkit predict`: answers for any number of images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.models import open_model
from allkit.cli.options import BY, Device, Model, Overwrite, SlidePattern
from allkit.cli.progress import bars, put_json, say
from allkit.errors import ConfigError
from allkit.files import require_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from allkit.data.left_out import Why
    from allkit.records import CasePrediction, Prediction, Predictor
    from allkit.volume.inputs import Paths
    from allkit.volume.run import AnsweringRun
    from allkit.volume.units import By, Units

    Answer = Callable[[Paths], Iterator[Prediction]]

__all__ = ["predict"]


def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(help="images, folders of images, zips, or tables", metavar="IMAGES"),
    ],
    by: Annotated[
        Literal["field", "slide", "case", "folder"],
        typer.Option(
            help=BY,
            metavar="field | slide | case | folder",
        ),
    ] = "field",
    slide_pattern: SlidePattern = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.jsonl, .csv or .parquet; the same command goes on when it was ended"
        ),
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="answer for one of N shares of the rows")
    ] = "1/1",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="where it is computed; ray is a cluster of machines"),
    ] = "local",
    device: Device = "auto",
    reader: Annotated[
        list[str] | None,
        typer.Option(
            help="how a plugin's reader reads, as in '{whole-slide: {side: 448}}'; repeatable. "
            "ALLKIT_READERS says it to all commands",
            metavar="READER{SETTINGS}",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Answer for images: one row each, in order; with --by, one for each slide, case or folder.

    A table names the images in its column image; labels are not needed.
    A whole slide, where a plugin reads it, has a row for each tile.
    Without --out the rows are JSON Lines on standard output.
    Exit status 1 when some images were unreadable.

    Example:
    allkit predict model.onnx smears --out answers.csv
    allkit predict model fields.csv --by slide
    """
    from allkit.data.left_out import left_out_text
    from allkit.files import model_hash
    from allkit.images.readers import asked_for, chosen
    from allkit.plugins.written import part_of
    from allkit.volume.inputs import Shard
    from allkit.volume.run import AnsweringRun, Identity
    from allkit.volume.tables import require_format
    from allkit.volume.units import Units

    share = Shard.parse(shard)
    if out is not None:
        require_format(out)
        require_free(out, overwrite=overwrite)
    with chosen(part_of(text, "--reader") for text in reader or ()):
        if engine == "ray" and asked_for():
            raise ConfigError(
                "--reader and ALLKIT_READERS hold for this machine only. Leave out --engine ray."
            )
        rows, others = _rows(images, by, slide_pattern)
        for folder, left in others.items():
            say(f"{folder}: not taken: {left_out_text(left)}.")
        rows = share.of(rows)
        predictor = open_model(model, device)
        answer: Answer = predictor.stream
        if engine == "ray":
            from allkit.volume.ray_data import stream

            answer = partial(stream, partial(open_model, model.resolve(), device), device)
        if out is None:
            unreadable = _print(rows, answer, predictor)
        else:
            identity = Identity(
                model=model_hash(model),
                classes=predictor.classes,
                shard=str(share),
                count=len(rows),
                images=rows.fingerprint(),
                by=by,
            )
            with AnsweringRun(out, identity, overwrite=overwrite) as run:
                unreadable = _write(rows, answer, predictor, run)
    if unreadable:
        total = len(rows.images if isinstance(rows, Units) else rows)
        say(f"{unreadable:,} of {total:,} images were unreadable; their rows say why.")
    raise typer.Exit(1 if unreadable else 0)


def _rows(
    inputs: list[str], by: By, slide_pattern: str | None
) -> tuple[Paths | Units, dict[str, dict[Why, int]]]:
    """Return the images, or the units, that have a row each, and the other files of folders."""
    from allkit.volume.inputs import find_images
    from allkit.volume.units import find_units

    if slide_pattern is not None and by != "slide":
        raise ConfigError("--slide says which images are of one slide. Give it with --by slide.")
    return find_images(inputs) if by == "field" else find_units(inputs, by, slide_pattern)


def _answers(
    rows: Paths | Units, answer: Answer, model: Predictor
) -> Iterator[Prediction | CasePrediction]:
    """Return the answers for rows, in order: those for images, or combined for units."""
    from allkit.runtime.units import combine_units
    from allkit.volume.units import Units

    if not isinstance(rows, Units):
        return answer(rows)
    # Only what comes with allkit has it; a plugin's file need not.
    trust = getattr(model, "trust", None)
    return combine_units(answer(rows.images), rows, trust)


def _print(rows: Paths | Units, answer: Answer, model: Predictor) -> int:
    """Write the rows on standard output; return the number of unreadable images."""
    from allkit.volume.run import unreadable_images
    from allkit.volume.tables import row_of

    unreadable = 0
    with bars() as progress:
        for number, answered in enumerate(_answers(rows, answer, model), start=1):
            unreadable += unreadable_images(answered)
            progress("answers", number, len(rows))
            row = row_of(answered, model.classes)
            put_json(row)
    return unreadable


def _write(rows: Paths | Units, answer: Answer, model: Predictor, run: AnsweringRun) -> int:
    """Write the rows into the table of a run; return the number of unreadable images."""
    if run.done:
        say(f"{run.done:,} of {len(rows):,} rows are there already; going on behind them.")
    answers = _answers(rows[run.done :] if run.done else rows, answer, model)
    try:
        with bars() as progress, contextlib.closing(run.write(answers)) as numbers:
            for number in numbers:
                progress("answers", number, len(rows))
    except BaseException:  # whatever ends it: a person, the system, a full disk
        say(f"{run.done:,} of {len(rows):,} rows are kept. The same command goes on there.")
        raise
    unreadable = run.unreadable
    verdicts = run.finish()
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    say(f"Saved {run.out}: {len(rows):,} rows{f' ({counts})' if counts else ''}.")
    return unreadable
