"""A file on its way into a case: written to disk as it comes, then taken apart by the clinic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allkit.clinic.arriving import paced
from allkit.clinic.exchange import Taken, take
from allkit.clinic.intake.unpack import unpack
from workplace.sessions import Session
from workplace.texts import Texts
from workplace.words import refusal_words

__all__ = ["MOST_BYTES", "receive"]

MOST_BYTES = 2 * 2**30
"""A zip of a whole slide's fields; the limit of one image is the reader's own."""
IN_MEMORY = 8 * 2**20


async def receive(request: Request, session: Session, say: Texts) -> dict[str, Any]:
    """Take the body of a request into a case and say what became of it. Raises `OverflowError`.

    Raises `TimeoutError` for a body that comes too slowly.
    """
    name = request.query_params.get("name", "")[:1000]
    # Who may not add fields is told before a gigabyte is sent.
    await run_in_threadpool(_require_reader, session)
    announced = request.headers.get("content-length", "0").lstrip("0")
    # Of thousands of digits Python makes no number.
    if announced.isdecimal() and (len(announced) > 15 or int(announced) > MOST_BYTES):
        raise OverflowError
    with tempfile.TemporaryDirectory(prefix="allkit-") as folder:
        path, size = Path(folder) / "file", 0
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as held:
            async for piece in paced(request.stream()):
                size += len(piece)
                if size > MOST_BYTES:
                    raise OverflowError
                held.write(piece)
            held.seek(0)
            if size <= IN_MEMORY:
                source: Path | tuple[str, bytes] = (name, held.read())
            else:
                await run_in_threadpool(_copy, held, path)
                source = path
        case = request.path_params["case"]
        taken = await run_in_threadpool(lambda: take(session.user, unpack(source), case))
    return told(say, taken, name if isinstance(source, Path) else "")


def _copy(held: Any, path: Path) -> None:
    import shutil

    with path.open("wb") as stream:
        shutil.copyfileobj(held, stream)


def _require_reader(session: Session) -> None:
    with session.user.read("reader", "signer"):
        pass


def told(say: Texts, taken: Taken, name: str = "") -> dict[str, Any]:
    """Return what became of a file, in words. `name` replaces that of a file that went over the disk."""

    def shown(given: str) -> str:
        return name + given[len("file") :] if name and given.split("/")[0] == "file" else given

    refused = []
    for one in taken.refused:
        message = one.message.replace(one.name, shown(one.name))
        what, todo = refusal_words(say, one.code, message, shown(one.name))
        refused.append({"name": shown(one.name), "what": what, "todo": todo})
    return {
        "added": [{"field": one.field, "name": shown(one.name)} for one in taken.added],
        "again": [{"field": one.field, "name": shown(one.name)} for one in taken.again],
        "refused": refused,
        "elsewhere": [
            say("server.elsewhere", name=shown(n), n=len(cases)) for n, cases in taken.elsewhere
        ],
        "orders": len(taken.opened),
    }
