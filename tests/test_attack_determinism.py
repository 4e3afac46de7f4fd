"""The same image gets the same answer, to the bit, and nearly the same in other batches and engines."""

import pytest

import allkit
from attacks import determinism


def test_the_same_image_gets_the_same_answer(tmp_path, tiny_folder, tiny_onnx, drawn):
    pixels = [allkit.read_image(path) for path in sorted(drawn.parent.rglob("*.png"))[:5]]
    for counts in determinism.run("short", tmp_path, tiny_folder, tiny_onnx, pixels).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_the_whole_row_of_the_table(tmp_path):
    for counts in determinism.run("long", tmp_path).values():
        counts.require_none_failed()
