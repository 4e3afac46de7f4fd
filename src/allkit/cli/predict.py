"""`allkit predict`: answers for any number of images."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.models import open_model
from allkit.cli.options import Device, Model, Overwrite
from allkit.cli.progress import bars, say
from allkit.files import require_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from allkit.records import Prediction, Predictor
    from allkit.volume.inputs import Paths
    from allkit.volume.run import Identity

    Answer = Callable[[Paths], Iterator[Prediction]]

__all__ = ["predict"]


def predict(
    model: Model,
    images: Annotated[
        list[str], typer.Argument(help="images or folders of images", metavar="IMAGES")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.jsonl, .csv or .parquet; the same command goes on when it was ended"
        ),
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="answer for one of N shares of the images")
    ] = "1/1",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="where it is computed; ray is a cluster of machines"),
    ] = "local",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Answer for images: one row each, in order.

    Without --out the rows are JSON Lines on standard output.
    Exit status 1 when some images were unreadable.

    Example:
    allkit predict model.onnx smears --out answers.csv
    allkit predict model field-1.png field-2.png
    """
    from allkit.volume.inputs import Shard, find_images
    from allkit.volume.run import Identity, model_hash
    from allkit.volume.tables import require_format

    share = Shard.parse(shard)
    if out is not None:
        require_format(out)
        require_free(out, overwrite=overwrite)
    paths, others = find_images(images)
    for folder, count in others.items():
        say(f"{folder}: {count} files are no images by their names, not taken.")
    paths = share.of(paths)
    predictor = open_model(model, device)
    answer: Answer = predictor.stream
    if engine == "ray":
        from allkit.volume.ray_data import stream

        answer = partial(stream, partial(open_model, model.resolve(), device), device)
    with _stoppable():
        if out is None:
            verdicts = _print(answer(paths), predictor, len(paths))
        else:
            identity = Identity(
                model=model_hash(model),
                classes=predictor.classes,
                shard=str(share),
                count=len(paths),
                images=paths.fingerprint(),
            )
            verdicts = _write(answer, paths, out, identity=identity, overwrite=overwrite)
    if verdicts["unreadable"]:
        say(
            f"{verdicts['unreadable']:,} of {len(paths):,} images were unreadable; their rows "
            f"say why."
        )
    raise typer.Exit(1 if verdicts["unreadable"] else 0)


def _print(answers: Iterator[Prediction], model: Predictor, total: int) -> Counter[str]:
    from allkit.volume.tables import row_of

    verdicts: Counter[str] = Counter()
    with bars() as progress:
        for number, answer in enumerate(answers, start=1):
            verdicts[answer.verdict] += 1
            progress("answers", number, total)
            row = row_of(answer, model.classes)
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    return verdicts


def _write(
    answer: Answer, images: Paths, out: Path, *, identity: Identity, overwrite: bool
) -> Counter[str]:
    from allkit.volume.run import AnsweringRun

    with AnsweringRun(out, identity, overwrite=overwrite) as run:
        if run.done:
            say(f"{run.done:,} of {len(images):,} rows are there already; going on behind them.")
        rest = images[run.done :] if run.done else images
        try:
            with bars() as progress, contextlib.closing(run.write(answer(rest))) as numbers:
                for number in numbers:
                    progress("answers", number, len(images))
        except (KeyboardInterrupt, SystemExit):
            say(f"{run.done:,} of {len(images):,} rows are kept. The same command goes on there.")
            raise
        verdicts = run.finish()
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    say(f"Saved {out}: {len(images):,} rows{f' ({counts})' if counts else ''}.")
    return verdicts


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let a polite request to end (SIGTERM) keep what is done, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        sys.exit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
