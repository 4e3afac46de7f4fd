"""What other systems send: orders become cases, images go to the case that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import open_order, open_orders, require_open, row_of
from allkit.clinic.fields import Added, add
from allkit.clinic.intake.incoming import Incoming, Refused
from allkit.clinic.intake.unpack import IncomingOrder, Unpacked
from allkit.clinic.orders import acknowledge, parse_orders
from allkit.clinic.orders.kinds import json_resource, kind_of_message
from allkit.clinic.records import Order, canonical, sha256_of
from allkit.clinic.reporting import seconds
from allkit.clinic.store import tables as t
from allkit.errors import AccessError, ClinicError, OrderError, StoreError

__all__ = ["Acknowledged", "Taken", "answer_message", "take", "take_bundle", "take_message"]

FRAME = b"\x0b\x1c \t\r\n"
"""Bytes around a message that are no part of it."""
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""")


class Acknowledged(NamedTuple):
    """The answer to an HL7 message: its code, and the bytes of the acknowledgement."""

    code: Literal["AA", "AE", "AR"]
    data: bytes


@dataclass(frozen=True)
class Taken:
    """What became of what came in.

    `added` are images that are new in their case, `again` those that were there, `refused` what was not
    taken, with the reason. `cases` are those of orders and `opened` the new ones among them. `stripped`
    holds for each image what was taken out of its file. `elsewhere` names images that other cases hold as
    well, with these cases, which should not be: an image is of one patient.
    """

    added: tuple[Added, ...] = ()
    again: tuple[Added, ...] = ()
    refused: tuple[Refused, ...] = ()
    cases: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    stripped: tuple[tuple[str, ...], ...] = ()
    elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()


def take_message(user: User, data: bytes) -> bytes:
    """Open the cases of an HL7 message with orders, all or none, and return its acknowledgement.

    AA: taken; the same message again changes nothing and gets the same answer, byte by byte. AR: refused,
    and the same message will be refused again. AE: the store failed; send it again. The text says why and
    holds no value of the message.
    """
    try:
        return answer_message(user, data).data
    except AccessError:
        text = "The receiver has no right to take orders. Tell its admin."
        return _acknowledged(user, data, "AR", text).data


def answer_message(user: User, data: bytes) -> Acknowledged:
    """Return the answer of `take_message` with its code. Raises `AccessError` for who may open no case."""
    try:
        if kind_of_message(data) == "fhir":
            raise OrderError("This is FHIR, not HL7 v2. Send it as application/fhir+json.")
        orders = _from(user, parse_orders(data))
        opened = open_orders(user, orders, sha256=sha256_of(data.strip(FRAME)))
    except AccessError:
        raise
    except OrderError as error:  # quotes nothing of the message
        return _acknowledged(user, data, "AR", str(error))
    except StoreError:
        text = "The store of the receiver cannot be used now. Send the message again later."
        return _acknowledged(user, data, "AE", text)
    except ClinicError as error:
        return _acknowledged(user, data, "AR", _QUOTED.sub("(...)", str(error)))
    at = seconds(opened.at)
    return Acknowledged("AA", acknowledge(data, code="AA", at=at))


def _acknowledged(user: User, data: bytes, code: Literal["AE", "AR"], text: str) -> Acknowledged:
    at = seconds(user.store.now())
    return Acknowledged(code, acknowledge(data, code=code, text=text, at=at))


def _from(user: User, orders: Iterable[Order]) -> list[Order]:
    """Return orders whose sender, where the message names none, is who brought them."""
    return [replace(order, sender=order.sender or user.name) for order in orders]


def take_bundle(user: User, data: bytes) -> list[tuple[str, bool]]:
    """Open the cases of a FHIR ServiceRequest, or of all in a Bundle: all or none.

    Returns the id of each case, and whether it is new. The same again changes nothing. Raises `OrderError`
    for what is no such resource, and `ClinicError` where an order contradicts its case.
    """
    resource = json_resource(data)
    if resource is None:
        raise OrderError(
            "The body is no FHIR resource in JSON of at most 1 MiB. Send a ServiceRequest, alone or in a "
            "Bundle."
        )
    orders = _from(user, parse_orders(data))
    # The order of keys and the blanks of JSON say nothing.
    return list(open_orders(user, orders, sha256=sha256_of(canonical(resource))).cases)


def take(user: User, incoming: Iterable[Unpacked], case: str | None = None) -> Taken:
    """Put what `intake.unpack.unpack` yields into cases, and return what became of each.

    An order opens its case; each order is for itself. An image goes into `case`, or into the case whose
    order number is the accession number of its DICOM; without either, and where the accession number leads
    to another case than `case`, it is refused. Raises `ClinicError` where `case` is unknown, signed or
    erased, and `AllkitError` where the store or the disk cannot be used; what came before is kept.
    """
    if case is not None:
        with user.read(*READERS, "system") as connection:
            require_open(row_of(connection, case), "another field")
    added: list[Added] = []
    refused: list[Refused] = []
    cases: dict[str, bool] = {}
    stripped: list[tuple[str, ...]] = []
    for one in incoming:
        try:
            if isinstance(one, Refused):
                refused.append(one)
            elif isinstance(one, IncomingOrder):
                # The file may come again in another form: its number tells, not the id of its message.
                id, new = open_order(user, replace(one.order, message=""))
                cases[id] = new or cases.get(id, False)
            else:
                added += add(user, _case_for(user, one, case), [one])
                stripped.append(one.stripped)
        except (AccessError, StoreError):
            raise
        except ClinicError as error:
            refused.append(Refused(one.name, f"{one.name}: {error}", "case"))
    return Taken(
        added=tuple(one for one in added if one.new),
        again=tuple(one for one in added if not one.new),
        refused=tuple(refused),
        cases=tuple(cases),
        opened=tuple(id for id, new in cases.items() if new),
        stripped=tuple(stripped),
        elsewhere=tuple((one.name, one.elsewhere) for one in added if one.elsewhere),
    )


def _case_for(user: User, image: Incoming, case: str | None) -> str:
    """Return the case that an image goes into. Raises `ClinicError` where that is none, or doubtful."""
    found: list[str] = []
    if image.accession:
        with user.read(*READERS, "system") as connection:
            where = t.cases.c.order_number == image.accession
            found = list(connection.scalars(sa.select(t.cases.c.id).where(where)))
    if case is not None:
        if found and case not in found:
            raise ClinicError(
                f"Its accession number is that of the case {found[0]}, not of {case}. Find out whose image "
                "it is."
            )
        return case
    if len(found) > 1:
        raise ClinicError(
            f"Its accession number is that of {len(found)} cases, of different issuers. Name the case."
        )
    if not found:
        raise ClinicError(
            "No case has its accession number. Send the order first, or name the case."
            if image.accession
            else "It has no accession number. Name the case that it belongs to."
        )
    return found[0]
