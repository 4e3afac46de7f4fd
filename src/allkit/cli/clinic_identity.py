"""`allkit clinic move, join, part, reassign`: when something turned out to be somebody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.clinic_options import As, Case, Field, Url, Where, Why, field_of, signed_in
from allkit.cli.progress import say

if TYPE_CHECKING:
    from allkit.clinic.identity import Reissued

__all__ = ["join", "move", "part", "reassign"]

Pseudonym = Annotated[str, typer.Argument(metavar="PATIENT", help="a patient's pseudonym")]
Into = Annotated[str, typer.Option(metavar="PATIENT", help="the patient it belongs to")]


def move(
    case: Case,
    field: Field,
    to: Annotated[str, typer.Option(metavar="CASE", help="the case it belongs to")],
    why: Why,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Put a field into another case. A signed case has its report withdrawn and is read again.

    Example:
    allkit clinic move LAB-17 --field 3 --to LAB-18 --why "wrong folder"
    """
    from allkit.clinic.identity import move_field
    from allkit.clinic.search import resolve

    with signed_in(store, url, as_) as user:
        field_id = field_of(user, resolve(user, case), field)
        _tell(move_field(user, field_id, to=resolve(user, to), why=why))


def reassign(
    case: Case, to: Into, why: Why, store: Where = None, url: Url = None, as_: As = None
) -> None:
    """Give a case to another patient. Its report is withdrawn and made again for that one.

    Example:
    allkit clinic reassign LAB-2026-00417 --to P-2 --why "tubes were mixed up"
    """
    from allkit.clinic.identity import reassign as do
    from allkit.clinic.search import resolve

    with signed_in(store, url, as_) as user:
        _tell([do(user, resolve(user, case), patient=to, why=why)])


def join(
    patient: Pseudonym, to: Into, why: Why, store: Where = None, url: Url = None, as_: As = None
) -> None:
    """Make one patient of two who are the same person.

    Example:
    allkit clinic join P-1 --to P-2 --why "one person, two numbers"
    """
    from allkit.clinic.identity import join_patients

    with signed_in(store, url, as_) as user:
        _tell(join_patients(user, patient, into=to, why=why))


def part(
    patient: Pseudonym,
    case: Annotated[
        list[str], typer.Option(metavar="CASE", help="a case that is not theirs; repeatable")
    ],
    why: Why,
    to: Annotated[
        str | None,
        typer.Option(metavar="PATIENT", help="whose it is", show_default="a new patient"),
    ] = None,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Make two patients of one: the named cases go to another.

    Example:
    allkit clinic part P-1 --case LAB-17 --why "two people, one number"
    """
    from allkit.clinic.identity import part_patients
    from allkit.clinic.search import resolve

    with signed_in(store, url, as_) as user:
        cases = [resolve(user, one) for one in case]
        _tell(part_patients(user, patient, cases=cases, to=to, why=why))


def _tell(made: list[Reissued]) -> None:
    for one in made:
        reports = ", ".join(f"version {r.version} {r.kind}" for r in one.reports)
        sign = "; it waits for a new signature" if one.to_sign else ""
        say(f"{one.case}: {reports or 'no report was out'}{sign}.")
