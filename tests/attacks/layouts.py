"""Folders and zips as people keep them: each is read rightly, or refused with the ways out.

A layout is a list of patterns of files (`{a,b}` stands for each), with the classes that have to come
out, or `None` where it has to be refused. Every layout is tried as a folder and as a zip, and what
`predict` lists is compared with what stands in it.
"""

from __future__ import annotations

import io
import itertools
import re
import shutil
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from allkit import AllkitError, Dataset
from allkit.volume.inputs import find_images
from attacks import Counts, Scale

TITLE = "Folders and zips as they come"

FOUR = {"Benign", "Early", "Pre", "Pro"}
TWO = {"all", "hem"}
Layout = tuple[str, Sequence[str], set[str] | None]

LAYOUTS: list[Layout] = [
    ("class folders", ["{Benign,Early,Pre,Pro}/{1,2}.png"], FOUR),
    ("slides in class folders", ["{Benign,Early,Pre,Pro}/slide-{1,2}/1.png"], FOUR),
    ("shared slides in other classes", ["{all,hem}/slide{1,2}/1.png"], TWO),
    ("numbers as classes", ["{0,1}/{1,2,3}.png"], {"0", "1"}),
    ("grades", ["{grade 1,grade 2}/{a,b}.png"], {"grade 1", "grade 2"}),
    ("subtypes of FAB", ["{L1,L2,L3}/{a,b}.png"], {"L1", "L2", "L3"}),
    ("parts", ["{train,val,test}/{Benign,Pro}/1.png"], {"Benign", "Pro"}),
    ("parts in capitals", ["{Train,TEST}/{all,hem}/1.png"], TWO),
    ("parts with words that say nothing", ["{train_data,test_data}/{all,hem}/1.png"], TWO),
    ("parts inside classes", ["{all,hem}/{train,test}/1.png"], TWO),
    ("folds", ["fold_{0,1,2}/{all,hem}/1.png"], TWO),
    ("folds from 1", ["fold{1,2}/{all,hem}/1.png"], TWO),
    ("folds with blanks", ["Fold {1,2}/{all,hem}/1.png"], TWO),
    ("folds of cv", ["cv{1,2}/{Benign,Pro}/1.png"], {"Benign", "Pro"}),
    ("folds inside classes", ["{all,hem}/fold_{0,1}/1.png"], TWO),
    ("folds inside parts", ["train/fold_{0,1}/{all,hem}/1.png"], TWO),
    ("documents beside", ["{all,hem}/1.png", "docs/{readme.txt,LICENSE}", "README.md"], TWO),
    ("junk beside", ["{all,hem}/{1.png,Thumbs.db,._1.png}", "$RECYCLE.BIN/x/1.png"], TWO),
    ("trash beside", ["{all,hem}/1.png", ".Trash-1000/files/1.png", "lost+found/1.png"], TWO),
    ("thumbnails of a NAS", ["{all,hem}/{1.png,@eaDir/1.png/T.jpg}", "#recycle/1.png"], TWO),
    ("spellings of one class", ["{Early,early,early pre-B,Normal}/1.png"], {"Early", "Normal"}),
    ("wide letters", ["{Ｅａｒｌｙ,Pro}/1.png"], {"Early", "Pro"}),
    ("invisible characters", ["{Early\u200b,Pro\u00a0}/1.png"], {"Early", "Pro"}),
    ("two Unicode forms", ["{fru\u0308h,fr\u00fch,spät}/1.png"], {"früh", "spät"}),
    ("other suffixes", ["all/1.jfif", "hem/1.dib", "x/1.TIF"], {"all", "hem", "x"}),
    ("split folders", ["split_{0,1}/{all,hem}/1.png"], None),
    ("split folders of images", ["split_{0,1}/{1,2}.png"], None),
    ("numbered folders with classes", ["{1,2,3}/{all,hem}/1.png"], None),
    ("numbered folders with one class each", ["1/all/1.png", "2/hem/1.png"], None),
    ("folds of images", ["fold_{0,1}/{1,2}.png"], None),
    ("folds with other classes", ["fold_0/{a,b}/1.png", "fold_1/{c,d}/1.png"], None),
    ("parts inside folds", ["fold_{0,1}/{train,test}/{all,hem}/1.png"], None),
    ("folds inside two parts", ["{train,val}/fold_{0,1}/{all,hem}/1.png"], None),
    ("one fold", ["fold_0/{all,hem}/1.png"], None),
    ("folds beside a class", ["fold_{0,1}/{all,hem}/1.png", "other/1.png"], None),
    ("parts without classes", ["{train,val,test}/{1,2}.png"], None),
    ("an unlabelled test", ["train/{Benign,Pro}/1.png", "test/{1,2}.png"], None),
    ("a test beside classes", ["{Benign,Pro}/1.png", "test/{1,2}.png"], None),
    ("unlabelled beside classes", ["{Benign,Pro}/1.png", "unlabelled/{1,2}.png"], None),
    ("parts with other classes", ["train/{a,b}/1.png", "test/{c,d}/1.png"], None),
    ("parts twice", ["train/train/{all,hem}/1.png", "test/test/{all,hem}/1.png"], None),
    (
        "the set C-NMC whole",
        [
            "C-NMC_training_data/fold_{0,1,2}/{all,hem}/1.bmp",
            "C-NMC_test_prelim_phase_data/C-NMC_test_prelim_phase_data/{1,2}.bmp",
            "C-NMC_test_final_phase_data/{3,4}.bmp",
        ],
        None,
    ),
    ("the training of C-NMC", ["C-NMC_training_data/fold_{0,1}/{all,hem}/1.bmp"], None),
    ("patients with classes", ["patient_{1,2}/{Benign,Pro}/1.png"], None),
    ("patients with other classes", ["patient{1,2}/{all,hem}/1.png"], None),
    ("names with classes", ["{Smith,Jones}/{all,hem}/1.png"], None),
    ("one folder of classes", ["dataset/{all,hem}/1.png"], None),
    ("numbers of patients", ["{0001,0002}/{a,b}.png"], None),
    ("patients of images", ["patient_{1,2,3}/{a,b}.png"], None),
    ("slides of images", ["Slide {1,2,3}/{a,b}.png"], None),
    ("magnifications with classes", ["{40x,100x}/{Benign,Pro}/1.png"], None),
    ("magnifications with other classes", ["{40X,100X}/{all,hem}/1.png"], None),
    ("magnifications of images", ["{40x,100x}/{1,2}.png"], None),
    ("one folder of images", ["images/{1,2}.png"], None),
    ("masks beside images", ["{images,masks}/{1,2}.png"], None),
    ("masks beside classes", ["{Benign,Pro,masks}/{1,2}.png"], None),
    ("images and masks", ["{all,hem}/{images,masks}/1.png"], None),
    ("original and segmented", ["{Original,Segmented}/{Benign,Early,Pre,Pro}/1.png"], None),
    ("classes inside one of them", ["Benign/1.png", "Malignant/{Early,Pre,Pro}/1.png"], None),
    ("two words for one class", ["{benign,hematogones,AML}/1.png"], None),
    ("cases of one class", ["{Normal,normal,AML}/1.png"], None),
    ("blanks in one class", ["{AML M1,AML_M1,aml-m1.,ALL}/1.png"], None),
    ("a class of another format", ["Benign/1.png", "Pro/{1,2}.webp"], None),
    ("a class without suffixes", ["all/1.png", "hem/{1,2}"], None),
    ("a class of hidden files", ["all/1.png", "hem/{._1.png,.2.png}"], None),
    ("a class of notes", ["{Benign,Early}/1.png", "Pro/notes.txt"], None),
    ("an empty class", ["{Benign,Early}/1.png", "Pro/"], None),
    (
        "a class gone from a part",
        ["{train,test}/all/1.png", "train/hem/1.png", "test/hem/1.heic"],
        None,
    ),
    ("a class inside another one", ["{Benign,Pre,Pro,Pro/Early}/1.png"], None),
    ("one of further classes inside another", ["{AML,Normal,Normal/AML}/1.png"], None),
    ("a class inside itself", ["{Benign,Pro,Pro/Pro}/1.png"], {"Benign", "Pro"}),
    ("a copy of Windows", ["{all,hem,hem - Copy}/1.png"], None),
    ("a copy of a browser", ["{all,hem,hem (1)}/1.png"], None),
    ("a copy of macOS", ["{Benign,Pro,Pro copy 2}/1.png"], None),
    ("a backup", ["{all,hem,backup/all,backup/hem}/1.png"], None),
    ("results beside classes", ["{Benign,Pro,results}/1.png"], None),
    ("deleted images beside classes", ["{all,hem,deleted}/1.png"], None),
    ("the folder of VOC", ["JPEGImages/{1,2}.png"], None),
    ("folds in another language", ["{Faltung 1,Faltung 2}/{1,2}.png"], None),
    ("patients of C-NMC", ["{UID_11,UID_H1}/{1,2}.png"], None),
    ("a patient beside classes", ["{Benign,Pro,patient 7}/1.png"], None),
    ("dates", ["{2023-01-05,2023-02-06}/1.png"], None),
    ("Cyrillic letters", ["{\u0420re,Pre,Pro}/1.png"], None),
    ("an accent", ["{Pré,Pre,Pro}/1.png"], None),
    ("numbers of slides in numbered classes", ["{0,1}/{0,1,2}/1.png"], {"0", "1"}),
    ("a misspelt part", ["{train,vaild}/{all,hem}/1.png"], None),
    ("images side by side", ["{1,2,3}.png"], None),
    ("an image outside", ["{all,hem}/1.png", "stray.png"], None),
    ("only hidden images", [".all/1.png", "._x.png"], None),
]
"""Name, files, and the classes that have to come out."""

