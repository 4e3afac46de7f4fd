"""`allkit split`: a set divided into parts or folds, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.data import open_data
from allkit.cli.options import BY, Data, GroupPattern, Overwrite, Seed, SlidePattern, Val, spell_out
from allkit.cli.progress import say
from allkit.errors import ConfigError
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["split"]

Scheme = Literal["random", "leave-one-group-out"]


def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="the CSV to write")],
    test: Annotated[float, typer.Option(help="share of the images for testing")] = 0.3,
    val: Val = 0.0,
    folds: Annotated[int, typer.Option(help="write k folds instead")] = 0,
    by: Annotated[
        Literal["group", "slide", "image"],
        typer.Option(help=BY, metavar="group | slide | image"),
    ] = "group",
    scheme: Annotated[
        Scheme,
        typer.Option(
            help="leave-one-group-out makes a fold for each group", metavar=spell_out(Scheme)
        ),
    ] = "random",
    column: Annotated[
        str, typer.Option(help="what leave-one-group-out leaves out: a column of the table")
    ] = "group",
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Divide a set into train, val and test, groups and fields whole, and write it as a CSV.

    With --by image it is the plain random split of published systems.

    Example:
    allkit split smears --out split.csv --test 0.3 --val 0.1
    allkit split smears.csv --out folds.csv --folds 5
    """
    if scheme != "random" and (folds or by != "group"):
        raise ConfigError("--scheme leave-one-group-out takes neither --folds nor --by.")
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--out is {out}; the division is written as a .csv file.")
    require_free(out, overwrite=overwrite)
    dataset = open_data(data, group_pattern, slide_pattern)
    from allkit.data.relations import SAME_FIELD

    # Both name every unreadable image. By group, the division needs what this pass measures.
    if by == "image":
        dataset.verify()
    else:
        dataset.passes.measure(SAME_FIELD)
    if scheme == "leave-one-group-out":
        _leave_one_out(dataset, out, column)
        return
    if folds:
        dataset.to_folds_csv(out, folds, by=by, seed=seed)
        say(f"Saved {out}: {folds} folds by {by}.")
        return
    division = dataset.split(test=test, val=val, by=by, seed=seed)
    division.to_csv(out)
    for name, part in [("train", division.train), ("val", division.val), ("test", division.test)]:
        if len(part):
            counts = ", ".join(f"{c} {part.counts[c]:,}" for c in part.classes)
            say(f"{name:<6}{len(part):>7,}  ({counts})")
    if by == "image":
        say(
            "Caution: an image-level split. Images of one slide lie on both sides; figures are inflated."
        )
    say(f"Saved {out}. Fingerprint {division.fingerprint[:16]}.")


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
