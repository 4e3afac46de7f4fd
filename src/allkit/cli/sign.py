"""`allkit sign`: to vouch for a model, with a key that is kept elsewhere."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from allkit.cli.options import Overwrite
from allkit.cli.progress import put, say
from allkit.errors import ConfigError

__all__ = ["sign"]

PASSPHRASE = "ALLKIT_KEY_PASSPHRASE"


def sign(
    model: Annotated[
        Path | None,
        typer.Argument(help="a model folder or exported file", metavar="MODEL", show_default=False),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="the private key to sign with")] = None,
    new_key: Annotated[
        Path | None, typer.Option(help="make a key: write it here, and FILE.pub beside it")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Sign a model, so that others can tell who vouches for it.

    The signature lies beside it: `SIGNATURE` in a folder, `NAME.sig` beside a
    file. `allkit verify MODEL --key FILE.pub` checks it.

    Example:
    allkit sign --new-key lab.key
    allkit sign model --key lab.key
    """
    from allkit.runtime import signature
    from allkit.runtime.seal import bytes_of, check_seal

    if (new_key is None) == (model is None) or (key is None) == (model is not None):
        raise ConfigError(
            "Give a model and the key to sign it with: allkit sign MODEL --key FILE. Or make a key: "
            "allkit sign --new-key FILE"
        )
    if new_key is not None:
        made = signature.new_key(new_key, _new_passphrase(new_key))
        say(
            f"Saved {new_key}, which signs: keep it secret, and a copy of it where only you reach it."
        )
        say(f"Saved {made.path}, which checks: give it to everyone who uses your models.")
        put(f"{made.id}\n")
        return
    if model is None or key is None:
        raise ConfigError("Give MODEL and --key FILE.")
    if not model.exists():
        raise ConfigError(f"{model} does not exist. Give a model folder or an exported file.")
    secret = _passphrase()
    try:
        private = signature.private_key(key, secret)
    except PermissionError:
        private = signature.private_key(key, _asked(f"Passphrase of {key}: "))
    if signature.open_to_others(key):
        say(f"CAUTION  Others can read {key}. Type: chmod 600 {key}")
    # Nobody vouches for what is damaged already.
    if model.is_dir():
        signature.require_listed(model)
    else:
        check_seal(bytes_of(model), str(model))
    found = signature.sign(model, private, overwrite=overwrite)
    say(f"Signed {model} on {found.when}: {signature.signature_path(model)}")


def _passphrase() -> bytes | None:
    given = os.environ.get(PASSPHRASE)
    return os.fsencode(given) if given else None  # any bytes, as they stand in the environment


def _asked(question: str) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError(f"The key is encrypted. Give its passphrase in {PASSPHRASE}.")
    return getpass.getpass(question).encode("utf-8", "surrogateescape")


def _new_passphrase(path: Path) -> bytes | None:
    """Return the passphrase of a new key; without one where nobody can be asked."""
    given = _passphrase()
    if given is not None or not sys.stdin.isatty():
        return given
    first = _asked(f"Passphrase for {path} (empty: none): ")
    if first and _asked("The same again: ") != first:
        raise ConfigError("The two are not the same. Nothing was written; try again.")
    return first or None
