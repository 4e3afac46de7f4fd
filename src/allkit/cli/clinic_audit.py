"""`allkit clinic audit`: who did what, and whether the chain is whole."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from allkit.cli.clinic_options import As, Url, Where, opened, signed_in
from allkit.cli.options import Overwrite
from allkit.cli.progress import put, put_json_lines, say
from allkit.files import require_free, write_whole

__all__ = ["audit"]

audit = typer.Typer()


@audit.command("verify")
def verify(store: Where = None, url: Url = None) -> None:
    """Check the chain of hashes. Exit status 1 where it is broken.

    Example:
    allkit clinic audit verify
    """
    from allkit.clinic.store import chain

    with opened(store, url) as clinic, clinic.read() as connection:
        problems = list(chain.broken_links(connection))
        seq, head, at = chain.head(connection)
    for problem in problems:
        put(problem + "\n")
    if problems:
        raise typer.Exit(1)
    say(f"The audit is whole: {seq} rows, the last of {at}, hash {head}.")


@audit.command("export")
def export(
    out: Annotated[
        Path | None, typer.Option(help="the file to write", show_default="standard output")
    ] = None,
    format: Annotated[
        Literal["jsonl", "fhir"], typer.Option(help="a row or an AuditEvent of FHIR R4 a line")
    ] = "jsonl",
    after: Annotated[int, typer.Option(min=0, help="only rows behind this number")] = 0,
    overwrite: Overwrite = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Write the audit, a row a line. It holds ids and hashes, and no name of a patient.

    Example:
    allkit clinic audit export --out audit.jsonl
    """
    from allkit.clinic.audit import export_events, export_lines

    if out is not None:
        require_free(out, overwrite=overwrite)
    with signed_in(store, url, as_) as user:
        lines = export_lines(user, after) if format == "jsonl" else export_events(user, after)
        with contextlib.closing(lines):
            if out is None:
                put_json_lines(lines)
                return
            text = "".join(lines)
    write_whole(out, text, private=True)
    say(f"Saved {out}: {text.count(chr(10)):,} rows.")
