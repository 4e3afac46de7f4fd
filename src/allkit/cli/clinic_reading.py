"""`allkit clinic read, sign, reopen, withdraw, report`: from the reader's class to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from allkit.cli.clinic_options import As, Case, Out, Url, Where, Why, field_of, signed_in
from allkit.cli.options import Overwrite
from allkit.cli.progress import put, say
from allkit.errors import ConfigError
from allkit.files import require_free, write_whole

__all__ = ["read", "reopen", "report", "sign", "withdraw"]

FormatName = Literal["pdf", "csv", "xlsx", "fhir", "hl7", "sr"]


def read(
    case: Case,
    field: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="the field's number in the case, from 1")
    ] = None,
    label: Annotated[str | None, typer.Option(help="a class, `other` or `inadequate`")] = None,
    why: Annotated[
        str, typer.Option(help="the reason, where the model accepted another class")
    ] = "",
    accept: Annotated[bool, typer.Option("--accept", help="the model's class is right")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="take the last class back")] = False,
    note: Annotated[str | None, typer.Option(help="a note on the field, or on the case")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="say that you have read it all")] = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Read a field: give it a class, accept the model's, take it back, write a note.

    Example:
    allkit clinic read LAB-2026-00417 --field 3 --label Pro --why "no granules"
    allkit clinic read LAB-2026-00417 --finish
    """
    from allkit.clinic import reading
    from allkit.clinic.search import resolve

    if sum((label is not None, accept, undo, note is not None, finish)) != 1:
        raise ConfigError("Give one of --label, --accept, --undo, --note and --finish.")
    if field is None and note is None and not finish:
        raise ConfigError("Say which field with --field NUMBER.")
    with signed_in(store, url, as_) as user:
        id = resolve(user, case)
        if finish:
            say(f"The case is now: {reading.finish(user, id)}.")
            return
        of = None if field is None else field_of(user, id, field)
        if note is not None:
            reading.add_note(user, note, case=id, field=of)
        elif label is not None:
            reading.relabel(user, str(of), label, why=why)
        elif accept:
            reading.accept(user, str(of))
        else:
            reading.undo(user, str(of))
    say("Noted.")


def sign(
    case: Case,
    result: Annotated[str, typer.Option(help="your result: a class, `other` or `inadequate`")],
    comment: Annotated[str, typer.Option(help="your words in the report")] = "",
    refused: Annotated[
        int, typer.Option(min=0, help="how many fields without a usable answer you have seen named")
    ] = 0,
    limits_read: Annotated[
        bool, typer.Option("--limits-read", help="you have read the limits of the model")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="only say what stands against it")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask again")] = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Sign a case: its report is frozen, and any later one is a correction.

    The result is yours; the model's answers stay preliminary. Exit status 1 where
    --check finds something that stands against it.

    Example:
    allkit clinic sign LAB-2026-00417 --result Pro --refused 1 --limits-read
    """
    from allkit.clinic import signing
    from allkit.clinic.search import resolve

    statement = signing.Statement(result, comment, refused=refused, limits_read=limits_read)
    with signed_in(store, url, as_) as user:
        id = resolve(user, case)
        if check:
            against = signing.gate(user, id, statement)
            for text in against:
                put(text + "\n")
            if against:
                raise typer.Exit(1)
            say("Nothing stands against it.")
            return
        if not yes:
            typer.confirm(
                f"Sign the case {id} as {user.person.display} with the result {result}?", abort=True
            )
        user.confirm()
        signed = signing.sign(user, id, statement)
    say(f"Signed: report {signed.version} ({signed.kind}), hash {signed.sha256}.")
    say(f"Write it with: allkit clinic report {id} --format pdf --out report.pdf")


def reopen(case: Case, why: Why, store: Where = None, url: Url = None, as_: As = None) -> None:
    """Open a signed case again. Its report stays valid until the next one is signed.

    Example:
    allkit clinic reopen LAB-2026-00417 --why "flow cytometry came"
    """
    from allkit.clinic.search import resolve
    from allkit.clinic.signing import reopen as do

    with signed_in(store, url, as_) as user:
        do(user, resolve(user, case), why=why)
    say("It is read again.")


def withdraw(case: Case, why: Why, store: Where = None, url: Url = None, as_: As = None) -> None:
    """Withdraw a report that must not be used any more; whoever gets results by HL7 is told.

    Example:
    allkit clinic withdraw LAB-2026-00417 --why "wrong patient"
    """
    from allkit.clinic.search import resolve
    from allkit.clinic.signing import withdraw as do

    with signed_in(store, url, as_) as user:
        gone = do(user, resolve(user, case), why=why)
    say(f"Report {gone.replaces} is withdrawn by version {gone.version}; the case is read again.")


def report(
    case: Case,
    format: Annotated[FormatName, typer.Option(help="its form")],
    out: Out,
    version: Annotated[
        int | None, typer.Option(help="of the report", show_default="the newest")
    ] = None,
    preliminary: Annotated[
        bool, typer.Option("--preliminary", help="of the case as it stands, without a signature")
    ] = False,
    overwrite: Overwrite = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Write a report. The same report gives the same bytes, whenever it is written.

    Example:
    allkit clinic report LAB-2026-00417 --format pdf --out report.pdf
    """
    from allkit.clinic.reporting import export
    from allkit.clinic.reports.formats import render
    from allkit.clinic.search import resolve

    require_free(out, overwrite=overwrite)
    with signed_in(store, url, as_) as user:
        made = export(user, resolve(user, case), version=version, preliminary=preliminary)
        data = render(made, format, image_of=user.store.blobs.get)
    write_whole(Path(out), data, private=True)
    say(f"Saved {out}: {made.kind} report, version {made.version}, hash {made.sha256}.")
