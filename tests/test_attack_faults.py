"""A fault of the machine costs time, and nothing that was whole."""

import pytest

from attacks import faults, volume
from attacks._places import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder, tiny_onnx):
    """A small model, its export and what it answers on, made once for both rows."""
    return Place(tmp_path_factory.mktemp("place"), made=(tiny_folder, tiny_onnx))


@pytest.mark.slow
@pytest.mark.parametrize("row", [faults, volume])
def test_nothing_is_lost_and_nothing_is_left_half(row, place, tmp_path):
    for counts in row.run("short", tmp_path, place).values():
        counts.require_none_failed()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", [faults, volume])
def test_nothing_is_lost_in_all_attempts(row, tmp_path):
    for counts in row.run("long", tmp_path).values():
        counts.require_none_failed()
