"""Where the workplace works: its store, whether people sign in, what the command line said.

`allkit app` hands these over in the environment, as it starts the server in a process of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from allkit.clinic.store.store import Store

__all__ = ["VARIABLE", "Login", "Place", "login_of", "place"]

VARIABLE = "ALLKIT_APP"
"""JSON: `name` (who acts without a login), `hosts` (names by which a browser may call), `demo`."""


@dataclass(frozen=True)
class Login:
    """How people are recognised by OIDC: the table `[allkit]` of `.streamlit/secrets.toml`.

    `claim` is the name in the identity token that is the person's name in the clinic. With `roles_claim`
    the roles come from the token too: `roles` maps its values (groups of the directory) to roles of the
    clinic; without it an admin gives the roles.
    """

    claim: str = "email"
    roles_claim: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The store, and who may come to it. `login` is `None` where nobody signs in: this computer only."""

    store: Store
    name: str
    login: Login | None
    hosts: tuple[str, ...]
    demo: bool = False

    @property
    def arguments(self) -> list[str]:
        """What names the store on the command line of `allkit clinic`."""
        url = [] if self.store.url is None else ["--url", self.store.url]
        return ["--store", str(self.store.folder), *url]


def login_of(secrets: Mapping[str, Any]) -> Login | None:
    """Return how people sign in, from the secrets; `None` without a table `[auth]`."""
    if "auth" not in secrets:
        return None
    given = secrets.get("allkit", {})
    roles = {str(group): str(role) for group, role in dict(given.get("roles", {})).items()}
    return Login(given.get("claim", "email"), given.get("roles_claim", ""), roles)


def given() -> dict[str, Any]:
    """Return what the command line said."""
    values: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    return values


@cache
def place() -> Place:
    """Return the place, whose store is opened once and shared by all threads of this process."""
    import streamlit as st

    said = given()
    has_secrets = bool(said.get("login"))
    login = login_of(st.secrets) if has_secrets else None
    return Place(
        store=Store.open(),
        name=said.get("name", ""),
        login=login,
        hosts=tuple(said.get("hosts", ("127.0.0.1", "localhost"))),
        demo=bool(said.get("demo")),
    )
