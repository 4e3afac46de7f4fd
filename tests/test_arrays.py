"""Arrays that may be larger than the memory."""

import numpy as np
import pytest

from allkit.images import arrays
from allkit.images.arrays import large_array
from allkit.images.same_field import SignatureStore, find_duplicates, signature


def test_a_large_array_holds_what_a_small_one_holds(monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = large_array((3, 4), np.float32)
    values[:] = np.arange(12).reshape(3, 4)
    assert list(tmp_path.iterdir()) == []  # no name: nothing to clear away after a crash
    np.testing.assert_array_equal(values.sum(axis=1), [6, 22, 38])


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_fields_are_found_alike_wherever_their_signatures_lie(monkeypatch, in_memory):
    monkeypatch.setattr(arrays, "IN_MEMORY", in_memory)
    rng = np.random.default_rng(0)
    scene = np.kron(
        rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), np.ones((12, 12, 1), np.uint8)
    )
    other = np.kron(
        rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), np.ones((12, 12, 1), np.uint8)
    )
    images = [scene[:400, :400], scene[60:460, 40:440], other[:400, :400]]
    store = SignatureStore(len(images))
    for row, image in enumerate(images):
        store.keep(row, signature(image, f"{row:064x}"))
    kept = [store.get(row) for row in range(len(images))]
    pairs = find_duplicates(kept, images.__getitem__)
    assert [(pair.a, pair.b, pair.kind) for pair in pairs] == [(0, 1, "near")]
