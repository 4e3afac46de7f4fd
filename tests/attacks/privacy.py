"""Names of patients in everything that goes in: none of them may lie in what is made of it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from attacks import Counts, Scale

TITLE = "Privacy"
CANARY = "Zqxwvut"
"""The beginning of every name of a patient; no word, no name of a file of any package."""


def spoiled(table: Path, folder: Path) -> Path:
    """Write a drawn set again with a patient's name in every place there is; return its table."""
    import csv

    folder.mkdir()
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    patients = {
        group: f"{CANARY}Group{n:02d}"
        for n, group in enumerate(dict.fromkeys(r["group"] for r in rows))
    }
    written = []
    for number, row in enumerate(rows):
        kind = (".png", ".jpg", ".tif")[number % 3]
        path = folder / f"{CANARY}Folder" / f"{CANARY}File{number}{kind}"
        path.parent.mkdir(exist_ok=True)
        _image(table.parent / row["image"], path)
        written.append({
            "image": str(path.relative_to(folder)), "label": row["label"],
            "group": patients[row["group"]], "case": f"{CANARY}Case{patients[row['group']][-2:]}",
            "slide": f"{CANARY}Slide{patients[row['group']][-2:]}", "remark": f"{CANARY}Column",
        })  # fmt: skip
    path = folder / f"{CANARY}Table.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(written[0]))
        writer.writeheader()
        writer.writerows(written)
    return path


def _image(source: Path, path: Path) -> None:
    image = Image.open(source).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = f"{CANARY}Exif"
    if path.suffix == ".png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Patient", f"{CANARY}PngText")
        texts.add_itxt("Comment", f"{CANARY}PngText", zip=True)
        image.save(path, pnginfo=texts, exif=exif)
    elif path.suffix == ".jpg":
        image.save(path, quality=95, exif=exif, comment=f"{CANARY}Comment".encode())
    else:
        image.save(path, description=f"{CANARY}TiffText", artist=f"{CANARY}TiffText")


_FORMS = [re.compile(re.escape(form), re.IGNORECASE) for form in (
    CANARY.encode(), CANARY.encode("utf-16-le"), CANARY.encode("utf-16-be"), CANARY.encode("utf-32-le"),
)]  # fmt: skip


def found_in(data: bytes) -> bool:
    """Return whether a name lies in bytes, in any usual form, also packed as in a zip or a PNG."""
    import base64
    import zlib

    codes = {base64.b64encode(b"\0" * n + CANARY.encode())[4 if n else 0 : -4] for n in range(3)}
    if any(form.search(data) for form in _FORMS) or any(
        code in data for code in codes if len(code) > 3
    ):
        return True
    for match in re.finditer(rb"x[\x01\x5e\x9c\xda]|PK\x03\x04", data):
        with contextlib.suppress(zlib.error):
            raw = match[0][:1] == b"P"
            start = match.start()
            if raw:
                start += 30 + int.from_bytes(data[start + 26 : start + 28], "little")
                start += int.from_bytes(data[match.start() + 28 : match.start() + 30], "little")
            inner = zlib.decompressobj(-15 if raw else 15).decompress(data[start:], 1 << 22)
            if any(form.search(inner) for form in _FORMS):
                return True
    return False


def searched(counts: Counts, root: Path, what: str) -> None:
    """Count each file below a folder: right, if neither its name nor its bytes hold a name."""
    for path in sorted(root.rglob("*")):
        named = CANARY.lower() in str(path.relative_to(root)).lower()
        if named or (path.is_file() and found_in(path.read_bytes())):
            counts.failed.append(f"{what}: {path.relative_to(root)}")
        elif path.is_file():
            counts.right += 1


@contextlib.contextmanager
def listening(said: io.StringIO) -> Iterator[None]:
    """Keep what is logged, at any level."""
    handler = logging.StreamHandler(said)
    logger = logging.getLogger("allkit")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextlib.contextmanager
def _places(folder: Path) -> Iterator[dict[str, Path]]:
    """Give a cache and a folder of temporary files of their own."""
    import tempfile

    places = {name: folder / name for name in ("cache", "temporary", "made")}
    for path in places.values():
        path.mkdir(parents=True)
    before = {name: os.environ.get(name) for name in ("ALLKIT_CACHE", "TMPDIR")}
    os.environ |= {"ALLKIT_CACHE": str(places["cache"]), "TMPDIR": str(places["temporary"])}
    tempfile.tempdir = None
    try:
        yield places
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        tempfile.tempdir = None


