"""A hundred broken plugins: each is named with what is wrong, and no other is blamed."""

from __future__ import annotations

import sys

import pytest

from attacks import broken_plugins

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="some of them need signals")


def test_broken_plugins_are_named_and_harm_nobody_in_short(tmp_path):
    for line in broken_plugins.run("short", tmp_path).values():
        line.require_none_failed()


@pytest.mark.nightly
def test_a_hundred_broken_plugins_are_named_and_harm_nobody(tmp_path):
    lines = broken_plugins.run("long", tmp_path)
    assert sum(counts.tried for counts in lines.values()) > 100
    for line in lines.values():
        line.require_none_failed()
