"""Tables as people have them: each is read rightly, or refused with one error that names the cause."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from allkit.data.dataset import Dataset
from allkit.data.listed import table_images
from allkit.errors import AllkitError
from attacks import Counts, Scale

TITLE = "Tables as they come"

GOOD = [("a.png", "Pro", "101"), ("b.png", "Pre", "102"), ("c.png", "Pre", None)]
"""The rows that every good table below holds: image, label, group."""
NONE = (
    "", "NA", "N/A", "n/a", "#N/A", "#NV", "#NULL!", "#REF!", "NULL", "null", "NaN", "nan", "None", "NaT",
    "<NA>", "-", " ", "\xa0", "\u3000", "\u200b", ".", "?", "(null)", "-1", "-1.0", "#N/A N/A", "-nan",
    "-99", "−1", "-1.", "k.A.", "n. a.", "(blank)", "[null]", "…", "..", "???", "NA_character_", "pd.NA",
    "#¡VALOR!", "#¿NOMBRE?", "#HIÁNYZIK", "#GETTING_DATA",
)  # fmt: skip
"""How programs write that there is no value."""


class Case(NamedTuple):
    """A table as bytes, the end of its name, and a word of the error that refuses it, if it has to be."""

    data: bytes
    wrong: str | None = None
    suffix: str = ".csv"


def text(
    rows: list[tuple[Any, ...]] = GOOD,
    between: str = ",",
    head: str = "image,label,group",
    end: str = "\n",
) -> str:
    lines = [head.replace(",", between)]
    lines += [between.join("" if cell is None else str(cell) for cell in row) for row in rows]
    return end.join(lines) + end


def group(first: object, second: object = "102", third: object = "") -> list[tuple[Any, ...]]:
    return [("a.png", "Pro", first), ("b.png", "Pre", second), ("c.png", "Pre", third)]


def as_they_come() -> Iterator[tuple[str, Case]]:
    """Yield every small table with its name."""
    plain = text()
    for name, between in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|"), ("commas", ",")):
        for suffix in (".csv", ".tsv"):
            yield f"{name} in {suffix}", Case(text(between=between).encode(), suffix=suffix)
        yield f"sep= and {name}", Case(f"sep={between}\n{text(between=between)}".encode())
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        yield encoding, Case(plain.encode(encoding))
    yield "UTF-16 without mark", Case(plain.encode("utf-16-le"), "null character")
    yield "cp1252", Case(plain.replace("Pro", "Prö").encode("cp1252"), "UTF-8")
    for name, end in (("Windows", "\r\n"), ("old Mac", "\r")):
        yield f"lines of {name}", Case(text(end=end).encode())
    for head in (
        "Image,LABEL,Group", " image , label , group ", '"image","label","group"', "\ufeffimage,label,group",
        "image\xa0,label,group",
    ):  # fmt: skip
        yield f"header {head!r}", Case(text(head=head).encode())
    yield (
        "index of pandas",
        Case(b",image,label,group\n0,a.png,Pro,101\n1,b.png,Pre,102\n2,c.png,Pre,\n"),
    )
    yield "blank lines", Case(plain.replace("\nb", "\n\n,,\nb").encode())
    yield "title above", Case(b"\n\n" + plain.encode())
    yield (
        "two columns of one name",
        Case(text(head="image,label,label").encode(), "two columns 'label'"),
    )
    yield "capitals twice", Case(text(head="image,Label,LABEL").encode(), "two columns")
    yield "header again", Case(plain.replace("\nb", "\nimage,label,group\nb").encode(), "line 3")
    yield (
        "cells too many",
        Case(plain.replace("Pre,102", "small, round,Pre,102").encode(), "line 3"),
    )
    yield "cells too few", Case(plain.replace("Pre,102", "Pre").encode(), "line 3")
    yield (
        "cell under no name",
        Case(b"image,label,group,\na.png,Pro,101,\nb.png,Pre,102,x\nc.png,Pre,,\n", "line 3"),
    )
    yield (
        "empty columns",
        Case(b"image,label,group,,\na.png,Pro,101,,\nb.png,Pre,102,,\nc.png,Pre,,,\n"),
    )
    yield (
        "backslashes",
        Case(b"image,label,group\n.\\a.png,Pro,101\n.\\b.png,Pre,102\nc.png,Pre,\n"),
    )
    yield "another machine", Case(b"image,label\nC:\\smears\\a.png,Pro\nb.png,Pre\n", "backslashes")
    yield "quotation mark not closed", Case(plain.replace("Pre,102", '"Pre,102').encode(), "line 3")
    yield "text behind quotation", Case(plain.replace("Pre,102", '"Pre"x,102').encode(), "line 3")
    yield "null character", Case(plain.replace("Pre,102", "Pre\0,102").encode(), "null character")
    yield (
        "lines in a cell",
        Case(
            b'image,label,remark,group\na.png,Pro,"two\nlines",101\nb.png,Pre,"x, y",102\nc.png,Pre,,\n'
        ),
    )
    yield (
        "error behind lines in a cell",
        Case(
            b'image,label,remark\na.png,Pro,"two\nlines"\nb.png,,\nc.png,Pre,\n',
            "line 4: b.png has no label",
        ),
    )
    yield "line in a label", Case(b'image,label\na.png,"Pro\nx"\nb.png,Pre\n', "line 3")
    yield "hidden sign in a group", Case(text(group("1\u202e01")).encode(), "U+202E")
    for name, data in (
        ("empty", b""),
        ("blank", b"\n \n"),
        ("header only", b"image,label,group\n"),
    ):
        yield name, Case(data, "has no rows" if name == "header only" else "empty")
    yield "a million columns", Case(b"image,label," + b"x," * 1_000_000 + b"\n", "characters")
    yield "a line of 20 MB", Case(plain.encode() + b"d.png," + b"x" * 20_000_000, "characters")
    yield "a cell of 200 KB", Case(plain.replace("102", "1" * 200_000).encode(), "line 3")
    yield "workbook", Case(b"PK\x03\x04" + bytes(100), "Excel")
    yield "workbook by its name", Case(b"PK\x03\x04" + bytes(100), "Save it as CSV", ".xlsx")
    yield "Parquet called CSV", Case(b"PAR1" + bytes(100), "Parquet")
    yield (
        "no Parquet",
        Case(b"PAR1" + bytes(100) + b"PAR1", "cannot be read as Parquet", ".parquet"),
    )
    for name, top in (
        ("remark", "# by R\n"),
        ("sep= of another delimiter", "sep=;\n"),
        ("sep= of a tab, spelled out", "sep=\\t\n"),
    ):
        yield name, Case((top + plain).encode())
    yield "title", Case(b"Results,,\n" + plain.encode(), "they stand in line 2")
    yield "Ctrl-Z", Case(plain.encode() + b"\x1a")
    yield "empty cells behind rows", Case(plain.replace("102", "102,,").encode())
    yield (
        "names of rows",
        Case(b"image,label,group\n1,a.png,Pro,101\n2,b.png,Pre,102\n", "row.names"),
    )
    for suffix in (".csv", ".tsv", ".parquet"):
        pointer, page = (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            b"<!DOCTYPE html>\n",
        )
        yield f"pointer as {suffix}", Case(pointer, "Git LFS", suffix)
        yield f"page as {suffix}", Case(page, "web page", suffix)
    for word in ("unknown", "missing", "not available", "nd", "-2"):
        yield f"group {word!r}", Case(text(group("101", "102", word)).encode())
    for first in ("101.", "101,0", "１０１", "\xa0101.00"):
        yield f"number {first!r}", Case(text(group(first, "102"), between=";").encode())
    yield "same image twice", Case(plain.encode() + b"./a.png,Pro,101\n", "listed, as a.png, again")
    yield "unknown column", Case(text(head="file,label,group").encode(), "has no column 'image'")
    for word in NONE:
        yield f"group {word!r}", Case(text(group("101", "102", word)).encode())
        labels = [("a.png", "Pro", "101"), ("b.png", word, "102"), ("c.png", "Pre", "")]
        yield f"label {word!r}", Case(text(labels).encode(), "has no label")
    for first, second in (("101.0", "102.0"), ("101", "102.0"), ("101.00", "102")):
        yield f"numbers {first} {second}", Case(text(group(first, second, "NA")).encode())
    for number in ("1.23457E+11", "9007199254740993.0", "1e+16"):
        yield f"number {number}", Case(text(group(number)).encode(), "last digits are lost")


def typed(folder: Path) -> Iterator[tuple[str, Any, str | None]]:
    """Yield data frames: name, frame, and a word of the error that refuses it."""
    import datetime
    import decimal

    import numpy as np
    import pandas as pd

    def frame(groups: Any, **kind: Any) -> pd.DataFrame:
        images, labels = ["a.png", "b.png", "c.png"], ["Pro", "Pre", "Pre"]
        return pd.DataFrame({"image": images, "label": labels, "group": pd.Series(groups, **kind)})

    for kind in ("float64", "Int64", "Float64", "object", "category", "int64[pyarrow]", "float32"):
        yield f"numbers as {kind}", frame([101, 102, None], dtype=kind), None
    yield "nothing said", frame([101, 102, None]).convert_dtypes(), None
    for none in (
        None,
        np.nan,
        pd.NA,
        pd.NaT,
        np.datetime64("NaT"),
        decimal.Decimal("NaN"),
        "#N/A",
        -1,
    ):
        yield f"none as {none!r}", frame([101, "102", none], dtype="object"), None
    yield (
        "decimals",
        frame([decimal.Decimal("101.0"), decimal.Decimal(102), None], dtype="object"),
        None,
    )
    yield "bytes", frame([b"101", b"102", None], dtype="object"), None
    yield "capitals", frame([101, 102, None]).rename(columns={"group": " Group "}), None
    yield "lists", frame([[1], [2], None], dtype="object"), "is a list"
    yield "two columns", pd.concat([frame([1, 2, 3]), frame([1, 2, 3])], axis=1), "two columns"
    yield "lost digits", frame([2.0**53 + 2, 1.0, None]), "cannot hold all digits"
    yield (
        "lost digits of 32 bits",
        frame([2**24 + 2, 1, None], dtype="float32"),
        "cannot hold all digits",
    )
    yield "no frame", {"image": ["a.png"]}, "data frame"
    for none in (pd.NA, None, -1, float("nan")):
        missing = frame([101, 102, None])
        missing["label"] = pd.Series(["Pro", none, "Pre"], dtype="object")
        yield f"label {none!r}", missing, "has no label"
    for days in (
        pd.to_datetime(["2020-01-01", "2020-01-02", None]),
        [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), None],
        ["2020-01-01 00:00:00", "2020-01-02T00:00:00", None],
    ):
        yield "dates", frame(days).assign(group=lambda f: f["group"]), "dates"


def rows_of(dataset: Dataset) -> list[tuple[str, str | None, str | None]]:
    return [(s.image.removeprefix("./"), s.label, s.group) for s in dataset]


def attempt(
    counts: Counts, name: str, work: Callable[[], Any], wanted: Any, wrong: str | None
) -> None:
    """Try one table: its rows have to be those wanted, or its error has to hold a word."""
    try:
        found = work()
    except AllkitError as error:
        if wrong is not None and wrong in str(error) and len(str(error)) < 2000:
            counts.refused += 1
        else:
            counts.failed.append(f"{name}: {str(error)[:200]}")
    except Exception as error:  # noqa: BLE001 - what is foreign is counted
        counts.failed.append(f"{name}: {type(error).__name__}: {error}"[:200])
    else:
        if wrong is None and found == wanted:
            counts.right += 1
        else:
            counts.failed.append(f"{name}: {found}"[:200])


def damaged_parquet(folder: Path, count: int) -> Counts:
    """Flip bits of a Parquet table: it is refused, or read without a foreign exception."""
    import pandas as pd

    counts, rng = Counts(), random.Random(0)
    path = folder / "whole.parquet"
    pd.DataFrame(GOOD, columns=["image", "label", "group"]).to_parquet(path)
    whole = path.read_bytes()
    for number in range(count):
        data = bytearray(whole[: rng.randrange(len(whole))] if number % 4 == 0 else whole)
        for _ in range(rng.randint(1, 8)):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged = folder / "damaged.parquet"
        damaged.write_bytes(data)
        try:
            list(table_images(damaged))
            Dataset.open(damaged)
        except AllkitError:
            counts.refused += 1
        except Exception as error:  # noqa: BLE001 - what is foreign is counted
            counts.failed.append(f"damaged Parquet {number}: {type(error).__name__}: {error}"[:200])
        else:
            counts.right += 1
    return counts


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Read every table as a set of images, and as the images that `predict` answers."""
    for image, _, _ in GOOD:
        (folder / image).write_bytes(b"")
    sets, listed, frames, parquet = Counts(), Counts(), Counts(), Counts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, case in as_they_come():
            path = folder / f"t{case.suffix}"
            path.write_bytes(case.data)
            attempt(sets, name, lambda p=path: rows_of(Dataset.open(p)), GOOD, case.wrong)
            if case.wrong is None:
                images = [(image, "") for image, _, _ in GOOD]
                attempt(
                    listed,
                    name,
                    lambda p=path: [(n.removeprefix("./"), v) for n, v in table_images(p)],
                    images,
                    None,
                )
        days = [(i, label, g and f"2020-01-{g[1:]}") for i, label, g in GOOD]
        for name, frame, wrong in typed(folder):
            wanted, word = (days, None) if wrong == "dates" else (GOOD, wrong)
            attempt(
                frames,
                name,
                lambda f=frame: rows_of(Dataset.from_dataframe(f, folder)),
                wanted,
                word,
            )
            path = folder / "t.parquet"
            try:
                frame.to_parquet(path)
            except Exception:  # noqa: BLE001 - not every frame can be written by pandas
                continue
            attempt(parquet, name, lambda p=path: rows_of(Dataset.open(p)), wanted, word)
    return {
        "CSV and TSV as sets of images": sets,
        "CSV and TSV for `predict`": listed,
        "data frames": frames,
        "Parquet": parquet,
        "Parquet with flipped bits": damaged_parquet(folder, 60 if scale == "short" else 2000),
    }
