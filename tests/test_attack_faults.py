"""A fault of the machine costs time, and nothing that was whole."""

import pytest

from attacks import faults, volume


@pytest.mark.slow
@pytest.mark.parametrize("row", [faults, volume])
def test_nothing_is_lost_and_nothing_is_left_half(row, tmp_path):
    for counts in row.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", [faults, volume])
def test_nothing_is_lost_in_all_attempts(row, tmp_path):
    for counts in row.run("long", tmp_path).values():
        counts.require_none_failed()
