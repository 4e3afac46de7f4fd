"""A copy of everything, and a clinic made from it.

A backup is a folder: `tables/NAME.jsonl` with a row a line, `images/` with the files, and `manifest.json`
with the version of the tables, the number of rows, the SHA-256 of every table, and the head of the audit.
It is the same for SQLite and PostgreSQL, and can be restored into either.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allkit.clinic.records import canonical
from allkit.clinic.store import chain, engine, schema
from allkit.clinic.store import tables as t
from allkit.clinic.store.blobs import Blobs
from allkit.clinic.store.store import Store, default_folder, new_id
from allkit.errors import StoreError
from allkit.files import whole_folder

__all__ = ["backup", "restore"]

PAGE = 1_000
MANIFEST = "manifest.json"


def backup(store: Store, path: Path, *, who: str, overwrite: bool = False) -> dict[str, Any]:
    """Write a backup into a new folder and return its manifest.

    It shows one moment, while the clinic goes on; images are linked where the file system can, as they are
    never changed. Raises `AllkitError` where the place cannot be written.
    """
    _require_replaceable(store, path)
    with store.change(who) as change:
        seq, head, _ = chain.head(change.connection)
        change.insert(
            t.backups, id=new_id(), path=str(path.resolve()), at=change.now, seq=seq, head=head
        )
        change.log("backup.begun", "backup", seq=seq)
    with (
        whole_folder(path, overwrite=overwrite, private=True) as building,
        store.read() as connection,
    ):
        (building / "tables").mkdir()
        tables = {
            table.name: _write(connection, table, building / "tables" / f"{table.name}.jsonl")
            for table in t.ORDER
        }
        seq, head, at = chain.head(connection)
        images = _copy(store, connection, Blobs(building / "images"))
        manifest = {
            "revision": schema.revision_of(connection),
            "tables": tables,
            "audit": {"seq": seq, "hash": head, "at": at},
            "images": images,
        }
        (building / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _require_replaceable(store: Store, path: Path) -> None:
    """Raise `StoreError` where a place holds anything but a former backup, or the clinic itself."""
    place, ours = path.resolve(), store.folder.resolve()
    if place == ours or place in ours.parents or ours in place.parents:
        raise StoreError(f"{path} is the clinic's own folder, or holds it. Choose another place.")
    if path.exists() and not (path / MANIFEST).is_file():
        raise StoreError(f"{path} is there and is no backup of a clinic. Choose another place.")


def _write(connection: sa.Connection, table: sa.Table, path: Path) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    keys = list(table.primary_key.columns)
    rows = connection.execution_options(yield_per=PAGE).execute(sa.select(table).order_by(*keys))
    with path.open("wb") as stream:
        for row in rows:
            text = (canonical(dict(row._mapping)) + "\n").encode()
            stream.write(text)
            digest.update(text)
            count += 1
    return {"rows": count, "sha256": digest.hexdigest()}


def _copy(store: Store, connection: sa.Connection, to: Blobs) -> int:
    count = 0
    for sha256 in connection.execute(sa.select(t.blobs.c.sha256)).scalars().all():
        source, target = store.blobs.path(sha256), to.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise StoreError(
                f"The image {sha256[:12]} is missing in {store.folder}. Run: allkit clinic verify"
            ) from None
        except OSError:  # another drive, or one without links
            shutil.copyfile(source, target)
        count += 1
    return count


def restore(path: Path, folder: Path | None, url: str | None = None) -> Store:
    """Make a clinic from a backup, in an empty folder or database, and return it.

    Everything is checked first and verified afterwards. Raises `StoreError` where the backup is damaged or
    the place holds a clinic; nothing of the place is then changed.
    """
    manifest = _checked(path)
    place = default_folder() if folder is None else folder
    if url is None and (place / engine.SQLITE).exists():
        raise StoreError(f"{place} holds a clinic. Choose an empty folder with --store.")
    if url is None and (held := _held(place)):
        raise StoreError(
            f"{place} is not empty: it holds {held}. Choose an empty folder with --store."
        )
    new = url is not None or not place.exists()
    store = Store.create(folder, url, revision="0001")
    try:
        _fill_all(store, path, manifest)
    except BaseException:
        store.close()
        if new and store.url is None:  # nothing that looks like a clinic is left
            shutil.rmtree(place, ignore_errors=True)
        raise
    return store


def _held(place: Path) -> str:
    """Return the name of something in a folder; `""` where it is empty, or not there.

    The folder for lost parts that a new file system has at its root does not count.
    """
    names = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
    return next((name for name in names if name != "lost+found"), "")


def _fill_all(store: Store, path: Path, manifest: dict[str, Any]) -> None:
    images = Blobs(path / "images")
    with engine.writing(store.engine) as connection:
        if schema.revision_of(connection) != "0001" or chain.head(connection)[0]:
            raise StoreError(f"{store.place} holds a clinic. Choose an empty database.")
        schema.migrate(connection, manifest["revision"])
        for table in t.ORDER:
            _fill(connection, table, path / "tables" / f"{table.name}.jsonl")
        for sha256 in connection.scalars(sa.select(t.blobs.c.sha256)).all():
            store.blobs.put(images.get(sha256))
        schema.migrate(connection)
        problems = list(chain.broken_links(connection, _known(manifest)))
        if problems:
            raise StoreError(f"The backup {path} cannot be restored: {problems[0]}")


def _known(manifest: dict[str, Any]) -> dict[int, str]:
    head = manifest["audit"]
    return {head["seq"]: head["hash"]} if head["seq"] else {}


def _checked(path: Path) -> dict[str, Any]:
    """Return the manifest of a backup whose tables are what it says."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        told = {name: entry["sha256"] for name, entry in manifest["tables"].items()}
        revision, _ = manifest["revision"], manifest["audit"]["seq"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no backup of a clinic, or not whole ({error}).") from None
    if revision > schema.HEAD:
        raise StoreError(
            f"{path} was written by a newer allkit (version {revision}). Update allkit."
        )
    for name, sha256 in told.items():
        file = path / "tables" / f"{name}.jsonl"
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise StoreError(f"{file} was altered after the backup. Take another backup.")
    for page in _pages(path / "tables" / "blobs.jsonl"):
        for row in page:  # before anything is made from it
            _require_image(path, row["sha256"])
    return manifest


def _require_image(path: Path, sha256: str) -> None:
    """Raise `StoreError` that names the backup where an image of it is gone or was altered."""
    images = Blobs(path / "images")
    try:
        images.get(sha256)
    except StoreError:
        raise StoreError(
            f"The image {images.path(sha256)} of the backup {path} is gone or was altered after the backup. "
            "Take another backup."
        ) from None


def _fill(connection: sa.Connection, table: sa.Table, path: Path) -> None:
    if not path.exists():  # a table that the version of the backup did not have
        return
    joined = []
    for page in _pages(path):
        if table is t.patients:  # a patient may be joined to one that comes later
            joined += [(row["id"], row["joined_to"]) for row in page if row["joined_to"]]
            page = [row | {"joined_to": None} for row in page]
        connection.execute(table.insert(), page)
    for id, to in joined:
        connection.execute(table.update().where(table.c.id == id).values(joined_to=to))


def _pages(path: Path) -> Iterator[list[dict[str, Any]]]:
    with path.open(encoding="utf-8") as stream:
        page: list[dict[str, Any]] = []
        for text in stream:
            page.append(json.loads(text))
            if len(page) == PAGE:
                yield page
                page = []
    if page:
        yield page
