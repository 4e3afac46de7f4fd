"""Signatures of models: who vouches for a model folder or an exported file, and that it is the same.

A hash that lies beside a file shows damage; whoever alters the file writes a new hash. A signature
can only be made with a key that is kept elsewhere. It lies beside what it signs: as `SIGNATURE` in a
model folder, as `NAME.sig` beside a file. Ed25519, by the package `cryptography`, without a network.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import datetime
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from allkit.errors import AllkitError, CheckpointError, ConfigError, ExportError
from allkit.files import write_whole
from allkit.runtime.fields import Name, checked
from allkit.runtime.reading import Refusal, look_alike, parse_json, read_plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "IN_FOLDER",
    "TRUSTED",
    "PublicKey",
    "Signature",
    "content_of",
    "described",
    "doubt",
    "new_key",
    "open_to_others",
    "own_work",
    "private_key",
    "public_keys",
    "read_signature",
    "require_listed",
    "require_trusted",
    "sign",
    "signature_path",
    "signed_by",
    "sums_hash",
]

IN_FOLDER = "SIGNATURE"
TRUSTED = "ALLKIT_TRUSTED_KEYS"
"""The variable that names the keys of a site: only what one of them signed is opened."""
SUMS, CARD = "SHA256SUMS", "README.md"
OF_CARD = re.compile(rb"[0-9a-f]{64}  README\.md")
"""The one line of `SHA256SUMS` that is not signed."""
SMALL = 64 * 2**10
MOST_KEYS = 1000

_own_work: contextvars.ContextVar[bool] = contextvars.ContextVar("own_work", default=False)

Kind = Literal["model folder", "exported file"]


class Signature(BaseModel):
    """What a signature file holds. Date, key and content are all signed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[int, Field(strict=True, ge=1, le=1)] = 1
    algorithm: Literal["Ed25519"] = "Ed25519"
    kind: Kind
    key: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the public key's 32 bytes."""
    signed: Annotated[str, Field(strict=True, pattern=r"^\d{4}(-\d\d){2}T(\d\d:){2}\d\dZ$")]
    sha256: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
    """Of what is signed: see `content_of`."""
    signature: Name

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        parts = ("allkit signature 1", self.kind, self.sha256, self.signed, self.key)
        return "\n".join(parts).encode()

    @property
    def when(self) -> str:
        """The time of signing, for people."""
        return f"{self.signed[:10]} {self.signed[11:16]} UTC"


