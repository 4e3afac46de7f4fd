"""People, their roles, and what they may; checked in every transaction, not in pages.

reader   opens cases, adds fields, reads and relabels
signer   also signs, amends and withdraws
admin    people, settings, models, backups; erases signed cases
system   a machine: brings cases and fetches results; reads and signs nothing
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from allkit.clinic.records import PersonName, canonical, sha256_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import DEFAULTS, Change, Store, new_id
from allkit.clinic.text import line
from allkit.errors import AccessError, ClinicError, SignedOutError

__all__ = [
    "OWN_SETTINGS",
    "ROLES",
    "Person",
    "Role",
    "User",
    "add_key",
    "add_person",
    "change_settings",
    "first_person",
    "people",
    "person",
    "revoke_keys",
    "settings_of",
    "sign_in",
    "sign_in_by_key",
    "sign_in_with_roles",
    "worker",
]

Role = Literal["reader", "signer", "admin", "system"]
ROLES: tuple[Role, ...] = ("reader", "signer", "admin", "system")
READERS: tuple[Role, ...] = ("reader", "signer")
WORKER = "allkit"
"""The person in whose name the program itself acts: it answers jobs and takes what machines send."""


@dataclass(frozen=True)
class Person:
    """Somebody, or a machine, that the clinic knows."""

    id: str
    name: str
    display: str
    roles: tuple[Role, ...]
    active: bool

    @property
    def shown(self) -> PersonName:
        """The person as reports show them."""
        return PersonName(self.name, self.display)


@dataclass
class User:
    """A person who is signed in to a store, until they are idle for longer than the clinic allows.

    `confirmed` is when they last proved who they are (a moment of `clock`, in seconds), which a signature
    needs. The roles are read anew in every transaction: who loses one loses it at once.
    """

    store: Store
    person: Person
    clock: Callable[[], float] = time.monotonic
    confirmed: float = field(init=False)
    active: float = field(init=False)

    def __post_init__(self) -> None:
        self.confirmed = self.active = self.clock()

    @property
    def id(self) -> str:
        """The id of the person."""
        return self.person.id

    @property
    def name(self) -> str:
        """The name that the person signs in with."""
        return self.person.name

    def confirm(self) -> None:
        """Note that the person has proved anew who they are; whoever checks that calls it."""
        self.confirmed = self.active = self.clock()

    @contextlib.contextmanager
    def change(self, *roles: Role) -> Iterator[Change]:
        """Give a transaction that writes, to who has one of the roles. Raises `AccessError`."""
        with self.store.change(self.name) as change:
            self.require(change.connection, *roles)
            yield change

    @contextlib.contextmanager
    def read(self, *roles: Role, polling: bool = False) -> Iterator[sa.Connection]:
        """Give a transaction that reads, to who has one of the roles. Raises `AccessError`.

        `polling` is for a page that asks again by itself: it does not make the person less idle.
        """
        with self.store.read() as connection:
            self.require(connection, *roles, polling=polling)
            yield connection

    def require(self, connection: sa.Connection, *roles: Role, polling: bool = False) -> None:
        """Raise `AccessError` unless the person is active, not idle, and has one of the roles.

        Unless `polling`, the person did something now.
        """
        self._require_awake(connection)
        row = connection.execute(sa.select(t.people).where(t.people.c.id == self.id)).first()
        if row is None or not row.active:
            raise SignedOutError(
                f"{self.name} may not sign in any more. Ask an admin of the clinic."
            )
        held = set(json.loads(row.roles))
        if not held & set(roles):
            raise AccessError(
                f"{self.name} has the roles {', '.join(sorted(held)) or '(none)'}; this needs "
                f"{' or '.join(roles)}. Ask an admin of the clinic."
            )
        if not polling:
            self.active = self.clock()

    def require_awake(self) -> None:
        """Raise `SignedOutError` for who was idle for longer than the clinic allows; that stays so."""
        with self.store.read() as connection:
            self._require_awake(connection)

    def _require_awake(self, connection: sa.Connection) -> None:
        minutes = self.store.setting("idle_minutes", connection)
        if "system" not in self.person.roles and self.clock() - self.active > 60 * minutes:
            raise SignedOutError(
                f"{self.name} did nothing for more than {minutes} minutes and is signed out. Sign in again."
            )

    def has_confirmed(self, connection: sa.Connection) -> bool:
        """Whether the person proved who they are within the minutes that a signature allows."""
        minutes: float = self.store.setting("confirm_signature_minutes", connection)
        return self.clock() - self.confirmed <= 60 * minutes


def sign_in(store: Store, name: str, *, clock: Callable[[], float] = time.monotonic) -> User:
    """Return the user of a name, who was recognised elsewhere (by the system, OIDC or a key)."""
    with store.read() as connection:
        found = person(connection, name)
    if not found.active:
        raise AccessError(f"{name} may not sign in any more. Ask an admin of the clinic.")
    return User(store, found, clock)


def sign_in_by_key(store: Store, key: str) -> User | None:
    """Return the user to whom a key belongs, or `None` for one that is not known or was revoked."""
    shown = sha256_of(key)
    with store.read() as connection:
        row = connection.execute(
            sa.select(t.keys.c.sha256, t.people)
            .join(t.people, t.people.c.id == t.keys.c.person_id)
            .where(t.keys.c.sha256 == shown, t.keys.c.revoked.is_(None))
        ).first()
    if row is None or not hmac.compare_digest(row.sha256, shown) or not row.active:
        return None
    return User(store, _person(row))


def sign_in_with_roles(
    store: Store,
    name: str,
    roles: Iterable[Role],
    *,
    display: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> User:
    """Return the user of a name whose roles a directory gives: they are those of the clinic from now on.

    Somebody who is not known is added. Raises `AccessError` for who has no role, or the name of a machine.
    """
    wanted = [role for role in ROLES if role in set(roles) and role != "system"]
    with store.change(WORKER) as change:
        row = change.first(sa.select(t.people).where(t.people.c.name == name))
        if row is not None and "system" in json.loads(row.roles):
            raise AccessError(f"{name} is a machine of the clinic. It does not sign in here.")
        if row is None and wanted:
            _insert(change, name, display, tuple(wanted))
        elif row is not None and (json.loads(row.roles) != wanted or row.active != bool(wanted)):
            change.update(t.people, row.id, roles=canonical(wanted), active=bool(wanted))
            change.log("person.changed", row.id, roles=wanted)
    return sign_in(store, name, clock=clock)


def person(connection: sa.Connection, name: str) -> Person:
    """Return the person of a name or id. Raises `AccessError` for one who is not known."""
    row = connection.execute(
        sa.select(t.people).where((t.people.c.name == name) | (t.people.c.id == name))
    ).first()
    if row is None:
        raise AccessError(
            f"The clinic knows nobody named {name!r}. An admin adds people with: allkit clinic person NAME"
        )
    return _person(row)


def people(connection: sa.Connection) -> list[Person]:
    """Return everybody, by name."""
    return [
        _person(row) for row in connection.execute(sa.select(t.people).order_by(t.people.c.name))
    ]


def _person(row: sa.Row[Any]) -> Person:
    return Person(
        row.id, row.name, row.display, roles=tuple(json.loads(row.roles)), active=row.active
    )


def first_person(store: Store, name: str, display: str = "") -> User:
    """Make the first person of a new clinic, with all roles but that of a machine, and the program's own.

    Raises `ClinicError` where there are people already.
    """
    with store.change(name) as change:
        if change.first(sa.select(t.people.c.id)) is not None:
            raise ClinicError(
                "The clinic has people already; an admin adds others with: allkit clinic person NAME"
            )
        _insert(change, name, display, ("reader", "signer", "admin"))
        _insert(change, WORKER, "allkit (program)", ("system",))
    return sign_in(store, name)


def add_person(user: User, name: str, roles: Iterable[Role], *, display: str = "") -> Person:
    """Add somebody with roles, or give somebody other roles; without any they may not sign in."""
    wanted = tuple(dict.fromkeys(roles))
    unknown = [role for role in wanted if role not in ROLES]
    if unknown:
        raise ClinicError(f"There is no role {unknown[0]!r}. There are {', '.join(ROLES)}.")
    if "system" in wanted and len(wanted) > 1:
        raise ClinicError("The role system is for machines; it does not go with another one.")
    with user.change("admin") as change:
        row = change.first(sa.select(t.people).where(t.people.c.name == name))
        if row is None:
            _insert(change, name, display, wanted)
        else:
            if row.name == WORKER or (row.id == user.id and "admin" not in wanted):
                raise ClinicError(
                    f"{name} keeps its roles: without them nobody could look after the clinic. Let another "
                    "admin do it, or choose another name."
                )
            shown = line(display, "name") if display else row.display
            roles_text = canonical(list(wanted))
            change.update(t.people, row.id, roles=roles_text, display=shown, active=bool(wanted))
            change.log("person.changed", row.id, roles=list(wanted))
        return person(change.connection, name)


def _insert(change: Change, name: str, display: str, roles: tuple[Role, ...]) -> None:
    id, name = new_id(), line(name, "name")
    change.insert(
        t.people,
        id=id,
        name=name,
        display=line(display or name, "name"),
        roles=canonical(list(roles)),
        active=bool(roles),
        created=change.now,
    )
    change.log("person.added", id, roles=list(roles))


def add_key(user: User, name: str) -> str:
    """Make a key for a machine or person and return it; the store keeps its hash only."""
    key = secrets.token_urlsafe(32)
    with user.change("admin") as change:
        found = person(change.connection, name)
        id = new_id()
        change.insert(t.keys, id=id, person_id=found.id, sha256=sha256_of(key), created=change.now)
        change.log("key.added", found.id, key=id)
    return key


def revoke_keys(user: User, name: str) -> int:
    """Revoke all keys of somebody; return how many there were."""
    with user.change("admin") as change:
        found = person(change.connection, name)
        where = (t.keys.c.person_id == found.id, t.keys.c.revoked.is_(None))
        count = change.connection.execute(
            t.keys.update().where(*where).values(revoked=change.now)
        ).rowcount
        if count:
            change.log("key.revoked", found.id, keys=count)
    return count


def worker(store: Store) -> User:
    """Return the program's own user, which answers jobs and takes what comes by watched folders."""
    return sign_in(store, WORKER)


