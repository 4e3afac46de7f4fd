"""The model folder: written whole, checked before anything in it is parsed, free of pickle.

model.safetensors   arrays, under `network.`, `calibration.`, `familiarity.`
model.json          everything else that is needed to answer, and where it came from
README.md           the model card, for people; editing it only warns
plots/              pictures; changing them only warns
SHA256SUMS          hashes of the above, in the form of sha256sum
SIGNATURE           who vouches for it, where someone does
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from allkit.errors import CheckpointError
from allkit.files import whole_folder, write_whole
from allkit.model.info import FORMAT, ModelInfo
from allkit.runtime.fields import checked
from allkit.runtime.reading import MOST_BYTES, look_alike, named_otherwise, parse_json, read_plain
from allkit.runtime.signature import IN_FOLDER, doubt, require_trusted, sums_hash

__all__ = ["check_folder", "read_card", "read_model", "write_card", "write_model"]

ARRAYS, INFO, CARD, SUMS = "model.safetensors", "model.json", "README.md", "SHA256SUMS"
PLOTS = "plots"
MOST = {ARRAYS: MOST_BYTES, INFO: 64 * 2**20, CARD: 16 * 2**20, SUMS: 2**20}
MOST_OF_PICTURE, MOST_PICTURES = 64 * 2**20, 1000
LINE = re.compile(
    rb"([0-9a-f]{64})  (model\.safetensors|model\.json|README\.md|plots/[\w](?: ?[\w.+-]){0,99})"
)
OF_OTHERS = {".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".gitattributes", ".gitignore"}
"""What systems and git put into folders; nobody needs to be told."""
UNLIKE = 16
"""Digits in which the hashes of two texts differ at least; fewer: a digit of the hash was changed."""


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

    with whole_folder(folder, overwrite=overwrite, former=INFO) as building:
        files = {
            ARRAYS: save(dict(arrays)),
            INFO: (info.model_dump_json(indent=1) + "\n").encode(),
            CARD: card.encode(),
        } | {f"{PLOTS}/{name}": data for name, data in sorted(pictures.items())}
        sums = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()
        )
        (building / PLOTS).mkdir()
        for name, data in {**files, SUMS: sums.encode()}.items():
            (building / name).write_bytes(data)


def read_card(folder: Path) -> str:
    """Return the model card of a folder; empty where it was removed."""
    try:
        return read_plain(folder / CARD, CheckpointError, most=MOST[CARD]).decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise CheckpointError(f"{folder / CARD} is not UTF-8 text. Save it as UTF-8.") from None


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

    Raises `CheckpointError` when the folder or a file is missing, a byte was changed, a value makes
    no sense, or it was written by a newer allkit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    files = check_folder(folder, warn_at=5)
    try:
        raw = parse_json(files[INFO])
    except ValueError as error:
        raise CheckpointError(
            f"{folder / INFO} is not a model description: {error}. Copy the folder again."
        ) from None
    if not isinstance(raw, dict) or "format" not in raw:
        raise CheckpointError(f"{folder / INFO} is not a model description: it has no `format`.")
    version = raw["format"]
    if type(version) is not int or version < 1:
        raise CheckpointError(
            f"{folder / INFO}: format = {str(version)[:40]!r} is no whole number from 1 on."
        )
    if version > FORMAT:
        raise CheckpointError(
            f"{folder} has the format {str(version)[:40]}; this allkit reads up to {FORMAT}. Update allkit."
        )
    info = checked(ModelInfo, raw, folder / INFO, CheckpointError)
    try:
        return info, load(files[ARRAYS])
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        what = (
            look_alike(files[ARRAYS]) or f"holds no arrays that can be read ({str(error)[:120]})."
        )
        raise CheckpointError(f"{folder / ARRAYS} {what}") from None


def check_folder(folder: Path, *, warn_at: int = 3) -> dict[str, bytes]:
    """Return the bytes of the files that decide answers, after all hashes were found to be right.

    Warns, at the caller `warn_at` frames up, where the card or a picture was changed, a signature is
    damaged or not its own, or where there is a file that allkit did not write. Raises
    `CheckpointError` for everything else, and where the site trusts certain keys only and none of
    them signed it.
    """
    if not folder.is_dir():
        raise CheckpointError(_no_folder(folder))
    try:
        listed = read_plain(folder / SUMS, CheckpointError, most=MOST[SUMS])
    except FileNotFoundError:
        raise CheckpointError(_no_sums(folder)) from None
    sums = _parsed(folder, listed)
    require_trusted(folder, sums_hash(listed))
    files = {name: _read(folder, name, sums) for name in (ARRAYS, INFO)}
    doubted = doubt(folder, sums_hash(listed))
    for what in [*([doubted] if doubted else []), *_changed(folder, sums)]:
        warnings.warn(what, stacklevel=warn_at)
    return files


def _no_folder(folder: Path) -> str:
    if not folder.exists():
        return (
            f"{folder} is not a model folder: it does not exist. Give the folder that `allkit train "
            f"--out` wrote."
        )
    what = named_otherwise(folder)
    if folder.is_file():
        with folder.open("rb") as stream:
            what = look_alike(stream.read(2**20)) or what
    if what:
        return f"{folder} {what}"
    return f"{folder} is not a model folder: it is a file. Give the folder that `allkit train --out` wrote."


def _no_sums(folder: Path) -> str:
    within = sorted(path.parent.name for path in folder.glob(f"*/{SUMS}"))[:3]
    if within:
        return (
            f"{folder} is not a model folder, but the folder above one. Give {folder / within[0]}"
        )
    if folder.suffix == ".part":
        return f"{folder} is a model folder that was not written whole. Train or save it again."
    if (folder / "run.json").is_file():
        return (
            f"{folder} is what an unfinished training keeps, not a model. Give the same `allkit train` "
            f"again with --resume."
        )
    return (
        f"{folder} has no {SUMS}, so nothing in it can be trusted. Give the folder that `allkit train "
        f"--out` wrote, whole."
    )


def _parsed(folder: Path, listed: bytes) -> dict[str, str]:
    """Return the hashes by name; every byte of the list must be as allkit writes it."""
    what = look_alike(listed)
    if what:
        raise CheckpointError(f"{folder / SUMS} {what}")
    lines = listed.split(b"\n")
    sums: dict[str, str] = {}
    for line in lines[:-1] if lines[-1] == b"" else lines:
        parts = LINE.fullmatch(line)
        name = parts[2].decode() if parts else ""
        if parts is None or name in sums or len(sums) > MOST_PICTURES:
            shown = line[:120].decode("ascii", "replace")
            raise CheckpointError(
                f"{folder / SUMS} is damaged, or names what allkit does not write, at {shown!r}. Copy the "
                f"model again."
            )
        sums[name] = parts[1].decode()
    if lines[-1] != b"":
        raise CheckpointError(
            f"{folder / SUMS} is damaged: its end is missing. Copy the model again."
        )
    return sums


def _read(folder: Path, name: str, sums: Mapping[str, str]) -> bytes:
    """Return the bytes of a file whose hash must be right."""
    try:
        data = read_plain(folder / name, CheckpointError, most=MOST[name])
    except FileNotFoundError:
        raise CheckpointError(f"{folder} lacks {name}. Copy the whole folder again.") from None
    if hashlib.sha256(data).hexdigest() != sums.get(name):
        what = look_alike(data)
        if what:
            raise CheckpointError(f"{folder / name} {what}")
        raise CheckpointError(
            f"{folder / name} was altered or damaged: its hash is not the one in {SUMS}. Copy "
            f"the folder again from where it was made, or train again."
        )
    return data


def _changed(folder: Path, sums: Mapping[str, str]) -> Iterator[str]:
    """Yield what differs from what was written and decides no answer, in sentences."""
    card = _hash(folder, CARD)
    if card != sums.get(CARD):
        _require_another(folder, CARD, card, sums.get(CARD))
        yield f"The model card {folder / CARD} was edited or removed after the training."
    pictures = [name for name in sums if name.startswith(f"{PLOTS}/")]
    for name in pictures:
        found = _hash(folder, name)
        if found != sums[name]:
            _require_another(folder, name, found, sums[name])
            yield f"The picture {folder / name} was changed or removed after the training."
    known = {ARRAYS, INFO, CARD, SUMS, IN_FOLDER, PLOTS, *OF_OTHERS}
    further = [path.name for path in folder.iterdir() if path.name not in known]
    plots = folder / PLOTS
    if plots.is_symlink():
        further.append(f"{PLOTS} (a link)")
    elif pictures and plots.is_dir():
        inside = [p.name for p in plots.iterdir() if p.name not in OF_OTHERS]
        others = [n for n in inside if f"{PLOTS}/{n}" not in sums]
        if any(_hash(folder, f"{PLOTS}/{name}") in sums.values() for name in others):
            raise CheckpointError(f"{folder / SUMS} is damaged. Copy the model again.")
        further += [f"{PLOTS}/{name}" for name in others]
    if further:
        shown = ", ".join(repr(name) for name in sorted(further)[:5])
        yield (
            f"{folder} holds {len(further)} files or folders that allkit did not write ({shown}); "
            f"they are not used."
        )


def _require_another(folder: Path, name: str, found: str, listed: str | None) -> None:
    """Refuse a hash that is nearly right: then not the file was changed, but the list of hashes."""
    if listed and found and sum(a != b for a, b in zip(found, listed, strict=True)) < UNLIKE:
        raise CheckpointError(
            f"{folder / SUMS} is damaged in the line of {name}. Copy the model again."
        )


def _hash(folder: Path, name: str) -> str:
    """Return the hash of a file that decides no answer; empty where it cannot be read."""
    most = MOST.get(name, MOST_OF_PICTURE)
    if name.startswith(f"{PLOTS}/") and (folder / PLOTS).is_symlink():
        return ""
    try:
        return hashlib.sha256(read_plain(folder / name, CheckpointError, most=most)).hexdigest()
    except (FileNotFoundError, NotADirectoryError, CheckpointError):
        return ""