class PublicKey(BaseModel):
    """A key that signatures are compared with: its file, its id, and its 32 bytes."""

    model_config = ConfigDict(frozen=True)

    path: Path
    id: str
    raw: bytes

    def made(self, signature: Signature) -> bool:
        """Return whether this key made the signature."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if signature.key != self.id:
            return False
        try:
            value = base64.b64decode(signature.signature, validate=True)
            if base64.b64encode(value).decode() != signature.signature:
                return False  # bits that no byte is made of are as they were written, too
            Ed25519PublicKey.from_public_bytes(self.raw).verify(value, signature.message)
        except (InvalidSignature, ValueError):
            return False
        return True


# ── what is signed ─────────────────────────────────────────────────────────────────────────────


def signature_path(path: Path) -> Path:
    """Return where the signature of a model folder or an exported file lies."""
    return path / IN_FOLDER if path.is_dir() else path.with_name(f"{path.name}.sig")


def content_of(path: Path) -> tuple[Kind, str]:
    """Return the kind of a model and the SHA-256 that is signed of it.

    Of an exported file it is that of its bytes. Of a model folder it is that of the lines of
    `SHA256SUMS`, sorted, without that of the card, which may be edited: these name every other file.
    Raises `CheckpointError` or `ExportError` where it cannot be read.
    """
    if path.is_dir():
        return "model folder", sums_hash(_sums(path))
    return "exported file", hashlib.sha256(_bytes_of(path)).hexdigest()


def sums_hash(sums: bytes) -> str:
    """Return the SHA-256 that is signed of a `SHA256SUMS` with these bytes."""
    lines = sorted(line for line in sums.split(b"\n") if not OF_CARD.fullmatch(line))
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _sums(folder: Path) -> bytes:
    try:
        return read_plain(folder / SUMS, CheckpointError, most=2**20)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} has no {SUMS}, so it is no model folder. Give the folder that `allkit train "
            f"--out` wrote."
        ) from None


def _bytes_of(path: Path) -> bytes:
    try:
        return read_plain(path, ExportError, follow=True)
    except FileNotFoundError:
        raise ExportError(
            f"{path} does not exist. Give a model folder or an exported file."
        ) from None


def require_listed(folder: Path) -> None:
    """Raise `CheckpointError` where a file of a model folder is not what `SHA256SUMS` says.

    The card may be another, since it may be edited. Nothing is parsed.
    """
    for line in _sums(folder).decode("ascii", "replace").splitlines():
        listed, _, name = line.partition("  ")
        if OF_CARD.fullmatch(line.encode("ascii", "replace")):
            continue
        if not re.fullmatch(r"(plots/)?\w[\w .+-]*", name, re.ASCII) or "  " in name:
            raise CheckpointError(f"{folder / SUMS} is damaged at {line[:80]!r}. Copy it again.")
        try:
            found = hashlib.sha256(read_plain(folder / name, CheckpointError)).hexdigest()
        except FileNotFoundError:
            found = ""
        if found != listed:
            raise CheckpointError(
                f"{folder / name} was altered or damaged, or is missing: its hash is not the one in "
                f"{SUMS}. Copy the model again, or train again."
            )


# ── keys ───────────────────────────────────────────────────────────────────────────────────────


def _require_cryptography() -> None:
    import importlib.util

    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError(
            "Signatures need the package cryptography, which is not installed. Type: pip install "
            "'allkit[sign]'"
        )


def new_key(path: Path, passphrase: bytes | None = None) -> PublicKey:
    """Write a new private key to `path`, for its owner alone, and the public one to `path`.pub.

    Both are PEM files, which other programs read as well. With a `passphrase` the private one is
    encrypted. Raises `ConfigError` where one of them exists or cannot be written.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if os.path.lexists(place):
            raise ConfigError(
                f"{place} exists already. Choose another name; a key is not replaced."
            )
    key = Ed25519PrivateKey.generate()
    hidden: form.KeySerializationEncryption = form.NoEncryption()
    if passphrase:
        hidden = form.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden)
    write_whole(path, pem, private=True)
    try:
        write_whole(
            public,
            key.public_key().public_bytes(
                form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
            ),
        )
    except BaseException:  # one without the other would keep a second try from its name
        path.unlink(missing_ok=True)
        raise
    return _public(public, key.public_key().public_bytes_raw())