FORMS = [  # how the same folds and patients are called elsewhere
    *(
        f"{word}{sign}{{0,1}}"
        for word in ("fold", "Fold", "FOLD", "cv", "kfold", "k-fold")
        for sign in ("", "_", "-", " ")
    ),
]
NAMES_OF_PEOPLE = [
    f"{word}{sign}{{1,2}}"
    for word in ("patient", "Case", "SLIDE", "subject", "sample", "series")
    for sign in ("", "_", "-", " ", "_0")
]


def expanded(pattern: str) -> Iterator[str]:
    """Yield every path of a pattern with `{a,b}`."""
    pieces = re.split(r"\{([^}]*)\}", pattern)
    choices = [p.split(",") if i % 2 else [p] for i, p in enumerate(pieces)]
    yield from map("".join, itertools.product(*choices))


def image() -> bytes:
    """Return the file of a small image."""
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def made(folder: Path, patterns: Sequence[str]) -> Path:
    """Write the files of a layout."""
    content = image()
    folder.mkdir()
    for path in itertools.chain.from_iterable(map(expanded, patterns)):
        if path.endswith("/"):
            (folder / path).mkdir(parents=True)
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def zipped(folder: Path) -> Path:
    """Return a zip of a folder."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_dir() and any(path.iterdir()):
                continue  # as many tools do, only empty folders have an entry
            archive.write(path, path.relative_to(folder).as_posix())
    return target


def judge(counts: Counts, what: str, data: Path, wanted: set[str] | None) -> None:
    """Open a set and count what came of it."""
    try:
        found = set(Dataset.open(data).classes)
    except AllkitError as error:
        text = str(error)
        if wanted is not None:
            counts.failed.append(f"{what}: refused: {text}")
        elif len(text) < 20:
            counts.failed.append(f"{what}: refused without a reason: {text}")
        else:
            counts.refused += 1
    except Exception as error:  # noqa: BLE001 - that none comes is what is tried
        counts.failed.append(f"{what}: {type(error).__name__}: {error}")
    else:
        if found == wanted:
            counts.right += 1
        else:
            counts.failed.append(f"{what}: read as {sorted(found)}, wanted {wanted}")


def odd_zips(folder: Path, flips: int) -> Iterator[tuple[str, Path, bool | None]]:
    """Yield zips with odd names and damaged streams, and whether the names alone must be refused."""
    content = image()
    rng = np.random.default_rng(7)

    def zip_of(
        name: str, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED
    ) -> Path:
        path = folder / f"odd-{name}.zip"
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
            warnings.simplefilter("ignore")  # of members with one name
            for member, data in members:
                info = zipfile.ZipInfo("x")
                info.filename = member
                info.compress_type = method
                archive.writestr(info, data)
        return path

    plain = [("Benign/1.png", content), ("Pro/1.png", content)]
    for name, member, refused in [
        ("dot", "./", False), ("dots", "././Pro/./2.png", False), ("nameless", "", False),
        ("double", "Pro//2.png", False), ("back", "Pro\\2.png", False), ("up", "../2.png", True),
        ("inner", "Pro/../../2.png", True), ("root", "/Pro/2.png", True), ("drive", "C:\\Pro\\2.png", True),
        ("share", "\\\\server\\Pro\\2.png", True), ("tab", "Pro/2\t.png", False),
        ("bell", "Pro/2\x07\x1b[31m.png", False), ("umlaut", "Pro/grün.png", False),
        ("twice", "Pro/1.png", True), ("back twice", "Pro\\1.png", True), ("one word", "x", False),
        ("slash", "/", True), ("blank", " ", False), ("long", "Pro/" + "x" * 300 + ".png", False),
    ]:  # fmt: skip
        yield name, zip_of(name, [*plain, (member, content)]), refused
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        whole = zip_of(f"whole-{method}", plain, method).read_bytes()
        for flip in range(flips):
            broken = bytearray(whole)
            place = int(rng.integers(len(whole)))
            broken[place] ^= 1 << int(rng.integers(8))
            path = folder / "flipped.zip"
            path.write_bytes(broken)
            yield f"method {method}, flip {flip} at {place}", path, None
    for number in (9, 93, 98, 99):  # Deflate64 and others
        path = zip_of(f"method-{number}", plain)
        path.write_bytes(
            path.read_bytes().replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0" + bytes([number, 0]))
        )
        yield f"compression {number}", path, True


def judge_zip(counts: Counts, what: str, path: Path, refused: bool | None) -> None:
    """Open a zip and read all of it: right bytes, or one error."""
    content = zlib.crc32(image())
    try:
        data = Dataset.open(path)
        found = {zlib.crc32(sample.source.read()) for sample in data}
        find_images([str(path)])
    except AllkitError as error:
        if refused is False:
            counts.failed.append(f"{what}: refused: {error}")
        else:
            counts.refused += 1
    except Exception as error:  # noqa: BLE001 - that none comes is what is tried
        counts.failed.append(f"{what}: {type(error).__name__}: {error}")
    else:
        if refused or found != {content}:
            counts.failed.append(f"{what}: read, {len(found)} contents")
        else:
            counts.right += 1


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Try every layout as a folder, as a zip and with `predict`, then odd and damaged zips."""
    layouts = list(LAYOUTS)
    if scale == "long":
        layouts += [
            (f"folds as {f}", [f"{f}/{{{c}}}/1.png"], set(c.split(",")))
            for f in FORMS
            for c in ("all,hem", "Benign,Pro")
        ]
        layouts += [
            (f"origins as {f}", [f"{f}/{inner}1.png"], None)
            for f in NAMES_OF_PEOPLE
            for inner in ("", "{all,hem}/", "{Benign,Pro}/")
        ]
        layouts += [
            (f"{form} of a class", [f"{{{unicodedata.normalize(form, name)},Pro,ALL}}/1.png"], {unicodedata.normalize("NFC", name), "Pro", "ALL"})
            for form in ("NFC", "NFD") for name in ("früh", "naïve", "Ångström", "größer")
        ]  # fmt: skip
    lines = {
        "a folder": Counts(),
        "the same as a zip": Counts(),
        "what `predict` takes of it": Counts(),
        "odd and damaged zips": Counts(),
    }
    for name, patterns, wanted in layouts:
        data = made(folder / "set", patterns)
        judge(lines["a folder"], name, data, wanted)
        judge(lines["the same as a zip"], name, zipped(data), _in_a_zip(name, wanted))
        _compare(lines["what `predict` takes of it"], name, data)
        shutil.rmtree(data)
    for name, path, refused in odd_zips(folder, 5 if scale == "short" else 300):
        judge_zip(lines["odd and damaged zips"], name, path, refused)
    return lines


def _in_a_zip(name: str, wanted: set[str] | None) -> set[str] | None:
    """Return the classes of a zip, where one folder at the top is the folder that was zipped."""
    return TWO if name in ("the training of C-NMC", "one fold", "one folder of classes") else wanted


def _compare(counts: Counts, name: str, data: Path) -> None:
    """Require that `predict`, images without labels and sets take the same files."""
    try:
        taken = {Path(path).relative_to(data).as_posix() for path in find_images([str(data)])[0]}
        unlabelled = {sample.image for sample in Dataset.unlabelled(data)}
    except AllkitError as error:
        taken = unlabelled = set()
        if "holds no images" in str(error):
            counts.refused += 1
            return
    try:
        labelled = {sample.image for sample in Dataset.open(data)}
    except AllkitError:
        labelled = taken  # a layout that is refused holds images all the same
    if taken == unlabelled == labelled and taken:
        counts.right += 1
    else:
        counts.failed.append(f"{name}: predict {taken ^ unlabelled}, sets {taken ^ labelled}")
