"""Reading ahead: in order, not too far, and an error where it belongs."""

import threading
import time

import numpy as np
import pytest

from allkit.images.batches import by_shape, read_ahead


def test_batches_come_in_order_whatever_finishes_first():
    def load(i):
        time.sleep(0.002 * (i % 3))
        return i * i

    batches = list(read_ahead(range(11), load, 4))
    assert [len(b) for b in batches] == [4, 4, 3]
    assert [pair for b in batches for pair in b] == [(i, i * i) for i in range(11)]


def test_no_more_than_three_batches_are_taken_ahead_however_many_there_are():
    taken = 0

    def items():
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield i

    first = next(iter(read_ahead(items(), lambda i: i, 5)))
    assert len(first) == 5
    assert taken <= 20


def test_of_heavy_items_fewer_are_held_in_smaller_batches(monkeypatch):
    monkeypatch.setattr("allkit.images.batches.MEMORY", 90)
    taken = 0

    def items():
        nonlocal taken
        for i in range(40):
            taken += 1
            yield i

    def batches(weight):
        nonlocal taken
        taken, done, sizes, ahead = 0, 0, [], []
        for batch in read_ahead(items(), lambda i: i, 8, workers=2, weigh=lambda _: weight):
            done += len(batch)
            sizes.append(len(batch))
            ahead.append(taken - done)
        assert done == 40
        return sizes, max(ahead)

    assert batches(1) == ([1, 8, 8, 8, 8, 7], 24)
    assert batches(10) == ([1, *[3] * 13], 9)
    assert batches(1000) == ([1] * 40, 2)
    assert batches(0)[0] == [1, 8, 8, 8, 8, 7]


def test_what_comes_next_is_loaded_while_the_caller_works():
    loaded = threading.Event()

    def load(i):
        if i == 5:
            loaded.set()
        return i

    batches = read_ahead(range(6), load, 2, workers=1)
    next(batches)
    assert loaded.wait(5)
    batches.close()


def test_an_error_is_raised_where_its_batch_would_have_come():
    def load(i):
        return 1 / (i - 5)

    batches = read_ahead(range(8), load, 3)
    assert len(next(batches)) == 3
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_images_of_one_shape_are_stacked():
    images = [np.full((h, 4, 3), h, np.uint8) for h in (5, 6, 5)]
    stacks = list(by_shape(images))
    assert [(i, s.shape) for i, s in stacks] == [([0, 2], (2, 5, 4, 3)), ([1], (1, 6, 4, 3))]


def test_a_reader_that_is_forgotten_in_one_of_its_own_threads_ends_without_a_word(monkeypatch):
    """The garbage collector ends a generator in whichever thread it runs."""
    import gc
    import sys

    complaints, held, forgotten, ended = [], [], threading.Event(), threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    def load(item):
        if item == 4:
            forgotten.wait(10)
            held.clear()
            gc.collect()
            ended.set()
        return item

    held.append(read_ahead(range(100), load, 2, workers=1))
    next(held[0])
    forgotten.set()
    assert ended.wait(10)
    assert [str(c.exc_value) for c in complaints] == []
