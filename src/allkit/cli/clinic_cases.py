"""`allkit clinic add, list, show, assign`: cases and their fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.clinic_options import (
    As,
    Case,
    Url,
    Where,
    Why,
    print_json,
    signed_in,
    table,
)
from allkit.cli.options import AsJson
from allkit.cli.progress import put, say
from allkit.clinic.records import STATES, SpecimenKind
from allkit.errors import AllkitError, ClinicError, ConfigError

if TYPE_CHECKING:
    from allkit.clinic.exchange import Taken
    from allkit.clinic.view import CaseView, FieldView

__all__ = ["add", "assign", "list_cases", "lower", "show"]


def add(
    images: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="images, DICOM, zips, folders, orders")
    ],
    case: Annotated[
        str | None, typer.Option(help="a case that is there; otherwise a new one")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="the patient's pseudonym", show_default="a random one")
    ] = None,
    specimen: Annotated[SpecimenKind | None, typer.Option(help="what was taken")] = None,
    collected: Annotated[str | None, typer.Option(help="its date, as 2026-01-31")] = None,
    stain: Annotated[str | None, typer.Option(help="its stain")] = None,
    specimen_number: Annotated[
        str | None, typer.Option(help="its number in the laboratory")
    ] = None,
    order: Annotated[str | None, typer.Option(help="the order number")] = None,
    issuer: Annotated[str, typer.Option(help="who gave the order number")] = "",
    second_reader: Annotated[
        bool | None, typer.Option(help="whether two read it", show_default="the clinic's setting")
    ] = None,
    blind_first: Annotated[
        bool | None,
        typer.Option(help="hide the model until it is read", show_default="the clinic's setting"),
    ] = None,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Put images into a new case or into one that is there; orders open the cases they ask for.

    What identifies a patient is stripped from the images, and what was stripped
    is listed. What was refused is named; exit status 1 then.

    Example:
    allkit clinic add smears --patient P-1 --specimen blood
    allkit clinic add more.zip --case LAB-2026-00417
    """
    from allkit.clinic.exchange import take
    from allkit.clinic.intake.unpack import Incoming, unpack
    from allkit.clinic.search import resolve

    about = (patient, specimen, collected, stain, specimen_number, order)
    if case is not None and any(value is not None for value in about):
        raise ConfigError("--case names a case that is there; leave out what describes a new one.")
    for path in images:
        if not path.exists():
            raise ConfigError(f"{path} does not exist. Check the path.")
    with signed_in(store, url, as_) as user:
        found = [one for path in images for one in unpack(path)]
        images_there = [one for one in found if isinstance(one, Incoming)]
        if case is not None:
            to: str | None = resolve(user, case)
        elif images_there and (specimen or not all(one.accession for one in images_there)):
            from allkit.clinic.cases import create
            from allkit.clinic.records import Identifier, Specimen

            if specimen is None:
                raise ConfigError("A new case needs --specimen blood or --specimen marrow.")
            numbers = {one.accession for one in images_there if one.accession}
            number = order if order is not None or len(numbers) != 1 else numbers.pop()
            to = create(
                user,
                specimen_=Specimen(specimen, collected, stain, specimen_number),
                patient=patient,
                order=None if number is None else Identifier(number, issuer),
                second_reader=second_reader,
                blind_first=blind_first,
            )
        else:
            to = None
        try:
            taken = take(user, found, case=to)
        except AllkitError:
            if to is not None:  # what was added before is kept
                say(f"The case is {to}. The same files with --case {to} add the rest.")
            raise
    _tell(taken, to)


def _tell(taken: Taken, case: str | None) -> None:
    for one in dict.fromkeys([*([] if case is None else [case]), *taken.cases]):
        put(one + "\n")
    say(f"{len(taken.added)} fields added, {len(taken.again)} were there before.")
    stripped = sorted({name for one in taken.stripped for name in one})
    if stripped:
        say(f"Stripped from the files: {', '.join(stripped)}.")
    for name, cases in taken.elsewhere:
        say(f"Warning: {name} is also in the case {', '.join(cases)}. An image is of one patient.")
    for refused in taken.refused:
        say(f"Refused: {refused.name}: {refused.message}")
    if taken.refused:
        raise typer.Exit(1)


def list_cases(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="the beginning of a number or pseudonym")
    ] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE", help="new, reading, second, signed, amended or erased; repeatable"
        ),
    ] = None,
    specimen: Annotated[SpecimenKind | None, typer.Option(help="only these")] = None,
    reader: Annotated[
        str | None, typer.Option(help="only the cases of NAME", metavar="NAME")
    ] = None,
    since: Annotated[str | None, typer.Option(help="opened on this day or later")] = None,
    until: Annotated[str | None, typer.Option(help="opened on this day or earlier")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="rows at most")] = 50,
    after: Annotated[str | None, typer.Option(help="where the next page begins")] = None,
    as_json: AsJson = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """List cases: the urgent ones first, then the oldest.

    Example:
    allkit clinic list 00417
    allkit clinic list --status new --status reading
    """
    from allkit.clinic.access import person
    from allkit.clinic.search import Filter, find

    unknown = [one for one in status or () if one not in STATES]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no state of a case. There are {', '.join(STATES)}.")

    with signed_in(store, url, as_) as user:
        who = None
        if reader is not None:
            with user.read("reader", "signer", "admin", "system") as connection:
                who = person(connection, reader).id
        wanted = Filter(
            text,
            tuple(status or ()),
            specimen=specimen,
            reader=who,
            since=since,
            until=until,
        )
        page = find(user, wanted, after=after, limit=limit)
    if as_json:
        print_json({"cases": page.rows, "next": page.next})
        return
    rows = [
        (
            "!" if row.priority else "",
            row.id,
            row.order or "",
            row.pseudonym or "",
            row.specimen,
            f"{row.status}, order cancelled" if row.cancelled else row.status,
            f"{row.review} of {row.fields}",
            row.reader or "",
        )
        for row in page.rows
    ]
    if rows:
        head = ("", "case", "order", "patient", "specimen", "status", "to read", "reader")
        put(table(rows, head))
    else:
        say("No case is found.")
    if page.next is not None:
        say(f"There are more: --after '{page.next}'")


