"""What happens when the machine does not give what is needed, or somebody ends the work."""

import errno
import os
import shutil
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch

import allkit
from allkit import files
from allkit.cli.ending import Stopped, explained, stoppable
from allkit.errors import AllkitError, CheckpointError, ConfigError
from allkit.features import FeatureCache
from allkit.images import arrays
from allkit.images.regular import read_regular
from allkit.plugins import catalogue
from allkit.records import Prediction
from allkit.training import run as run_module
from allkit.training.run import Saved, open_run
from allkit.volume import run as volume
from allkit.volume.run import MANIFEST, AnsweringRun, Identity

CLASSES = ("Benign", "Pro")


def failing(number):
    """A function that fails as the system does."""

    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


# ── files ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_being_written_stays_and_what_a_killed_process_left_is_cleared(tmp_path):
    out = tmp_path / "a.csv"
    (tmp_path / ".a.csv.0123abcd.part").write_text("left")
    (tmp_path / ".a.csv.0123abcd.partial").write_text("of another program")
    (tmp_path / ".a.csv.copy").write_text("the user's")
    with files.whole_file(out) as part:
        part.write_text("new")
        files.clear_stale(out)
        assert part.exists()
    assert out.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".a.csv.0123abcd.partial", ".a.csv.copy", "a.csv",
    ]  # fmt: skip


def test_a_folder_that_is_being_filled_stays(tmp_path):
    out = tmp_path / "model"
    with files.whole_folder(out) as building:
        files.clear_stale(out)
        (building / "a").write_text("a")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, at_once):
    out = tmp_path / "model"
    out.mkdir()
    (out / "old").touch()
    if not at_once:
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    with files.whole_folder(out, overwrite=True) as building:
        (building / "new").touch()
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_could_not_be_replaced_is_put_back(tmp_path, monkeypatch):
    out = tmp_path / "model"
    out.mkdir()
    (out / "old").touch()
    replace = os.replace

    def once(source, target):
        if str(source).endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(os, "replace", once)
    with (
        pytest.raises(AllkitError, match="Input/output error"),
        files.whole_folder(out, overwrite=True),
    ):
        pass
    assert [p.name for p in out.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_large_array_without_room_is_refused_before_it_is_used(monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 1000)
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC), raising=False)
    with pytest.raises(AllkitError, match=r"temporary files: No space left.*TMPDIR"):
        arrays.large_array((1000, 1000), np.float32)


def test_too_many_open_files_say_nothing_about_an_image(tmp_path, monkeypatch):
    image = tmp_path / "a.png"
    image.write_bytes(b"bytes")
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        read_regular(image, "a.png")


# ── what is said ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory does not suffice"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory does"),
        (ImportError("libx.so: failed to map segment from shared object"), "memory does not"),
        (RuntimeError("can't start new thread"), "no further thread"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no further thread"),
        (OSError(errno.ENOSPC, "No space left on device", "/d/a"), "/d/a: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "Cannot write: No space left on device"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "ulimit -n"),
        (OSError(errno.EROFS, "Read-only file system", "/d/a"), "/d/a: Read-only file system"),
    ],
)
def test_what_the_machine_does_not_give_is_said_in_one_sentence(monkeypatch, cli, error, said):
    def raising(*_, **__):
        raise error

    monkeypatch.setattr("allkit.cli.root.root", raising)
    status, _, err = cli("doctor")
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_a_bug_is_none_of_these():
    assert explained(ValueError("x")) is None
    assert explained(RuntimeError("shapes do not match")) is None


# ── an end that is asked for ───────────────────────────────────────────────────────────────


