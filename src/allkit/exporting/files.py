"""Writing and reading the file of a format: any payload, and behind it what allkit has to know."""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allkit.errors import ExportError
from allkit.runtime.description import EXPORTER, read_description
from allkit.runtime.graph import format_of
from allkit.runtime.reading import PACKED, ZIP, look_alike
from allkit.runtime.seal import bytes_of, describe
from allkit.runtime.signature import doubt, require_trusted
from allkit.runtime.trailer import AGAIN, broken_trailer, has_trailer, parts_of, with_trailer

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Content", "read", "write"]


class Content(NamedTuple):
    """What `read` returns: the payload, what the file says of itself, and its limits.

    `trust` is text as `GraphPredictor` takes it; `info["sha256"]` is the hash of the file.
    """

    payload: bytes
    info: dict[str, Any]
    trust: str


def write(
    path: Path,
    payload: bytes,
    model: Any,
    *,
    exporter: str,
    precision: str,
    settings: BaseModel | Mapping[str, Any] | None = None,
) -> None:
    """Write `payload`, any bytes, to `path` with a trailer that says what `model` is and how far to trust it.

    `model` is the `Classifier`, `exporter` the full name of the exporter (`PACKAGE/NAME`), by which allkit
    finds it when the file is opened, and `settings` are those it was asked for with. The payload is not
    touched, neither here nor when allkit adds the parity report. Raises `ExportError` for a payload or a
    name that is none.
    """
    if not isinstance(payload, bytes | bytearray | memoryview) or not len(payload):
        raise ExportError(
            f"The payload of an exported file is bytes, at least one; {type(payload).__name__} was given."
        )
    if not isinstance(exporter, str) or not re.fullmatch(EXPORTER, exporter):
        raise ExportError(
            f"{exporter!r:.200} is no full name of an exporter. Give PACKAGE/NAME, as in allkit-ort/ort."
        )
    description = describe(
        model.info,
        format=format_of(model.info),
        precision=precision,
        exporter=exporter,
        trust=base64.b64encode(model.trust.to_bytes()).decode(),
    )
    for blank in ("proof", "sha256"):  # a trailer needs no room, since it can be written anew
        del description[blank]
    if settings is not None:
        description["settings"] = (
            dict(settings) if isinstance(settings, Mapping) else settings.model_dump(mode="json")
        )
    path.write_bytes(with_trailer(bytes(payload), description))


def read(path: str | Path, *, exporter: str = "") -> Content:
    """Return what a file holds that `write` wrote, after everything about it was checked.

    With `exporter`, `PACKAGE/NAME`, a file of another one is refused. Raises `ExportError` with what to do
    for a file that is missing, altered, cut off, of another kind or of a newer allkit, and where the site
    trusts certain keys only (`ALLKIT_TRUSTED_KEYS`) and none of them signed it. Warns where a signature
    beside it is damaged or not its own. The payload may be a stranger's all the same: a hash is no
    signature. Needs no torch.
    """
    path = Path(path)
    data = bytes_of(path)
    content = hashlib.sha256(data).hexdigest()
    require_trusted(path, content)
    if not has_trailer(data):
        what = broken_trailer(data) or look_alike(data)
        # The payload may be an archive itself, and half of one tells nothing of the file.
        raise ExportError(
            f"{path} {what}"
            if what not in ("", ZIP, PACKED)
            else f"{path} has no trailer of allkit at its end: it was cut off, or "
            f"not written by `allkit export`. {AGAIN}"
        )
    parts = parts_of(data, str(path))
    info = read_description(path, parts.description, digest=parts.digest)
    by = info.get("exporter", "")
    if exporter and by != exporter:
        raise ExportError(
            f"{path} was written by the exporter {by or 'of an unknown package'}, and was given to "
            f"{exporter}. Give it its own suffix again."
        )
    doubted = doubt(path, content)
    if doubted:
        warnings.warn(doubted, stacklevel=3)
    return Content(parts.payload, info, str(info.get("trust", "")))
