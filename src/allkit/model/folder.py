"""The model folder: written whole, checked before anything in it is parsed, free of pickle.

model.safetensors   arrays, under `network.`, `calibration.`, `familiarity.`
model.json          everything else that is needed to answer, and where it came from
README.md           the model card, for people; editing it only warns
SHA256SUMS          hashes of the above, in the form of sha256sum
plots/              pictures
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from allkit.errors import CheckpointError
from allkit.files import whole_folder, write_whole
from allkit.model.info import FORMAT, ModelInfo

__all__ = ["read_card", "read_model", "write_card", "write_model"]

ARRAYS, INFO, CARD, SUMS = "model.safetensors", "model.json", "README.md", "SHA256SUMS"


def write_model(
    folder: Path,
    info: ModelInfo,
    arrays: Mapping[str, Any],
    *,
    card: str,
    pictures: Mapping[str, bytes],
    overwrite: bool,
) -> None:
    """Write the folder whole or not at all; `arrays` maps names to torch tensors."""
    from safetensors.torch import save

    with whole_folder(folder, overwrite=overwrite) as building:
        files = {
            ARRAYS: save(dict(arrays)),
            INFO: (info.model_dump_json(indent=1) + "\n").encode(),
            CARD: card.encode(),
        }
        sums = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()
        )
        for name, data in {**files, SUMS: sums.encode()}.items():
            (building / name).write_bytes(data)
        (building / "plots").mkdir()
        for name, data in pictures.items():
            (building / "plots" / name).write_bytes(data)


def read_card(folder: Path) -> str:
    """Return the model card of a folder; empty where it was removed."""
    path = folder / CARD
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def write_card(folder: Path, card: str) -> None:
    """Replace the model card of a folder, and its hash."""
    sums = (folder / SUMS).read_text(encoding="ascii").splitlines()
    others = [line for line in sums if not line.endswith(f"  {CARD}")]
    # The card first: between the two, a load warns of it, and answers.
    write_whole(folder / CARD, card)
    line = f"{hashlib.sha256(card.encode()).hexdigest()}  {CARD}"
    write_whole(folder / SUMS, "\n".join([*others, line]) + "\n")


def read_model(folder: Path) -> tuple[ModelInfo, dict[str, Any]]:
    """Return what a model folder holds: its description and its arrays, as torch tensors.

    Raises `CheckpointError` when the folder or a file is missing, a byte was changed, or it was
    written by a newer allkit.
    """
    from safetensors.torch import load

    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a model folder: it {'is a file' if folder.exists() else 'does not exist'}. "
            f"Give the folder that `allkit train --out` wrote."
        )
    files = _checked(folder)
    try:
        raw = json.loads(files[INFO])
        version = raw["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / INFO} is not a model description.") from None
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(
            f"{folder} has the format {version!r}; this allkit reads up to {FORMAT}. Update allkit."
        )
    try:
        info = ModelInfo.model_validate_json(files[INFO])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{folder / INFO}: {where}: {first['msg']}.") from None
    return info, load(files[ARRAYS])


def _checked(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files that matter, after their hashes were found to be right."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        raise CheckpointError(
            f"{folder} has no readable {SUMS}, so nothing in it can be trusted. Give the folder "
            f"that `allkit train --out` wrote, whole."
        ) from None
    sums: dict[str, str] = {}
    for line in lines:
        parts = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if parts is None:
            raise CheckpointError(
                f"{folder / SUMS} is damaged at {line[:80]!r}. Copy the model again."
            )
        sums[parts[2]] = parts[1]
    files: dict[str, bytes] = {}
    for name in (ARRAYS, INFO):
        try:
            files[name] = (folder / name).read_bytes()
        except OSError:
            raise CheckpointError(f"{folder} lacks {name}. Copy the whole folder again.") from None
        if hashlib.sha256(files[name]).hexdigest() != sums.get(name):
            raise CheckpointError(
                f"{folder / name} was altered or damaged: its hash is not the one in {SUMS}. Copy "
                f"the folder again from where it was made, or train again."
            )
    card = folder / CARD
    if not card.is_file() or hashlib.sha256(card.read_bytes()).hexdigest() != sums.get(CARD):
        warnings.warn(
            f"The model card {card} was edited or removed after the training.", stacklevel=5
        )
    return files
