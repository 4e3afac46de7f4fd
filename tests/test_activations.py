"""Activations on disk: found again, safe to kill, safe with two writers, bounded."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from allkit.features import ActivationStore

SHAPE = (4, 3, 3)


def store(folder, key="cut", **options):
    return ActivationStore.open(folder, key, SHAPE, torch.float32, **options)


def keys(count, start=0):
    return [f"image {i}".encode() for i in range(start, start + count)]


def rows(count, start=0):
    return torch.arange(start, start + count).float()[:, None, None, None].expand(-1, *SHAPE)


def test_rows_are_read_back_in_the_order_asked_for(tmp_path):
    assert store(tmp_path).write(keys(10), rows(10)) == 10
    again = store(tmp_path)
    back, found = again.read([keys(10)[i] for i in (7, 0, 7, 3)] + [b"unknown"])
    assert found == [True, True, True, True, False]
    assert back[:, 0, 0, 0].tolist() == [7, 0, 7, 3, 0]
    assert again.missing([*keys(2), b"unknown", b"unknown"]) == [b"unknown"]
    assert len(again) == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_bit_is_kept_in_every_type(tmp_path, dtype):
    values = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = ActivationStore.open(tmp_path, "cut", (8,), dtype)
    kept.write(keys(5), values)
    assert torch.equal(kept.read(keys(5))[0], values)


def test_what_is_there_is_not_computed_again(tmp_path):
    asked = []

    def compute(positions):
        asked.append(positions)
        return rows(6)[positions]

    kept = store(tmp_path)
    kept.write(keys(3), rows(3))
    assert torch.equal(kept.fetch(keys(6), compute), rows(6))
    assert torch.equal(kept.fetch(keys(6), compute), rows(6))
    assert asked == [[3, 4, 5]]


def test_other_weights_shapes_and_types_are_kept_apart(tmp_path):
    store(tmp_path).write(keys(1), rows(1))
    assert store(tmp_path, "other weights").missing(keys(1)) == keys(1)
    half = ActivationStore.open(tmp_path, "cut", SHAPE, torch.bfloat16)
    assert half.missing(keys(1)) == keys(1)


def _write_many(folder, worker):
    for start in range(0, 40, 4):
        store(folder).write(keys(4, 100 * worker + start), rows(4, 100 * worker + start))


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(tmp_path, n)) for n in range(3)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    for worker in range(3):
        back, found = store(tmp_path).read(keys(40, 100 * worker))
        assert all(found)
        assert torch.equal(back, rows(40, 100 * worker))


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_only_whole_rows(tmp_path):
    script = (
        "import sys, torch; from pathlib import Path; from allkit.features import ActivationStore\n"
        "s = ActivationStore.open(Path(sys.argv[1]), 'cut', (200_000,), torch.float32)\n"
        "for i in range(10_000): s.write([b'image %d' % i], torch.full((1, 200_000), float(i)))"
    )
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/rows.bin")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    kept = ActivationStore.open(tmp_path, "cut", (200_000,), torch.float32)
    count = len(kept)
    assert count > 0
    back, found = kept.read(keys(count))
    assert all(found)
    assert (back == torch.arange(count)[:, None]).all()
    assert kept.write([b"next"], torch.ones(1, 200_000)) == 1


def test_a_damaged_row_is_computed_again_and_never_given_out(tmp_path):
    kept = store(tmp_path)
    kept.write(keys(3), rows(3))
    with (kept.path / "rows.bin").open("r+b") as stream:
        stream.seek(kept.row_bytes + 5)
        stream.write(b"\xff")
    assert kept.read(keys(3))[1] == [True, False, True]
    assert torch.equal(kept.fetch(keys(3), lambda lacking: rows(3)[lacking]), rows(3))
    assert kept.read(keys(3))[1] == [True, True, True]


def test_a_lost_file_costs_time_but_no_result(tmp_path):
    kept = store(tmp_path)
    kept.write(keys(3), rows(3))
    (kept.path / "index.sqlite").write_bytes(b"no database at all" * 100)
    again = store(tmp_path)
    assert torch.equal(again.fetch(keys(3), lambda lacking: rows(3)[lacking]), rows(3))
    assert again.read(keys(3))[1] == [True, True, True]


def test_all_stores_together_stay_below_the_limit_and_the_oldest_go_first(tmp_path):
    row = 4 * 4 * 9
    old, older = store(tmp_path, "old"), store(tmp_path, "older")
    for which, age in ((old, 5000), (older, 9000)):
        which.write(keys(100), rows(100))
        for file in which.path.iterdir():
            os.utime(file, (time.time() - age,) * 2)
    index = (old.path / "index.sqlite").stat().st_size
    limit = 2 * (100 * row + index) + index + 50 * row
    new = store(tmp_path, "new", limit=limit)
    assert new.write(keys(80), rows(80)) == 80
    assert not older.path.exists()
    assert old.path.exists()


def test_rows_of_earlier_trainings_make_room_but_never_those_in_use(tmp_path):
    first = store(tmp_path)
    first.write(keys(100), rows(100))
    size = sum(f.stat().st_size for f in first.path.iterdir())
    second = store(tmp_path, limit=size)
    second.read(keys(30))
    assert second.write(keys(200, 1000), rows(200, 1000)) == 70
    assert all(second.read(keys(30))[1])
    assert sum(second.read(keys(100))[1]) == 30
    assert sum(f.stat().st_size for f in first.path.iterdir()) <= 1.5 * size
