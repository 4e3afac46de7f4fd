"""What harms a spreadsheet, a page or a terminal is harmless in all that allkit writes."""

import pytest

from attacks import texts


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The counts of the row."""
    return texts.run("short", tmp_path_factory.mktemp("texts"))


@pytest.mark.parametrize("line", [
    "answers as CSV and JSON Lines", "tables of a division, read again", "pages (HTML)",
    "CSV and Excel of the clinic", "terminal in utf-8", "terminal in cp1252", "terminal in ascii",
    "terminal in utf-16-le",
])  # fmt: skip
def test_no_text_harms_who_reads_it(lines, line):
    lines[line].require_none_failed()


@pytest.mark.nightly
def test_no_text_with_any_of_twelve_thousand_signs_harms_who_reads_it(tmp_path):
    for counts in texts.run("long", tmp_path).values():
        counts.require_none_failed()
