"""Images made to harm end with one error, within 5 seconds and 500 MB."""

from __future__ import annotations

import sys

import pytest

from attacks import hostile_images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc")


@pytest.mark.slow
def test_images_made_to_harm_are_read_or_refused_in_short(tmp_path):
    for line in hostile_images.run("short", tmp_path).values():
        line.require_none_failed()


@pytest.mark.nightly
def test_images_made_to_harm_are_read_or_refused(tmp_path):
    for line in hostile_images.run("long", tmp_path).values():
        line.require_none_failed()
