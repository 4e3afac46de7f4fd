"""`allkit split`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from allkit.cli.progress import say
from allkit.cli.train import told
from allkit.data.dataset import Dataset
from allkit.errors import ConfigError
from allkit.files import require_free

__all__ = ["run_split"]


def run_split(
    data: Path,
    out: Path,
    test: float,
    val: float,
    folds: int,
    by: str,
    scheme: str,
    column: str,
    pattern: str | None,
    seed: int,
    overwrite: bool,
) -> None:
    """Divide `data` and write the division as a CSV."""
    if by not in ("group", "image"):
        raise ConfigError(f"--by is {by!r}. It is `group` or `image`.")
    if scheme not in ("random", "leave-one-group-out"):
        raise ConfigError(f"--scheme is {scheme!r}. It is `random` or `leave-one-group-out`.")
    if scheme != "random" and (folds or by == "image"):
        raise ConfigError("--scheme leave-one-group-out takes neither --folds nor --by image.")
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--out is {out}; the division is written as a .csv file.")
    require_free(out, overwrite=overwrite)
    dataset = Dataset.open(data)
    if pattern is not None:
        dataset = dataset.with_groups(pattern)
    told(dataset)
    dataset.verify()
    if scheme == "leave-one-group-out":
        _leave_one_out(dataset, out, column)
        return
    way = cast(Literal["group", "image"], by)
    if folds:
        dataset.to_folds_csv(out, folds, by=way, seed=seed)
        say(f"Saved {out}: {folds} folds by {by}.")
        return
    split = dataset.split(test=test, val=val, by=way, seed=seed)
    split.to_csv(out)
    for name, part in [("train", split.train), ("val", split.val), ("test", split.test)]:
        if len(part):
            counts = ", ".join(f"{c} {part.counts[c]:,}" for c in part.classes)
            say(f"{name:<6}{len(part):>7,}  ({counts})")
    if way == "image":
        say(
            "Caution: an image-level split. Images of one slide lie on both sides; figures are inflated."
        )
    say(f"Saved {out}. Fingerprint {split.fingerprint[:16]}.")


def _leave_one_out(dataset: Dataset, out: Path, column: str) -> None:
    for split in dataset.leave_one_group_out(column):
        missing = [name for name in split.test.counts if not split.train.counts[name]]
        dropped = f", {split.dropped:,} relatives dropped" if split.dropped else ""
        unknown = (
            f"; {', '.join(missing)} is in no other {column}, so nothing can name it"
            if missing
            else ""
        )
        say(f"{split.held_out}: {len(split.test):,} to test{dropped}{unknown}")
    folds = dataset.to_leave_one_group_out_csv(out, column)
    say(f"Saved {out}: {folds} folds, one for each {column}. `train --folds {folds}` takes them.")