def show(
    case: Case, as_json: AsJson = False, store: Where = None, url: Url = None, as_: As = None
) -> None:
    """Show a case: the model's answer for the slide first, then its fields.

    Example:
    allkit clinic show LAB-2026-00417
    """
    from allkit.clinic.search import previous, resolve
    from allkit.clinic.view import open_case

    with signed_in(store, url, as_) as user:
        id = resolve(user, case)
        view, before = open_case(user, id), previous(user, id)
    if as_json:
        print_json({"case": view, "previous": before})
        return
    for text in _lines(view):
        put(text + "\n")
    if before:
        put("Earlier samples of the patient:\n")
        for row in before:
            put(f"  {row.id}  {row.specimen}  {row.collected or '?'}  {row.status}\n")


def _lines(view: CaseView) -> list[str]:
    about = [view.specimen.kind, view.specimen.collected, view.specimen.stain, view.specimen.number]
    order = "" if view.order is None else f"  order {view.order.value}"
    lines = [
        f"{view.id}  {view.status}{'  URGENT' if view.priority else ''}",
        f"Patient {view.patient or '(erased)'}{order}{'  CANCELLED' if view.order_cancelled else ''}",
        f"Specimen: {', '.join(part for part in about if part)}",
    ]
    if view.reader is not None:
        second = "" if view.second is None else f", second reader {view.second.display}"
        lines.append(f"Read by {view.reader.display}{second}")
    if view.model is not None:
        lines.append(
            f"Model {view.model.name}, {view.model.sha256[:12]} (research use, preliminary)"
        )
        lines += [f"  limit: {limit}" for limit in view.model.limits]
    lines += _slide(view)
    if view.job is not None and view.job["state"] != "done":
        job = view.job
        error = f": {job['error']}" if job["error"] else ""
        lines.append(f"Answers: {job['state']}, {job['done']} of {job['total']}{error}")
    rows = [_row(field) for field in view.fields]
    if rows:
        lines += table(rows, ("#", "field", "model", "", "reader", "second")).splitlines()
    lines += [f"Note {time[:16]} {who.display}: {text}" for time, who, text, _ in view.notes]
    return lines


def _slide(view: CaseView) -> list[str]:
    from allkit.clinic.reports.wording import probability

    slide = view.slide
    if slide is None:
        return []
    lines = []
    if slide.coarse is not None:
        lines.append(
            f"Slide: {slide.coarse} ({slide.coarse_verdict}, {probability(slide.coarse_probability)})"
        )
    if slide.label is not None:
        lines.append(
            f"Class: {slide.label} ({slide.verdict}, {probability(slide.probability)}), "
            f"on {slide.used} of {slide.fields} fields"
        )
    return lines + [f"  {reason}" for reason in slide.reasons]


def _row(field: FieldView) -> tuple[str, ...]:
    from allkit.clinic.reports.wording import probability

    answer = field.answer
    said = "hidden" if field.hidden else ""
    verdict = ""
    if answer is not None:
        verdict = answer.verdict
        if verdict in ("accepted", "review"):
            said = f"{answer.label} {probability(answer.probability)}"
    first, second = ("" if label is None else label.label for label in (field.first, field.second))
    return str(field.number), field.name, said, verdict, first, second


def assign(
    case: Case,
    reader: Annotated[str | None, typer.Option(metavar="NAME", help="who reads it")] = None,
    second: Annotated[str | None, typer.Option(metavar="NAME", help="who reads it again")] = None,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Give a case to a reader, to a second reader, or to both.

    Example:
    allkit clinic assign LAB-2026-00417 --reader berg --second lind
    """
    from allkit.clinic.cases import assign as give
    from allkit.clinic.search import resolve

    if reader is None and second is None:
        raise ClinicError("Give --reader NAME, --second NAME, or both.")
    with signed_in(store, url, as_) as user:
        give(user, resolve(user, case), reader=reader, second=second)


def lower(case: Case, why: Why, store: Where = None, url: Url = None, as_: As = None) -> None:
    """Take a case from the top of the worklist, where an accepted malignant answer brought it.

    Example:
    allkit clinic lower LAB-2026-00417 --why "known patient, seen today"
    """
    from allkit.clinic.cases import lower_priority
    from allkit.clinic.search import resolve

    with signed_in(store, url, as_) as user:
        lower_priority(user, resolve(user, case), why=why)
