"""The log of looks: every time that answers on a left-out slide were seen by whoever makes choices.

A figure on slides that were left out is worth less each time it is looked at, because the next choice
is made with it in mind. So a look is a row of `looks.csv`, written by the program that shows it and
before it is shown; it belongs to the repository, and only rows are added. A commit with `+` after it
had changes that were not committed. `configuration` holds the settings that differ from the defaults.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from allkit.config import TrainConfig

LOOKS = Path(__file__).parent / "looks.csv"


class Look(NamedTuple):
    """One row: what was tried, on which left-out slides, and how it went. Counts are images."""

    date: str
    commit: str
    backbone: str
    step: str
    configuration: str
    slides: str
    images: int
    coarse_right: int
    coarse_accepted_wrong: int
    fine_accepted_wrong: int


def append(log: Path, look: Look) -> None:
    """Add a row, whole or not at all; several programs may do so at once."""
    with log.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not os.fstat(file.fileno()).st_size:
            writer.writerow(Look._fields)
        writer.writerow(look)
        file.write(text.getvalue().encode())


def now() -> str:
    """Return the date and time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


def commit() -> str:
    """Return the short hash of the commit, with `+` where the code has changes; or `unknown`."""
    root = Path(__file__).parents[1]
    changes = ["status", "--porcelain", "--untracked-files=no", "--", ".", f":!{_NAME}"]
    try:
        return _git(root, "rev-parse", "--short", "HEAD") + ("+" if _git(root, *changes) else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return "unknown"


_NAME = "benchmarks/looks.csv"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def configuration(config: TrainConfig) -> str:
    """Return the settings that differ from the defaults as `key=value`, but for the network."""
    defaults = TrainConfig().model_dump(mode="json")
    return " ".join(
        f"{key}={json.dumps(value, separators=(',', ':'), ensure_ascii=False)}"
        for key, value in config.model_dump(mode="json").items()
        if value != defaults[key] and key not in ("backbone", "weights", "device")
    )
