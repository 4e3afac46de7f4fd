"""Tables as people have them are read rightly, or refused with one error."""

import pytest

from attacks import tables


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The counts of the row."""
    return tables.run("short", tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("line", [
    "CSV and TSV as sets of images", "CSV and TSV for `predict`", "data frames", "Parquet",
    "Parquet with flipped bits",
])  # fmt: skip
def test_a_table_is_read_rightly_or_refused_with_one_error(lines, line):
    lines[line].require_none_failed()


@pytest.mark.nightly
def test_two_thousand_damaged_tables_end_in_one_error_each(tmp_path):
    for counts in tables.run("long", tmp_path).values():
        counts.require_none_failed()