@pytest.fixture
def usual_signals():
    """The handlers that Python begins with: a library of another test may have put its own there."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_once_and_a_second_one_does_not_disturb_the_end(number, status):
    before = signal.getsignal(number)
    with stoppable():
        with pytest.raises(Stopped) as stop:
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert stop.value.code == status
    assert signal.getsignal(number) == before


def test_signals_that_the_host_handles_stay_its_own():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_ends_a_training_is_told_what_is_kept(cli, monkeypatch, tmp_path, number, status):
    def work(*_, **__):
        with open_run(tmp_path / "m.run", resume=False, overwrite=False) as run:
            run.begin({"a": 1})
            run.finish(0, lambda: Saved({"member.x": torch.zeros(2)}, {"history": []}))
            os.kill(os.getpid(), number)

    monkeypatch.setattr("allkit.cli.root.root", work)
    got, _, err = cli("train")
    assert got == status
    assert err == (
        f"Stopped. 1 trained member is kept in {tmp_path / 'm.run'}; resume=True (--resume) goes on from there.\n"
    )


# ── the state of a training ────────────────────────────────────────────────────────────────


def state(folder):
    """Write a run with a state, and return the file of the state."""
    with open_run(folder, resume=False, overwrite=True) as run:
        run.begin({"a": 1})
        facts = {"phase": "last", "epoch": 1, "step": 2}
        run.save(lambda: Saved({"member.x": torch.arange(64.0)}, facts))
        assert run.state().facts == facts
        assert "(last, epoch 2, step 3); resume=True (--resume)" in run.where()
    return folder / run_module.STATE


def test_a_flipped_bit_in_a_saved_state_is_noticed(tmp_path):
    path = state(tmp_path / "m.run")
    data = path.read_bytes()
    for at in range(len(data) - 256, len(data), 16):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with (
            open_run(tmp_path / "m.run", resume=True, overwrite=False) as run,
            pytest.raises(CheckpointError, match="--overwrite"),
        ):
            run.state()


def test_a_training_that_is_done_is_done_whenever_it_is_killed(tmp_path, monkeypatch):
    state(tmp_path / "m.run")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with open_run(tmp_path / "m.run", resume=True, overwrite=False) as run:
        with monkeypatch.context() as patch:
            patch.setattr(type(run.folder), "glob", killed)
            with pytest.raises(KeyboardInterrupt):
                run.done()
        assert not (run.folder / run_module.FACTS).exists()


@pytest.mark.slow
def test_a_training_over_an_earlier_model_that_was_killed_early_ends(
    few, tiny_folder, tmp_path, tiny_settings
):
    out = tmp_path / "m"
    shutil.copytree(tiny_folder, out)
    (tmp_path / "m.run").mkdir()
    (tmp_path / "m.run" / run_module.FACTS).write_text('{"killed": "before its first state"}')
    before = (out / "SHA256SUMS").read_bytes()
    allkit.Trainer(**tiny_settings, seed=7).fit(allkit.Dataset.open(few), out=out, resume=True)
    assert (out / "SHA256SUMS").read_bytes() != before
    assert not (tmp_path / "m.run" / run_module.FACTS).exists()


# ── tables of answers ──────────────────────────────────────────────────────────────────────


def answer(name):
    return Prediction(name, "accepted", (), "Pro", 0.75, {"Benign": 0.25, "Pro": 0.75}, ("Pro",))


def of(count):
    return Identity(model="m", classes=CLASSES, shard="1/1", count=count, images="i")


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("after", [True, False])
def test_an_end_while_rows_are_kept_doubles_none_and_loses_none(tmp_path, monkeypatch, at, after):
    out, count = tmp_path / "a.jsonl", 0
    write = volume.write_whole

    def interrupted(path, data):
        nonlocal count
        count += 1
        if count == at and not after:
            raise KeyboardInterrupt
        write(path, data)
        if count == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(volume, "write_whole", interrupted)
        try:
            with AnsweringRun(out, of(9)) as run:
                list(run.write((answer(f"{i}.png") for i in range(9)), rows=3))
        except KeyboardInterrupt:
            pass
    with AnsweringRun(out, of(9)) as run:
        list(run.write(answer(f"{i}.png") for i in range(run.done, 9)))
        run.finish()
    expected = "".join(f'{{"image": "{i}.png"' + "\n" for i in range(9))
    rows = out.read_text().splitlines()
    assert [row[: row.index(",")] for row in rows] == expected.splitlines()
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("was", "becomes"),
    [('"stop": 3', '"stop": 5'), ('"accepted": 3', '"accepted": 2'), ('"start": 0', '"start": 1')],
)
def test_a_manifest_that_was_altered_is_refused(tmp_path, was, becomes):
    out = tmp_path / "a.csv"
    with AnsweringRun(out, of(9)) as run:
        list(run.write((answer(f"{i}.png") for i in range(3)), rows=3))
    manifest = tmp_path / "a.csv.parts" / MANIFEST
    text = manifest.read_text()
    assert was in text
    manifest.write_text(text.replace(was, becomes))
    with pytest.raises(ConfigError, match="is damaged"):
        AnsweringRun(out, of(9))


def test_a_folder_in_the_place_of_a_part_is_made_anew(tmp_path):
    out = tmp_path / "a.csv"
    with AnsweringRun(out, of(9)) as run:
        list(run.write((answer(f"{i}.png") for i in range(3)), rows=3))
    part = next((tmp_path / "a.csv.parts").glob("part-*"))
    part.unlink()
    part.mkdir()
    with AnsweringRun(out, of(9)) as run:
        assert run.done == 0


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "write_whole", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        AnsweringRun(tmp_path / "a.csv", of(9))
    assert not list(tmp_path.iterdir())


# ── caches ─────────────────────────────────────────────────────────────────────────────────


def test_a_vector_that_was_altered_in_the_cache_is_computed_again(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put({b"a": np.ones(8, np.float32), b"b": np.zeros(8, np.float32)})
    with closing(sqlite3.connect(cache.path)) as connection:
        connection.execute("UPDATE features SET vector=zeroblob(32) WHERE key=?", (b"a",))
        connection.commit()
    assert list(cache.get([b"a", b"b"])) == [b"b"]
    cache.put({b"a": np.ones(8, np.float32)})
    assert set(cache.get([b"a", b"b"])) == {b"a", b"b"}


def test_vectors_that_changed_places_are_computed_again(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put({b"a": np.ones(8, np.float32)})
    with closing(sqlite3.connect(cache.path)) as connection:
        connection.execute("UPDATE features SET key=? WHERE key=?", (b"b", b"a"))
        connection.commit()
    assert cache.get([b"a", b"b"]) == {}


@pytest.mark.parametrize("data", [b"", b"{", b"[[]]", b'{"k": {"offers": 1}}', bytes(100), None])
def test_a_damaged_list_of_plugins_is_made_again(tmp_path, data):
    file = tmp_path / "plugins.json"
    file.mkdir() if data is None else file.write_bytes(data)
    assert catalogue._read(file) == {}


def test_an_altered_list_of_plugins_does_not_count(tmp_path):
    file = tmp_path / "plugins.json"
    entry = {"offers": [{"kind": "backbone", "name": "vgg16"}], "error": None, "seconds": 1.0,
             "api_version": 1, "notes": []}  # fmt: skip
    catalogue._write(file, {"k": entry})
    assert catalogue._read(file) == {"k": entry}
    file.write_text(file.read_text().replace("vgg16", "vgg17", 1))
    assert catalogue._read(file) == {}


def test_a_slip_of_the_hand_does_not_replace_a_folder_of_images_by_a_model(tiny, tmp_path):
    place = tmp_path / "smears"
    (place / "Benign").mkdir(parents=True)
    (place / "Benign" / "1.png").write_bytes(b"an image")
    with pytest.raises(
        ConfigError, match=r"a folder with other things in it .* remove it yourself"
    ):
        tiny.save(place, overwrite=True)
    assert (place / "Benign" / "1.png").read_bytes() == b"an image"
    (tmp_path / "empty").mkdir()
    model = tiny.save(tmp_path / "empty", overwrite=True)
    assert (tiny.save(model, overwrite=True) / "model.json").is_file()
