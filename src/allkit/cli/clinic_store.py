"""`allkit clinic init, person, key, backup, restore, verify, erase`: the store and its people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.clinic_options import (
    As,
    Url,
    Where,
    Why,
    opened,
    own_name,
    require_clinic,
    signed_in,
)
from allkit.cli.options import Overwrite
from allkit.cli.progress import put, say
from allkit.errors import ConfigError

__all__ = ["add_key", "add_person", "backup", "erase", "init", "restore", "verify"]

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="the backup's folder")]


def init(store: Where = None, url: Url = None, as_: As = None) -> None:
    """Make a clinic, or bring one of an earlier version up to date. You become its first admin.

    Example:
    allkit clinic init
    """
    require_clinic()
    from allkit.clinic.access import first_person, people
    from allkit.clinic.store.store import Store

    name = own_name() if as_ is None else as_
    with Store.create(store, url) as clinic:
        with clinic.read() as connection:
            known = people(connection)
        if not known:
            first_person(clinic, name)
        put(
            f"The clinic is in {clinic.folder.resolve()}\n"
            f"  database: {clinic.place}\n"
            f"  images:   {clinic.blobs.folder.resolve()}\n"
        )
        if known:
            say(f"It was there; its tables are of today. It knows {len(known)} people.")
        else:
            say(f"{name} may read, sign and look after it. Next: allkit clinic model MODEL")


def add_person(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what the person signs in with")],
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="reader, signer, admin or system; repeatable",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="take away all roles")] = False,
    display: Annotated[
        str, typer.Option(help="the name that reports show", show_default="NAME")
    ] = "",
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Add somebody, or change what somebody may.

    reader opens cases and reads them; signer also signs, amends and withdraws;
    admin looks after people, models and backups and erases; system is a machine
    that brings cases and fetches results.

    Example:
    allkit clinic person berg --role reader --role signer --display "Dr. Berg"
    """
    from allkit.clinic.access import add_person as add

    if bool(role) == remove:
        raise ConfigError(
            "Say what the person may with --role ROLE, or take it all away with --remove."
        )
    with signed_in(store, url, as_) as user:
        roles: Any = role or []  # `add` names the ones that it does not know
        added = add(user, name, roles, display=display)
        what = ", ".join(added.roles) or "nothing: no role is left"
        say(f"{added.display} ({added.name}) may now: {what}.")


def add_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the person or machine it is for")],
    revoke: Annotated[bool, typer.Option("--revoke", help="take away all keys of NAME")] = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Make a key for `allkit serve --clinic`. It is shown once; the store keeps its hash only.

    Example:
    allkit clinic key laboratory
    """
    from allkit.clinic.access import add_key as add
    from allkit.clinic.access import revoke_keys

    with signed_in(store, url, as_) as user:
        if revoke:
            say(f"Revoked {revoke_keys(user, name)} keys of {name}.")
            return
        put(add(user, name) + "\n")


def backup(
    folder: Folder,
    overwrite: Overwrite = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Copy everything into a new folder, while the clinic goes on.

    The copy is the same for SQLite and PostgreSQL. Keep it where the clinic is
    not, and closed: it holds all images and readings.

    Example:
    allkit clinic backup /mnt/backups/2026-02-01
    """
    from allkit.clinic.store.backup import backup as write

    with signed_in(store, url, as_) as user:
        with user.read("admin"):
            pass
        manifest = write(user.store, folder, who=user.name, overwrite=overwrite)
    rows = sum(entry["rows"] for entry in manifest["tables"].values())
    head = manifest["audit"]
    say(f"Saved {folder}: {rows:,} rows, {manifest['images']:,} images.")
    say(f"The audit ends with row {head['seq']}, hash {head['hash']}. Write this down elsewhere.")


def restore(folder: Folder, store: Where = None, url: Url = None) -> None:
    """Make a clinic from a backup, in an empty folder or database.

    Example:
    allkit clinic restore /mnt/backups/2026-02-01 --store new-clinic
    """
    require_clinic()
    from allkit.clinic.models import gone_model
    from allkit.clinic.store.backup import restore as read
    from allkit.clinic.store.verify import verify as check

    with read(folder, store, url) as clinic:
        problems, gone = check(clinic), gone_model(clinic)
        say(f"Restored into {clinic.place}.")
    _tell(problems, gone)


def verify(
    seq: Annotated[
        int | None, typer.Option(help="an audit row that was written down elsewhere")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="the hash that this row had")] = None,
    store: Where = None,
    url: Url = None,
) -> None:
    """Check the audit's chain, every image and every report. Exit status 1 where something is wrong.

    Example:
    allkit clinic verify
    """
    from allkit.clinic.models import gone_model
    from allkit.clinic.store.verify import verify as check

    if (seq is None) != (sha256 is None):
        raise ConfigError("Give --seq and --sha256 together, as they were written down.")
    with opened(store, url) as clinic:
        problems = check(clinic, known=None if seq is None or sha256 is None else {seq: sha256})
        gone = gone_model(clinic)
    _tell(problems, gone)


def _tell(problems: list[str], gone: str) -> None:
    if gone:
        say(f"CAUTION  {gone}")
    for problem in problems:
        put(problem + "\n")
    if problems:
        raise typer.Exit(1)
    say("Everything is whole: the audit, the images, the reports.")


def erase(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="a case's id, or its whole order number")
    ],
    why: Why,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask again")] = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Erase a case for good: its images, readings and reports. A signed one needs an admin.

    Example:
    allkit clinic erase LAB-2026-00417 --why "consent was withdrawn"
    """
    from allkit.clinic.erasure import erase as do
    from allkit.clinic.search import resolve

    with signed_in(store, url, as_) as user:
        id = resolve(user, case, whole=True)
        if not yes:
            typer.confirm(f"Erase the case {id} with all its images and reports?", abort=True)
        done = do(user, id, why=why)
    say(
        f"Erased: {done.fields} fields, {done.reports} reports. The audit keeps ids and hashes only."
    )
    for path in done.backups:
        say(f"This backup may still hold it: {path}")