FOREIGN = ("matplotlib", "torch")
"""Folders of libraries in the cache: lists of fonts and compiled code."""


def open_to_others(root: Path) -> list[str]:
    """Return what below a folder others may read or write, though the folder itself keeps them out."""
    return [
        f"{path.relative_to(root)} {path.stat().st_mode & 0o777:o}"
        for path in sorted(root.rglob("*"))
        if path.stat().st_mode & 0o077 and path.relative_to(root).parts[0] not in FOREIGN
    ]


def run(scale: Scale, folder: Path, settings: dict[str, Any] | None = None) -> dict[str, Counts]:
    """Train, save, export, evaluate, explain and answer on a set that is full of names."""
    import allkit
    from allkit.data.drawn import write_smears
    from allkit.features import FeatureCache

    table = spoiled(write_smears(folder / "drawn", 24, groups=12, seed=3), folder / "given")
    quick = settings or {
        "backbone": "timm:test_resnet", "weights": "none", "epochs": 2, "calibration_folds": 0,
        "view": "rgb", "bag": "field",
    }  # fmt: skip
    lines = {
        name: Counts()
        for name in ("model folders", "exported files", "cache", "temporary files", "log")
    }
    said = io.StringIO()
    ways: list[dict[str, Any]] = [{}]
    if scale == "long":
        ways += [{"strategy": "last"}, {"folds": 3}, {"bag": "both"}, {"calibration_folds": 2}]
    with _places(folder) as places, listening(said), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number, way in enumerate(ways):
            data = allkit.Dataset.open(table)
            out = places["made"] / f"model{number}"
            trainer = allkit.Trainer(**quick | {"cache": FeatureCache()} | way)
            model = trainer.fit(data, out=out)
            evaluation = model.evaluate(data, probes=scale == "long")
            if scale == "long":
                allkit.adapt(model, data).save(places["made"] / f"adapted{number}")
            searched(lines["model folders"], places["made"], f"{way}")
            exports = folder / f"exports{number}"
            exports.mkdir()
            for name in ("onnx", "pt2") if scale == "long" else ("onnx",):
                model.export(
                    exports / f"m.{'onnx' if name == 'onnx' else 'pt2'}", format=name, check=data
                )
            (exports / "evaluation.json").write_text(str(evaluation.to_dict()))
            searched(lines["exported files"], exports, f"{way}")
        searched(lines["cache"], places["cache"], "")
        lines["cache"].failed += [f"others may read {p}" for p in open_to_others(places["cache"])]
        searched(lines["temporary files"], places["temporary"], "")
        lines["temporary files"].right += 1
    text = said.getvalue() + "\n".join(str(w.message) for w in warned)
    for line in text.splitlines() or [""]:
        if CANARY.lower() in line.lower():
            lines["log"].failed.append(line)
        else:
            lines["log"].right += 1
    lines["group identities tried by number"] = _guessed(places["made"] / "model0")
    return lines


def _guessed(model: Path) -> Counts:
    """Try to find the groups of a model as one who has the folder, and not the key of the site."""
    import hashlib
    import hmac
    import json

    counts = Counts()
    kept = json.loads((model / "model.json").read_text())["data"]["groups_sha256"]
    names = [f"{CANARY}Group{n:02d}" for n in range(12)]
    for name in names:
        text = f"group {name}".encode()
        tried = [hashlib.sha256(text).hexdigest(), hashlib.sha256(name.encode()).hexdigest()]
        tried += [hmac.new(key, text, hashlib.sha256).hexdigest() for key in (b"", b"\0" * 32)]
        if any(digest[:16] in entry for digest in tried for entry in kept):
            counts.failed.append(f"{name} was recognised without the key")
        else:
            counts.right += 1
    assert len(kept) == len(names)
    return counts


__all__ = [
    "CANARY",
    "TITLE",
    "found_in",
    "listening",
    "open_to_others",
    "run",
    "searched",
    "spoiled",
]
