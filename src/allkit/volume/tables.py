"""Rows of answers as JSON Lines, CSV or Parquet: whole tables, and tables joined from parts."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from allkit.errors import ConfigError
from allkit.records import CasePrediction, Prediction
from allkit.shown.text import cell, json_escaped, path_cell, unicode_text

__all__ = ["FORMATS", "LISTS", "encode", "join", "require_format", "row_of"]

FORMATS = (".jsonl", ".csv", ".parquet")
LISTS = ("reasons", "reason_codes", "prediction_set")
"""Columns that hold several words; in CSV they are joined with `;`."""
COUNTS = ("fields", "used", "fields_needed")
"""Columns that hold whole numbers, of units only."""
GROUP = 65_536
"""Rows of a row group in a joined Parquet file."""

Row = dict[str, Any]


def require_format(out: Path) -> None:
    """Raise `ConfigError` when no table can be written under this name."""
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out is {out}; name a {', '.join(FORMATS)} file.")
    if out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401 - only whether it is there
        except ImportError:
            raise ConfigError(
                f"{out} needs pyarrow. Type: pip install pyarrow; or name a .csv or .jsonl file."
            ) from None


def row_of(answer: Prediction | CasePrediction, classes: Sequence[str]) -> Row:
    """Return the row of an answer; a name that is no Unicode gets its bytes as `\\xNN`."""
    row = answer.to_row(classes)
    for column in ("image", "unit", "error"):
        if row.get(column) is not None:
            row[column] = unicode_text(row[column])
    return row


def encode(
    rows: Iterable[Row], suffix: str, classes: Sequence[str], *, units: bool = False
) -> bytes:
    """Return a whole file of rows, of images or of `units`; `suffix` is one of `FORMATS`."""
    if suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        return "".join(json_escaped(line) + "\n" for line in lines).encode()
    if suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = _columns(classes, units)
        writer.writerow(map(cell, columns))
        for row in rows:
            flat = row | {name: ";".join(row[name]) for name in LISTS}
            writer.writerow([_in_csv(name, flat[name]) for name in columns])
        return text.getvalue().encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), _schema(classes, units))
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _in_csv(column: str, value: Any) -> Any:
    return path_cell(value) if column == "image" else cell(value)


def join(
    parts: Sequence[Path],
    stream: BinaryIO,
    suffix: str,
    classes: Sequence[str],
    *,
    units: bool = False,
) -> None:
    """Write the rows of all parts, in order, as one table; one part at a time is in memory."""
    if suffix == ".parquet":
        _join_parquet(parts, stream, _schema(classes, units))
        return
    head = encode([], suffix, classes, units=units)
    stream.write(head)
    for part in parts:
        with part.open("rb") as rows:
            rows.seek(len(head))
            shutil.copyfileobj(rows, stream, 1 << 20)


def _join_parquet(parts: Sequence[Path], stream: BinaryIO, schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        for part in parts:
            waiting.append(pq.read_table(part, memory_map=False))
            if sum(table.num_rows for table in waiting) >= GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=GROUP)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=GROUP)


def _columns(classes: Sequence[str], units: bool) -> list[str]:
    empty = CasePrediction("", "refused") if units else Prediction("", "unreadable")
    return list(empty.to_row(classes))


def _schema(classes: Sequence[str], units: bool) -> Any:
    import pyarrow as pa

    kinds = {name: pa.list_(pa.string()) for name in LISTS}
    kinds |= dict.fromkeys(COUNTS, pa.int64())
    kinds |= dict.fromkeys(("probability", "coarse_probability"), pa.float64())
    kinds |= {f"p_{name}": pa.float64() for name in classes}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in _columns(classes, units)])