def private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Return the private key in a PEM file; raise `ConfigError` where there is none.

    Raises `PermissionError` where it is encrypted and there is no `passphrase`.
    """
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = _key_bytes(path)
    if b"PUBLIC KEY" in data:
        raise ConfigError(f"{path} is a public key. To sign, give the private one it belongs to.")
    try:
        key = form.load_pem_private_key(data, passphrase)
    except TypeError:
        if passphrase is None:
            raise PermissionError(f"{path} is encrypted") from None
        key = private_key(path)  # it is not encrypted, and needs no passphrase
    except (ValueError, UnsupportedAlgorithm):
        reason = (
            "or the passphrase is wrong" if b"ENCRYPTED" in data else "as `--new-key` writes it"
        )
        raise ConfigError(f"{path} is no private key that can be read, {reason}.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is a key of another kind. Make an Ed25519 key: --new-key FILE")
    return key


def public_keys(path: Path) -> tuple[PublicKey, ...]:
    """Return the public key in a PEM file, or all of a folder's files `*.pub` and `*.pem`.

    Raises `ConfigError` where there is none, or a file is no public key.
    """
    _require_cryptography()
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in (".pub", ".pem"))[:MOST_KEYS]
        if not files:
            raise ConfigError(f"{path} holds no public keys (*.pub). Put the keys you trust there.")
        return tuple(_public(one, _raw(one)) for one in files)
    return (_public(path, _raw(path)),)


def _raw(path: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _key_bytes(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(
            f"{path} is a private key, which belongs to whoever signs. Give the public one: "
            f"{path.name}.pub"
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path} is no public key in PEM form, as `--new-key` writes it."
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"{path} is a key of another kind; signatures are made with Ed25519 keys."
        )
    return key.public_bytes_raw()


def _public(path: Path, raw: bytes) -> PublicKey:
    return PublicKey(path=path, id=hashlib.sha256(raw).hexdigest(), raw=raw)


def _key_bytes(path: Path) -> bytes:
    try:
        return read_plain(path, ConfigError, most=SMALL, follow=True)
    except FileNotFoundError:
        raise ConfigError(f"There is no key {path}. Make one: allkit sign --new-key FILE") from None


def open_to_others(path: Path) -> bool:
    """Return whether others than its owner may read a private key."""
    return os.name != "nt" and bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


# ── signing and asking who signed ──────────────────────────────────────────────────────────────


def sign(path: Path, key: Ed25519PrivateKey, *, overwrite: bool = False) -> Signature:
    """Sign a model folder or an exported file as it is now, and return the signature.

    Raises `ConfigError` where it is signed already and `overwrite` is false.
    """
    place = signature_path(path)
    if os.path.lexists(place) and not overwrite:
        raise ConfigError(f"{place} exists already. Give --overwrite to sign anew.")
    kind, sha256 = content_of(path)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    id = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
    blank = Signature(kind=kind, key=id, signed=now, sha256=sha256, signature="-")
    value = base64.b64encode(key.sign(blank.message)).decode()
    signature = blank.model_copy(update={"signature": value})
    write_whole(place, signature.model_dump_json(indent=1) + "\n")
    return signature


def read_signature(path: Path) -> Signature | None:
    """Return the signature beside a model, unchecked; `None` where there is none."""
    refusal: Refusal = CheckpointError if path.is_dir() else ExportError
    place = signature_path(path)
    try:
        data = read_plain(place, refusal, most=SMALL)
    except FileNotFoundError:
        return None
    try:
        values = parse_json(data)
    except ValueError as error:
        what = look_alike(data) or f"is no signature: {error}. Sign again, or copy it again."
        raise refusal(f"{place} {what}") from None
    return checked(Signature, values, place, refusal)


def signed_by(
    path: Path, keys: tuple[PublicKey, ...], content: str | None = None
) -> tuple[Signature, PublicKey]:
    """Return the signature of a model and which of the keys made it.

    `content` is the SHA-256 of what was read, if it was. Raises `CheckpointError` for a folder and
    `ExportError` for a file: where there is no signature, none by these keys, or of other content.
    """
    refusal: type[AllkitError] = CheckpointError if path.is_dir() else ExportError
    signature = read_signature(path)
    kind, sha256 = content_of(path) if content is None else (_kind(path), content)
    if signature is None:
        raise refusal(
            f"{path} is not signed: there is no {signature_path(path).name}. Ask for its signature, or "
            f"sign it: allkit sign {path} --key FILE"
        )
    made = next((key for key in keys if key.made(signature)), None)
    if made is None:
        raise refusal(
            f"{path} was signed by another key ({signature.key[:16]}…), or its signature was altered. "
            f"Give the key of whom it is from, or ask them."
        )
    if (signature.kind, signature.sha256) != (kind, sha256):
        raise refusal(
            f"{path} was altered after it was signed on {signature.when}, or the signature is that of "
            f"another model. Copy it again from where it was signed."
        )
    return signature, made


def _kind(path: Path) -> Kind:
    return "model folder" if path.is_dir() else "exported file"


def require_trusted(path: Path, content: str | None = None) -> None:
    """Raise where a site trusts certain keys only, by `ALLKIT_TRUSTED_KEYS`, and none signed `path`.

    `content` is the SHA-256 of what was read, if it was.
    """
    setting = os.environ.get(TRUSTED)
    if setting is None or _own_work.get():
        return
    if not setting.strip():
        raise ConfigError(f"{TRUSTED} is empty. Give a public key, or a folder of public keys.")
    signed_by(path, public_keys(Path(setting)), content)


def doubt(path: Path, content: str) -> str:
    """Return what is wrong with a signature as far as it shows without a key; empty where nothing is.

    `content` is the SHA-256 of what was read. Who signed, nothing says here.
    """
    try:
        signature = read_signature(path)
    except AllkitError as error:
        return str(error)
    if signature is None or (signature.kind, signature.sha256) == (_kind(path), content):
        return ""
    return (
        f"{signature_path(path)} is not the signature of what lies there now: it was altered after it was "
        f"signed on {signature.when}, or the signature is that of another model."
    )


@contextlib.contextmanager
def own_work() -> Iterator[None]:
    """Let be opened what this process itself is about to write, which nobody can have signed."""
    token = _own_work.set(True)
    try:
        yield
    finally:
        _own_work.reset(token)


def described(signature: Signature, key: PublicKey | None = None) -> dict[str, Any]:
    """Return what is told of a signature, as plain values."""
    told: dict[str, Any] = json.loads(signature.model_dump_json(exclude={"signature"}))
    return told | {"by": None if key is None else key.path.name}