OWN_SETTINGS: dict[str, Any] = {
    "idle_minutes": int | float,
    "confirm_signature_minutes": int | float,
    "second_reader": bool,
    "blind_first": bool,
    "laboratory": str,
}
"""The settings that are changed by name, and their kinds; the others have functions of their own."""


def settings_of(user: User) -> dict[str, Any]:
    """Return the settings of the clinic."""
    with user.read("reader", "signer", "admin") as connection:
        return {name: user.store.setting(name, connection) for name in DEFAULTS}


def change_settings(user: User, values: dict[str, Any]) -> None:
    """Change settings of the clinic. Raises `ClinicError` for one that is not known, or out of its range."""
    with user.change("admin") as change:
        for name, value in values.items():
            if name not in OWN_SETTINGS:
                raise ClinicError(
                    f"There is no setting {name!r}. There are {', '.join(OWN_SETTINGS)}."
                )
            kind = OWN_SETTINGS[name]
            # To Python, True is a number too.
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ClinicError(f"{name} is {value!r}, which is of another kind.")
            if name.endswith("_minutes") and not 0 < value <= 24 * 60:
                raise ClinicError(f"{name} is {value}; it is between 0 and 1440 minutes.")
            change.set(name, line(value, name) if isinstance(value, str) and value else value)
            change.log("setting.changed", name)
