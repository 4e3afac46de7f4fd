"""What an exported file says of itself, checked before anything is made of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from allkit.errors import AllkitError, ExportError
from allkit.records import Bag
from allkit.runtime.fields import (
    ClassNames,
    Flag,
    Hex,
    Name,
    Share,
    Text,
    Whole,
    checked,
    require_finite,
)
from allkit.runtime.reading import parse_json
from allkit.trust import arrays as stored
from allkit.trust.sound import fault
from allkit.trust.verdict import Trust

__all__ = ["FORMAT", "check_description", "read_description", "require_format", "trust_of"]

FORMAT = 3
"""The newest form of the inputs: 2 has `shares`, how much each tile counts for each image; 3 is shown
other pictures of cells than the 24 largest of each tile."""
PROBES, HASH = 64, 80
MOST_LIMITS = 1000
EXPORTER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9][A-Za-z0-9._+:-]{0,99}$"
"""The full name of an exporter. What a file names so is printed, and is said to be installed."""


def _no_formula(text: str) -> str:
    """Refuse what a spreadsheet would compute."""
    if text[:1] in "=+-@":
        raise ValueError("it begins like a formula of a spreadsheet, and is no sentence")
    return text


Limit = Annotated[Text, AfterValidator(_no_formula)]
"""A sentence on what the model does not know."""


class _Probes(BaseModel):
    """The answers on the drawn images."""

    sha256: Annotated[tuple[Name, ...], Field(max_length=PROBES)]
    verdicts: Annotated[tuple[Name, ...], Field(max_length=PROBES)]
    probabilities: Annotated[tuple[tuple[Share, ...], ...], Field(max_length=PROBES)]


class _Parity(BaseModel):
    """The parity report, `allkit.evaluation.parity.ParityReport`."""

    precision: Literal["float32", "int8"]
    drawn: Flag
    images: Whole
    same_class: Whole
    same_verdict: Whole
    difference: Share
    unreadable: Whole = 0
    per_class: dict[Name, tuple[Whole, Whole, Whole]] = {}
    trained_on: Whole = 0
    calibrated_on: Whole = 0
    model: Annotated[str, Field(strict=True, max_length=HASH)] = ""
    compared: Annotated[str, Field(strict=True, max_length=HASH)] = ""
    calibrated: Annotated[str, Field(strict=True, max_length=HASH)] = ""
    probes: _Probes | None = None

    @field_validator("probes", mode="before")
    @classmethod
    def _none_given(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if max(self.same_class, self.same_verdict, self.trained_on) > self.images:
            raise ValueError(f"it counts more answers than its {self.images} images")
        return self


class _Description(BaseModel):
    """The fields that `allkit.runtime.seal.describe` writes; those of 0.1.0 had fewer."""

    model_config = ConfigDict(extra="ignore")

    format: Annotated[int, Field(strict=True, ge=1)]
    allkit: Text = ""
    created: Text = ""
    limits: Annotated[tuple[Limit, ...], Field(max_length=MOST_LIMITS)] = ()
    classes: ClassNames
    display_names: dict[Name, Name] = {}
    backbone: Text = ""
    precision: Literal["float32", "int8"] = "float32"
    bag: Bag = "field"
    finder: Text = ""
    tiles: Flag = False
    max_cells: Annotated[int, Field(strict=True, ge=1, le=200)] = 24
    spread: Flag = False
    data: Hex = ""
    exporter: Annotated[str, Field(strict=True, pattern=EXPORTER)] = "allkit/any"
    """What wrote the file, `PACKAGE/NAME`; files of 0.2.0 and before do not say."""
    settings: dict[Name, Any] = {}
    """Those of the exporter that it was written with."""
    trust: Annotated[str, Field(strict=True, min_length=1)] = "-"
    """Base 64; not there in formats that keep it beside the description."""
    proof: dict[str, Any] | Annotated[str, Field(strict=True, pattern="^~+$")] = "~"
    """The parity report, or the room that is kept for one."""
    sha256: Hex

    @model_validator(mode="after")
    def _of_its_classes(self) -> Self:
        others = [name for name in self.display_names if name not in self.classes]
        if others:
            raise ValueError(f"display_names has the class {others[0]!r}, which classes has not")
        return self


def read_description(
    path: Path, text: bytes | str | None, reader: str = "allkit", *, digest: str = ""
) -> dict[str, Any]:
    """Return what the description of an exported file holds, after it was checked.

    `digest` is its `sha256` where that is kept beside it.

    Raises `ExportError` where it is none, of a newer format than this `reader` knows, or says what
    makes no sense.
    """
    try:
        info = parse_json(text or b"")
    except ValueError as error:
        raise ExportError(
            f"{path} was not written by allkit, or its description is damaged ({error}). Export the "
            f"model with `allkit export`."
        ) from None
    if not isinstance(info, dict) or "format" not in info:
        raise ExportError(
            f"{path} was not written by allkit. Export the model with `allkit export`."
        )
    if digest:
        info["sha256"] = digest
    if type(info["format"]) is int:
        require_format(path, info["format"], FORMAT, reader)
    check_description(path, info)
    return info


def check_description(path: Path, info: Mapping[str, Any]) -> None:
    """Raise `ExportError` where a description says what makes no sense, by the name of the field."""
    parsed = checked(_Description, dict(info), path, ExportError)
    if isinstance(parsed.proof, dict):
        report = checked(_Parity, parsed.proof, path, ExportError)
        probes = report.probes
        if probes is not None:
            rows = {len(row) for row in probes.probabilities} or {len(parsed.classes)}
            if rows != {len(parsed.classes)} or not (
                len(probes.sha256) == len(probes.verdicts) == len(probes.probabilities)
            ):
                raise ExportError(
                    f"{path}: the probes of its parity report do not fit its classes."
                )
    for name, values in (("proof", parsed.proof), ("settings", parsed.settings)):
        try:
            require_finite(values)
        except ValueError as error:
            raise ExportError(f"{path}: {name}: {error}.") from None


def require_format(path: Path, version: int, newest: int, reader: str = "allkit") -> None:
    """Raise `ExportError` where a file has a newer format than `reader` knows."""
    if version > newest:
        raise ExportError(
            f"{path} has the format {str(version)[:40]}; this {reader} reads up to {newest}. Update "
            f"{reader}."
        )


def trust_of(path: Path, classes: tuple[str, ...], data: bytes | str | None) -> Trust:
    """Return what a file knows of how far it can be trusted; text is base 64.

    Raises `ExportError` where it cannot be that.
    """
    from safetensors import SafetensorError

    try:
        if isinstance(data, str):
            data = base64.b64decode(data, validate=True)
        arrays = stored.from_bytes(data)
        wrong = fault(arrays, len(classes))
        if not wrong:
            return Trust.from_arrays(classes, arrays)
    except AllkitError as error:
        wrong = str(error)
    except (SafetensorError, binascii.Error, ValueError, KeyError, TypeError) as error:
        wrong = f"its limits cannot be read ({str(error)[:120]})"
    raise ExportError(f"{path}: {wrong.rstrip('.')}. Export the model again.")
