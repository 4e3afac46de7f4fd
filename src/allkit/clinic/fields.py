"""Fields: images that are put into a case, each once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import require_open, row_of
from allkit.clinic.jobs import enqueue
from allkit.clinic.records import canonical
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.text import LINE
from allkit.clinic.view import recount
from allkit.errors import ClinicError

if TYPE_CHECKING:
    from allkit.clinic.intake.incoming import Incoming

__all__ = ["Added", "add", "image_of", "next_number", "sha256_of_field"]


@dataclass(frozen=True)
class Added:
    """What became of an image: its field, whether it is new in the case, and the other cases that hold the
    same image, which should not be: an image is of one patient."""

    field: str
    name: str
    new: bool
    elsewhere: tuple[str, ...] = ()


def add(user: User, case: str, images: Iterable[Incoming]) -> list[Added]:
    """Put images into a case, each with the job that answers it; the same image is there once.

    An image is acknowledged when it is on the disk and its row is written. Raises `ClinicError` where the
    case is signed or erased, and `AllkitError` where the disk is full; what came before is kept.
    """
    added = []
    for image in images:
        # The file first: a row never names a file that is not there.
        sha256 = user.store.blobs.put(image.data)
        with user.change(*READERS, "system") as change:
            added.append(_insert(change, case, image, sha256))
    return added


def _insert(change: Change, case: str, image: Incoming, sha256: str) -> Added:
    row = row_of(change.connection, case)
    held = change.connection.execute(
        sa.select(t.fields.c.id, t.fields.c.case_id).where(t.fields.c.sha256 == sha256)
    ).all()
    elsewhere = tuple(sorted(r.case_id for r in held if r.case_id != case))
    for one in held:
        if one.case_id == case:
            return Added(one.id, image.name, new=False, elsewhere=elsewhere)
    require_open(row, "another field")
    if change.first(sa.select(t.blobs.c.sha256).where(t.blobs.c.sha256 == sha256)) is None:
        change.insert(
            t.blobs, sha256=sha256, size=len(image.data), media=image.media, created=change.now
        )
        # A case that was erased in between took the file with it.
        change.store.blobs.put(image.data)
    id = new_id()
    change.insert(
        t.fields,
        id=id,
        case_id=case,
        sha256=sha256,
        number=next_number(change, case),
        name=image.name[-LINE:],
        width=image.width,
        height=image.height,
        micrometres_per_pixel=image.micrometres_per_pixel,
        stripped=canonical(list(image.stripped)),
        stain=canonical(list(image.stain)),
        added=change.now,
    )
    change.log("field.added", id, of=case, sha256=sha256, elsewhere=list(elsewhere))
    enqueue(change, case)
    recount(change, case)
    return Added(id, image.name, new=True, elsewhere=elsewhere)


def next_number(change: Change, case: str) -> int:
    """Return the number that the next field of a case gets."""
    last = change.connection.scalar(
        sa.select(sa.func.max(t.fields.c.number)).where(t.fields.c.case_id == case)
    )
    return 1 + (last or 0)


def sha256_of_field(user: User, field: str, *, polling: bool = False) -> str:
    """Return the hash of a field's image; `polling` is that of `User.read`."""
    with user.read(*READERS, polling=polling) as connection:
        sha256 = connection.scalar(sa.select(t.fields.c.sha256).where(t.fields.c.id == field))
    if sha256 is None:
        raise ClinicError(f"There is no field {field[:40]!r}. Open the case again.")
    return str(sha256)


def image_of(user: User, field: str) -> bytes:
    """Return the image file of a field. Raises `StoreError` where it is gone or was altered."""
    return user.store.blobs.get(sha256_of_field(user, field))
