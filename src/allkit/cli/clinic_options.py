"""What the commands of the clinic share: where it is, who acts, which case is meant."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.extras import EXTRAS, missing_modules
from allkit.cli.progress import put_json
from allkit.errors import ConfigError

if TYPE_CHECKING:
    from allkit.clinic.access import User
    from allkit.clinic.store.store import Store

__all__ = [
    "As",
    "Case",
    "Field",
    "Out",
    "Url",
    "Where",
    "Why",
    "opened",
    "print_json",
    "require_clinic",
]

Where = Annotated[
    Path | None,
    typer.Option(
        "--store", help="the clinic's folder", show_default="ALLKIT_CLINIC or your data folder"
    ),
]
Url = Annotated[
    str | None,
    typer.Option(help="of a PostgreSQL database", show_default="ALLKIT_CLINIC_URL or SQLite"),
]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="who acts", show_default="you")
]
Case = Annotated[
    str,
    typer.Argument(metavar="CASE", help="a case's id, its order number, or what finds it alone"),
]
Field = Annotated[
    int, typer.Option(metavar="NUMBER", help="the field's number in the case, from 1")
]
Why = Annotated[str, typer.Option(help="the reason, in a few words")]
Out = Annotated[Path, typer.Option(help="the file to write")]


def require_clinic() -> None:
    """Raise `ConfigError` when the `clinic` extra is not installed."""
    missing = missing_modules(EXTRAS["clinic"])
    if missing:
        raise ConfigError(
            f"The clinic needs {', '.join(missing)}. Type: pip install 'allkit[clinic]'"
        )


def own_name() -> str:
    """Return the name of who is signed in to this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        raise ConfigError("This machine does not say who you are. Give --as NAME.") from None


@contextlib.contextmanager
def opened(store: Path | None, url: str | None) -> Iterator[Store]:
    """Give the clinic of a folder and database."""
    require_clinic()
    from allkit.clinic.store.store import Store

    with Store.open(store, url) as clinic:
        yield clinic


@contextlib.contextmanager
def signed_in(store: Path | None, url: str | None, name: str | None) -> Iterator[User]:
    """Give who acts in a clinic: somebody whom this machine has recognised."""
    from allkit.clinic.access import sign_in

    with opened(store, url) as clinic:
        # An empty name, as from a variable that is not set, is nobody.
        yield sign_in(clinic, own_name() if name is None else name)


def field_of(user: User, case: str, number: int) -> str:
    """Return the id of a field by its number in a case."""
    from allkit.clinic.view import view_of
    from allkit.errors import ClinicError

    with user.read("reader", "signer") as connection:
        fields = view_of(connection, case).fields
    for field in fields:
        if field.number == number:
            return field.id
    numbers = ", ".join(str(field.number) for field in fields) or "none"
    raise ClinicError(f"The case {case} has no field {number}. There are: {numbers}.")


def print_json(value: Any) -> None:
    """Print a value as JSON for programs."""

    def plain(one: Any) -> Any:
        return asdict(one) if is_dataclass(one) and not isinstance(one, type) else str(one)

    put_json(value, indent=1, default=plain)


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """Return rows as lines with columns, the head first."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
