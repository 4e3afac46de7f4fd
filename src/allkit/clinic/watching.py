"""Taking what is put into a watched folder: images into their cases, orders as new cases.

A subfolder is named like a case or its order number, and what lies in it belongs to that case. A file in
the folder itself is an order, or a DICOM that names its order (accession number). A file is moved to
`taken` when all that it holds is in the database, and not before; one that cannot be taken is moved to
`refused`, with a text beside it that says why and what to do. While the database is away, or the disk full,
files stay where they are.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from allkit.clinic import cases, fields
from allkit.clinic.access import User, worker
from allkit.clinic.intake.incoming import Incoming, Refused
from allkit.clinic.intake.unpack import IncomingOrder, unpack
from allkit.clinic.intake.watch import Seen, case_of, set_aside, settled
from allkit.clinic.orders.kinds import MAX_ORDER_BYTES, kind_of_message
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.errors import AccessError, AllkitError, ClinicError, ConfigError, OrderError, StoreError

__all__ = ["watch"]

POLL = 2.0
"""Seconds between two looks at the folder."""


def watch(
    store: Store,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    poll: float = POLL,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Take what is put into a folder, in the name of the program, until `stop` is set.

    `poll` is in seconds; a file is taken when it did not change between two looks. `tell` is told what keeps
    files from being taken (a database that is away); it is tried again. Raises `ConfigError` where there is
    no such folder at the start.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. Make it first, or name another one.")
    stop = stop or threading.Event()
    seen: Seen = {}
    while not stop.is_set():
        look(store, folder, seen, tell=tell, stop=stop)
        stop.wait(poll)


def look(
    store: Store,
    folder: Path,
    seen: Seen,
    *,
    tell: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Take the files that did not change since the last look; return how many were moved.

    After a failure that is none of the files' own, what is left is tried at the next look.
    """
    # Orders first: what comes with an order needs its case.
    ready = sorted(settled(folder, seen, tell=tell), key=lambda path: not _is_order(path))
    moved = 0
    for number, path in enumerate(ready):
        if stop is not None and stop.is_set():
            break
        try:
            moved += _take(worker(store), folder, path)
        except (AllkitError, OSError) as error:
            # Whatever is refused for the file's own sake was set aside before.
            for left in ready[number:]:
                seen.pop(left, None)  # given again, once it has been seen twice
            if tell is not None:
                tell(f"{len(ready) - number} files in {folder} wait: {error}")
            break
    return moved


def _is_order(path: Path) -> bool:
    try:
        small = path.stat().st_size <= MAX_ORDER_BYTES
        return small and kind_of_message(path.read_bytes()) is not None
    except OSError:  # it is told when it is opened to be taken
        return False


@dataclass
class _Result:
    """What became of the parts of a file, in sentences."""

    taken: int = 0
    refused: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def _take(user: User, folder: Path, path: Path) -> bool:
    """Take all that a file holds and move it; return whether it was still there."""
    result = _Result()
    named = case_of(folder, path)
    for part in unpack(path):
        try:
            if isinstance(part, Refused):
                # Helper files of other programs, in a zip, are no fault of who sent it.
                (result.told if part.code == "left_out" else result.refused).append(part.message)
            elif isinstance(part, IncomingOrder):
                # The order's number tells a resend: one message may hold several orders.
                cases.open_order(user, replace(part.order, message=""))
                result.taken += 1
            else:
                _add(user, named, part, result)
        except (StoreError, AccessError):
            raise
        except (ClinicError, OrderError) as error:
            result.refused.append(f"{part.name}: {error}")
    if not (result.refused or result.taken):
        result.refused = result.told or [f"{path.name} holds nothing that could be taken."]
    outcome = "refused" if result.refused else "taken"
    return set_aside(path, folder, outcome, why=_words(result)) is not None  # type: ignore[arg-type]  # one of the two


def _words(result: _Result) -> str:
    lines = [*result.refused, *(text for text in result.told if text not in result.refused)]
    if result.refused and result.taken:
        lines.insert(0, f"{result.taken} parts of this file were taken, these were not:")
        lines.append(
            "Put these right and put the file in again; what was taken is not taken twice."
        )
    return "\n".join(lines)


def _add(user: User, named: str, image: Incoming, result: _Result) -> None:
    with user.read("system") as connection:
        case = _case(connection, named, image)
    (added,) = fields.add(user, case, [image])
    result.taken += 1
    if added.elsewhere:
        result.told.append(
            f"{image.name}: the same image is also in the case {', '.join(added.elsewhere)}. Find out "
            "whose it is."
        )


def _case(connection: sa.Connection, named: str, image: Incoming) -> str:
    """Return the case of an image. Raises `ClinicError` where it is not known, or two are named."""
    if not named and not image.accession:
        raise ClinicError(
            "It does not say whose it is. Put it into a folder that is named like its order number or "
            "case, in the watched folder."
        )
    if not named:
        return _found(connection, image.accession, "The accession number of the DICOM")
    case = _found(connection, named, "The name of the folder")
    if image.accession:
        number = connection.scalar(sa.select(t.cases.c.order_number).where(t.cases.c.id == case))
        if number is not None and number != image.accession:
            raise ClinicError(
                f"The folder says {named!r}, but the DICOM belongs to another order. Find out which is "
                "right, and put it into the folder of that one."
            )
    return case


def _found(connection: sa.Connection, text: str, what: str) -> str:
    """Return the case with an id or an order number: only the whole number, never its beginning."""
    wanted = unicodedata.normalize("NFC", text).strip()
    ids = connection.scalars(
        sa.select(t.cases.c.id).where(
            (t.cases.c.id == wanted.upper()) | (t.cases.c.order_number == wanted)
        )
    ).all()
    if len(ids) == 1:
        return str(ids[0])
    if ids:
        raise ClinicError(
            f"{what} ({wanted[:60]!r}) is the number of several cases: {', '.join(sorted(ids))}. Name the "
            "folder like one of these."
        )
    raise ClinicError(
        f"{what} ({wanted[:60]!r}) is no case and no order number here. Open the case first, or name the "
        "folder like one that there is; then put the file in again."
    )
