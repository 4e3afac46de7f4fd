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
    data: Path, out: Path, test: float, val: float, folds: int, by: str, seed: int, overwrite: bool
) -> None:
    """Divide `data` and write the division as a CSV."""
    if by not in ("group", "image"):
        raise ConfigError(f"--by is {by!r}. It is `group` or `image`.")
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--out is {out}; the division is written as a .csv file.")
    require_free(out, overwrite=overwrite)
    dataset = Dataset.open(data)
    told(dataset)
    dataset.verify()
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
