"""A pipe, a device, a link or a folder where a file should be ends with one error, at once."""

from __future__ import annotations

import sys

import pytest

from attacks import odd_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")


@pytest.mark.slow
def test_odd_files_end_with_one_error_in_short(tmp_path):
    for line in odd_files.run("short", tmp_path).values():
        line.require_none_failed()


@pytest.mark.nightly
def test_odd_files_end_with_one_error_through_every_command(tmp_path):
    for line in odd_files.run("long", tmp_path).values():
        line.require_none_failed()
