"""`allkit predict`: answers for any number of images."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.judge import open_model
from allkit.cli.progress import bars, say
from allkit.errors import ConfigError
from allkit.files import require_free
from allkit.volume.inputs import Paths, Shard, find_images
from allkit.volume.run import Identity, Run, model_hash
from allkit.volume.tables import require_format, row_of

if TYPE_CHECKING:
    from allkit.records import Prediction, Predictor

__all__ = ["run_predict"]

ENGINES = ("local", "ray")
Answer = Callable[[Paths], Iterator["Prediction"]]


def run_predict(
    model_path: Path,
    inputs: list[str],
    out: Path | None,
    shard: str,
    engine: str,
    device: str,
    overwrite: bool,
) -> int:
    """Answer for images; return 1 when some were unreadable."""
    share = Shard.parse(shard)
    if engine not in ENGINES:
        raise ConfigError(f"--engine is {engine!r}. Choose {' or '.join(ENGINES)}.")
    if out is not None:
        require_format(out)
        require_free(out, overwrite=overwrite)
    found, others = find_images(inputs)
    for folder, count in others.items():
        say(f"{folder}: {count} files are no images by their names, not taken.")
    images = share.of(found)
    model = open_model(model_path, device)
    answer: Answer = model.stream
    if engine == "ray":
        from allkit.volume.ray_data import stream

        answer = partial(stream, partial(open_model, model_path.resolve(), device), device)
    with _stoppable():
        if out is None:
            verdicts = _print(answer(images), model, len(images))
        else:
            identity = Identity(
                model=model_hash(model_path), classes=model.classes, shard=str(share),
                count=len(images), images=images.fingerprint(),
            )  # fmt: skip
            verdicts = _keep(answer, images, out, identity, overwrite)
    if verdicts["unreadable"]:
        say(
            f"{verdicts['unreadable']:,} of {len(images):,} images were unreadable; their rows "
            f"say why."
        )
    return 1 if verdicts["unreadable"] else 0


def _print(answers: Iterator[Prediction], model: Predictor, total: int) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    with bars() as progress:
        for number, answer in enumerate(answers, start=1):
            verdicts[answer.verdict] += 1
            progress("answers", number, total)
            row = row_of(answer, model.classes)
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    return verdicts


def _keep(
    answer: Answer, images: Paths, out: Path, identity: Identity, overwrite: bool
) -> Counter[str]:
    with Run(out, identity, overwrite=overwrite) as run:
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
