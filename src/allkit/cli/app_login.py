"""How people sign in to the workplace: the tables [auth] and [allkit] of Streamlit's secrets."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from allkit.cli.progress import say
from allkit.errors import ConfigError

__all__ = ["SECRETS", "login_table", "name_of"]

SECRETS = Path(".streamlit") / "secrets.toml"
NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
OWN = ("claim", "roles_claim", "roles")
SHORTEST = 32
"""Characters of the text that signs the cookie of who is signed in."""


def login_table() -> dict[str, Any] | None:
    """Return the table [auth], which says how people sign in; `None` where there is none.

    Raises `ConfigError` where it, or the table [allkit], is not what it has to be.
    """
    found: dict[str, Any] | None = None
    places = [Path.cwd() / SECRETS]
    # The later one counts, as in Streamlit.
    with contextlib.suppress(RuntimeError):  # a user without a home
        places.insert(0, Path.home() / SECRETS)
    for place in places:
        secrets = _read(place)
        if secrets is None:
            continue
        found = _table(secrets, "auth", place) or found
        _require_roles(_table(secrets, "allkit", place) or {}, place)
        if found is not None and os.name == "posix" and place.stat().st_mode & 0o077:
            say(f"Others on this machine may read {place}, which holds secrets: chmod 600 {place}")
    if found is not None:
        _require_whole(found)
    return found


def name_of(login: dict[str, Any] | None) -> list[str]:
    """Return the name by which browsers call it, from the address that the provider sends them back to."""
    host = urlsplit(str(login["redirect_uri"])).hostname if login else None
    return [host] if host else []


def _read(place: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(place.read_text("utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise ConfigError(f"{place} is no TOML ({error}). Put it right.") from None


def _table(secrets: dict[str, Any], name: str, place: Path) -> dict[str, Any] | None:
    found = secrets.get(name)
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{name} in {place} is {found!r}. Make it a table: [{name}]")
    return found


def _require_whole(login: dict[str, Any]) -> None:
    missing = [name for name in NEEDED if not login.get(name)]
    if missing:
        raise ConfigError(f"The table [auth] of {SECRETS} lacks {', '.join(missing)}. Add it.")
    if len(str(login["cookie_secret"])) < SHORTEST:
        raise ConfigError(
            f"The cookie_secret in {SECRETS} is too short: whoever guesses it is anybody. Give at least "
            f"{SHORTEST} random characters."
        )
    address = urlsplit(str(login["redirect_uri"]))
    if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            f"The redirect_uri in {SECRETS} begins with {address.scheme}://, so that sign-ins would cross "
            "the network in the open. Put a proxy with TLS before it, and give its https address."
        )
    if importlib.util.find_spec("authlib") is None:
        raise ConfigError("The login needs Authlib. Type: pip install 'allkit[app]'")


def _require_roles(settings: dict[str, Any], place: Path) -> None:
    """Raise `ConfigError` for a setting, or a role, that there is not."""
    from allkit.clinic.access import ROLES

    unknown = [name for name in settings if name not in OWN]
    if unknown:
        raise ConfigError(
            f"The table [allkit] of {place} has {unknown[0]!r}, which is not known. There are "
            f"{', '.join(OWN)}."
        )
    offered = [role for role in ROLES if role != "system"]
    wrong = [role for role in dict(settings.get("roles", {})).values() if role not in offered]
    if wrong:
        raise ConfigError(
            f"The table [allkit] of {place} gives the role {wrong[0]!r}. There are {', '.join(offered)}."
        )
