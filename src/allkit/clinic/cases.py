"""Cases: one specimen of one patient; their states, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from allkit.clinic import access
from allkit.clinic.access import READERS, User
from allkit.clinic.patients import identifiers_of, patient_for
from allkit.clinic.records import Identifier, Order, Specimen, Status, sha256_of
from allkit.clinic.search import write_terms
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.text import identifier, note, specimen
from allkit.errors import ClinicError

__all__ = [
    "MOVES",
    "Opened",
    "assign",
    "change_specimen",
    "create",
    "lower_priority",
    "move",
    "open_order",
    "open_orders",
    "raise_priority",
    "require_open",
    "row_of",
]

MOVES: Mapping[Status, tuple[Status, ...]] = {
    "new": ("reading", "erased"),
    "reading": ("second", "signed", "amended", "erased"),
    "second": ("reading", "signed", "amended", "erased"),
    # Back to reading: opened again, with a reason; what comes of it is an amended case.
    "signed": ("reading", "erased"),
    "amended": ("reading", "erased"),
    "erased": (),
}
"""The states of a case, and those that may follow each."""
SIGNED = ("signed", "amended")


def create(
    user: User,
    *,
    specimen_: Specimen,
    patient: str | None = None,
    identifiers: Sequence[Identifier] = (),
    order: Identifier | None = None,
    second_reader: bool | None = None,
    blind_first: bool | None = None,
) -> str:
    """Open a case and return its id.

    `patient` is a pseudonym, known or new; without one the patient is found by `identifiers`, or made. The
    same order number comes once: raises `ClinicError` where there is a case of that number. The laboratory's
    settings say whether it is read blind first and by two, unless that is given.
    """
    with user.change(*READERS, "system") as change:
        return create_in(
            change,
            specimen_=specimen_,
            patient=patient,
            identifiers=identifiers,
            order=order,
            second_reader=second_reader,
            blind_first=blind_first,
        )


def create_in(
    change: Change,
    *,
    specimen_: Specimen,
    patient: str | None = None,
    identifiers: Sequence[Identifier] = (),
    order: Identifier | None = None,
    second_reader: bool | None = None,
    blind_first: bool | None = None,
) -> str:
    """Open a case within a transaction; see `create`."""
    taken = specimen(specimen_, change.clock)
    number = None if order is None else identifier(order, "order number")
    if number is not None:
        known = by_order(change.connection, number)
        if known is not None:
            raise ClinicError(
                f"The order {number.value!r}{_by(number)} has a case already ({known.id}). Add the fields "
                "to that case; another specimen needs an order number of its own."
            )
    of = patient_for(change, patient, identifiers)
    settings = change.store.setting
    id = new_id()
    change.insert(
        t.cases,
        id=id,
        patient_id=of,
        order_number=None if number is None else number.value,
        order_issuer=None if number is None else number.issuer,
        specimen=taken.kind,
        collected=taken.collected,
        stain=taken.stain,
        specimen_number=taken.number,
        status="new",
        priority=0,
        review=0,
        blind=settings("blind_first", change.connection) if blind_first is None else blind_first,
        second_wanted=(
            settings("second_reader", change.connection) if second_reader is None else second_reader
        ),
        created=change.now,
        changed=change.now,
    )
    write_terms(change, id)
    change.log("case.created", id, patient=of)
    return id


def _by(number: Identifier) -> str:
    return f" of {number.issuer!r}" if number.issuer else ""


def by_order(connection: sa.Connection, number: Identifier) -> sa.Row[Any] | None:
    """Return the row of the case with an order number, or `None`."""
    return connection.execute(
        sa.select(t.cases).where(
            t.cases.c.order_number == number.value, t.cases.c.order_issuer == number.issuer
        )
    ).first()


class Opened(NamedTuple):
    """The cases of the orders of one message, each with whether it is new, and when it was first taken."""

    cases: tuple[tuple[str, bool], ...]
    at: str


def open_order(user: User, order: Order, *, sha256: str = "") -> tuple[str, bool]:
    """Open the case that an order asks for; return its id, and whether it is new. See `open_orders`."""
    return open_orders(user, [order], sha256=sha256).cases[0]


def open_orders(user: User, orders: Sequence[Order], *, sha256: str = "") -> Opened:
    """Open the cases that the orders of one message ask for: all of them or none.

    `sha256` is that of the message. The same message, and the same order again, change nothing. Raises
    `ClinicError` for a message id that came with another content, and where an order names another
    patient or specimen than the case of its number has.
    """
    first = orders[0]
    with user.change("system", *READERS) as change:
        known = _known_message(change, first, sha256)
        if known is not None:
            numbers = [identifier(order.number, "order number") for order in orders]
            rows = [by_order(change.connection, number) for number in numbers]
            ids = dict.fromkeys([known.case_id, *(row.id for row in rows if row is not None)])
            return Opened(tuple((id, False) for id in ids), known.at)
        opened = tuple(_open(change, order) for order in orders)
        if first.message:
            change.insert(
                t.messages,
                sender=first.sender,
                control=first.message,
                case_id=opened[0][0],
                sha256=sha256,
                at=change.now,
            )
            for id, _ in opened:
                change.log("order.received", id, sha256=sha256)
        return Opened(opened, change.now)


def _known_message(change: Change, order: Order, sha256: str) -> sa.Row[Any] | None:
    """Return the row of a message that came before, also when its case was erased since."""
    if not order.message:
        return None
    names = [order.message, sha256_of(order.message)]  # what `erasure` leaves of an id
    known = change.first(
        sa.select(t.messages).where(
            t.messages.c.sender == order.sender, t.messages.c.control.in_(names)
        )
    )
    if known is not None and known.sha256 != sha256:
        raise ClinicError(
            f"The message {order.message!r} of {order.sender!r} came before with another content. "
            "Send what is new under an id of its own."
        )
    return known


def _open(change: Change, order: Order) -> tuple[str, bool]:
    number = identifier(order.number, "order number")
    row = by_order(change.connection, number)
    if row is None and order.action == "cancel":
        raise ClinicError(f"The order {number.value!r} is cancelled, but has no case here.")
    if row is None:
        return _opened(change, order, number), True
    _require_same(change.connection, row, order)
    if order.action == "cancel" and row.order_state != "cancelled":
        change.update(t.cases, row.id, order_state="cancelled", changed=change.now)
        change.log("order.cancelled", row.id)
    if order.action != "cancel":
        _complete(change, row, order)
    return row.id, False


def _complete(change: Change, row: sa.Row[Any], order: Order) -> None:
    """Add to a case what its order says now and did not say before; a cancelled order stands again."""
    if row.order_state == "cancelled":
        change.update(t.cases, row.id, order_state=None, changed=change.now)
        change.log("order.stands_again", row.id)
    if row.status in (*SIGNED, "erased"):
        return
    taken = None if order.specimen is None else specimen(order.specimen, change.clock)
    said = {} if taken is None else {
        "collected": taken.collected, "stain": taken.stain, "specimen_number": taken.number
    }  # fmt: skip
    new = {name: value for name, value in said.items() if value and not getattr(row, name)}
    known = identifiers_of(change.connection, row.patient_id)
    numbers = [one for one in order.patient if one not in known]
    if numbers:
        pseudonym = change.connection.scalar(
            sa.select(t.patients.c.pseudonym).where(t.patients.c.id == row.patient_id)
        )
        patient_for(change, pseudonym, numbers)
    if new:
        change.update(t.cases, row.id, changed=change.now, **new)
        change.log("order.changed", row.id, added=sorted(new))
    if new or numbers:
        write_terms(change, row.id)


def _opened(change: Change, order: Order, number: Identifier) -> str:
    if order.specimen is None:
        raise ClinicError(
            f"The order {number.value!r} does not say whether its specimen is blood or marrow. Send the "
            "specimen (SPM-4, OBR-15 or Specimen.type), or open the case by hand."
        )
    return create_in(
        change, specimen_=order.specimen, identifiers=order.patient, order=order.number
    )


def _require_same(connection: sa.Connection, row: sa.Row[Any], order: Order) -> None:
    """Raise `ClinicError` where an order contradicts the case that has its number."""
    if row.patient_id is None:
        raise ClinicError(f"The case of the order {row.order_number!r} was erased.")
    known = set(identifiers_of(connection, row.patient_id))
    if known and order.patient and not known & set(order.patient):
        raise ClinicError(
            f"The order {row.order_number!r} belongs to another patient here than the message says. Nothing "
            "was changed; find out which of them is right."
        )
    taken = order.specimen
    if taken is None:
        return
    theirs = (taken.kind, taken.number, taken.collected)
    for what, ours, their in zip(
        ("kind", "number", "date"),
        (row.specimen, row.specimen_number, row.collected),
        theirs,
        strict=True,
    ):
        if ours and their and ours != their:
            raise ClinicError(
                f"The order {row.order_number!r} has a specimen of another {what} here ({ours!r}; the "
                f"message says {their!r}). A second specimen needs an order number of its own."
            )


def row_of(connection: sa.Connection, case: str) -> sa.Row[Any]:
    """Return the row of a case by its id. Raises `ClinicError` where there is none."""
    row = connection.execute(sa.select(t.cases).where(t.cases.c.id == case)).first()
    if row is None:
        raise ClinicError(f"There is no case {case[:40]!r}. Find it with: allkit clinic list")
    return row


def require_open(row: sa.Row[Any], what: str) -> None:
    """Raise `ClinicError` where a case is signed or erased, so that `what` must not be done to it."""
    if row.status == "erased":
        raise ClinicError(f"The case {row.id} was erased.")
    if row.status in SIGNED:
        raise ClinicError(
            f"The case {row.id} is {row.status}: {what} needs it opened again, with a reason "
            "(allkit clinic reopen)."
        )


def move(change: Change, row: sa.Row[Any], to: Status, **detail: Any) -> None:
    """Bring a case into another state. Raises `ClinicError` where that may not follow."""
    if row.status == to:
        return
    if to not in MOVES[row.status]:
        raise ClinicError(f"The case {row.id} is {row.status}; it cannot become {to} from there.")
    change.update(t.cases, row.id, status=to, changed=change.now)
    change.log(f"case.{to}", row.id, **detail)


def assign(user: User, case: str, *, reader: str | None = None, second: str | None = None) -> None:
    """Give a case to a reader, to a second reader, or to both, by their names.

    Raises `ClinicError` where one has no role to read, or both are the same person.
    """
    with user.change(*READERS, "admin") as change:
        row = row_of(change.connection, case)
        require_open(row, "another reader")
        people = {"reader_id": reader, "second_id": second}
        values = {
            key: _reader(change.connection, name)
            for key, name in people.items()
            if name is not None
        }
        both = {"reader_id": row.reader_id, "second_id": row.second_id} | values
        if both["reader_id"] is not None and both["reader_id"] == both["second_id"]:
            raise ClinicError("The second reader must be another person than the first.")
        # Whoever asks for a second reader by name wants the case to be read twice.
        wanted = row.second_wanted or second is not None
        change.update(t.cases, case, second_wanted=wanted, changed=change.now, **values)
        change.log("case.assigned", case, **values)


def _reader(connection: sa.Connection, name: str) -> str:
    found = access.person(connection, name)
    if not found.active or not set(found.roles) & set(READERS):
        raise ClinicError(f"{name} has no role to read cases. Choose a reader or a signer.")
    return found.id


def change_specimen(user: User, case: str, taken: Specimen, *, why: str) -> None:
    """Correct what is said of the specimen of an open case, with a reason."""
    with user.change(*READERS) as change:
        row = row_of(change.connection, case)
        require_open(row, "another specimen")
        good = specimen(taken, change.clock)
        change.update(
            t.cases,
            case,
            specimen=good.kind,
            collected=good.collected,
            stain=good.stain,
            specimen_number=good.number,
            changed=change.now,
        )
        write_terms(change, case)
        change.log("case.specimen", case, why=note(why, "reason", optional=False), case=case)


def raise_priority(change: Change, row: sa.Row[Any], because: str) -> None:
    """Bring a case to the top of the worklist; `because` is a fixed word."""
    if row.priority < 1:
        change.update(t.cases, row.id, priority=1)
        change.log("case.raised", row.id, because=because)


def lower_priority(user: User, case: str, *, why: str) -> None:
    """Take a case from the top of the worklist: by a person and with a reason, never by the program."""
    with user.change(*READERS) as change:
        row = row_of(change.connection, case)
        if row.priority > 0:
            change.update(t.cases, case, priority=0)
            change.log("case.lowered", case, why=note(why, "reason", optional=False), case=case)
