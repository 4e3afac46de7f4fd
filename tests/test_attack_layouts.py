"""Layouts of folders and zips: each read rightly or refused; all of them in `make nightly`."""

import pytest

from attacks import layouts


def test_layouts_are_read_rightly_or_refused(tmp_path):
    for counts in layouts.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_all_layouts_are_read_rightly_or_refused(tmp_path):
    for counts in layouts.run("long", tmp_path).values():
        counts.require_none_failed()
