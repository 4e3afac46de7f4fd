"""One flipped bit in anything that allkit keeps is noticed."""

import pytest

from attacks import bit_flips


def test_one_flipped_bit_is_noticed(tmp_path):
    for counts in bit_flips.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_five_hundred_flipped_bits_are_noticed(tmp_path):
    for counts in bit_flips.run("long", tmp_path).values():
        counts.require_none_failed()
