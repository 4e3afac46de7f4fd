"""Images made to harm, given to the reader and to what reads through it."""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from allkit.errors import AllkitError
from attacks import Counts, Scale
from attacks._hostile import hostile, large, mutant, valid
from attacks._reader import Reader

TITLE = "Hostile images"
SUFFIXES = (
    ".bmp",
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".jp2",
    ".ico",
    ".dcm",
    ".psd",
)
PACKAGES = ("imageio", "skimage", "sklearn", "matplotlib", "pydicom", "scipy", "streamlit")


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Give every file to a process that reads, and some to `check` and `predict`; 40 s in "long"."""
    long = scale == "long"
    place = folder / "image.bin"
    lines: dict[str, Counts] = {}
    with Reader() as reader:
        made = [*hostile(100 if long else 1), *(large() if long else ())]
        counts = lines["reader, made to harm"] = Counts()
        for name, make in made:
            place.write_bytes(make())
            reader.read(place, counts, name)
        rng, sound = random.Random(8), valid()
        counts = lines["reader, valid"] = Counts()
        for number, data in enumerate(sound):
            place.write_bytes(data)
            reader.read(place, counts, f"valid {number}")
        if counts.refused:
            counts.failed.append(f"{counts.refused} valid files were refused")
        counts = lines["reader, mutants"] = Counts()
        for turn in range(6000 if long else 60):
            place.write_bytes(mutant(sound[turn % len(sound)], rng))
            reader.read(place, counts, f"mutant {turn}")
        if long:
            counts = lines["reader, files of installed packages"] = Counts()
            for path in _of_packages():
                reader.read(path, counts, str(path.name))
            counts = lines["reader, Pillow's test files"] = Counts()
            for path in _of_pillow(folder):
                reader.read(path, counts, str(path.name))
    lines["`check`"] = _checked(
        folder / "set", made[: len(list(hostile(1)))] if not long else made, long
    )
    return {line: counts for line, counts in lines.items() if counts.tried}


def _of_packages() -> Iterable[Path]:
    for package in PACKAGES:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(p for p in Path(root).rglob("*") if p.suffix.lower() in SUFFIXES)


def _of_pillow(folder: Path) -> Iterable[Path]:
    """Yield the test files of the installed Pillow, from its source; none where it cannot be had."""
    import PIL

    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", ":all:", f"pillow=={PIL.__version__}", "-d", str(folder)]
    subprocess.run(command, capture_output=True, timeout=100, check=False)
    for archive in folder.glob("pillow-*.tar.gz"):
        with tarfile.open(archive) as members:
            members.extractall(folder / "pillow", filter="data")
    yield from sorted(p for p in (folder / "pillow").rglob("Tests/images/**/*") if p.is_file())


def _checked(folder: Path, made: list, long: bool) -> Counts:
    """Give hostile files to `check` among valid ones: one error each, and the others are seen."""
    import allkit

    counts = Counts()
    for label in ("ALL", "HEM"):
        (folder / label).mkdir(parents=True)
        for number, data in enumerate(valid()[9:11]):
            (folder / label / f"field {number}.tif").write_bytes(data)
    names = {}
    for number, (name, make) in enumerate(made[:16] if long else made[:6]):
        path = folder / "ALL" / f"hostile {number}.png"
        path.write_bytes(make())
        names[f"ALL/{path.name}"] = name
    try:
        found = allkit.check(folder)
    except AllkitError as error:
        counts.failed.append(f"the set was refused: {error}")
        return counts
    seen = {sample.image for sample in found.data}
    for image, name in names.items():
        if image in found.unreadable:
            counts.refused += 1
        elif image in seen:
            counts.right += 1
        else:
            counts.failed.append(f"{name}: neither an image nor unreadable")
    if len(seen) < 4:
        counts.failed.append("valid images were lost beside hostile ones")
    return counts
