"""Many images: one row each, whatever happens on the way."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from allkit.errors import AllkitError, ConfigError, DatasetError
from allkit.files import model_hash
from allkit.records import Cell, Prediction
from allkit.volume.inputs import Paths, Shard, find_images
from allkit.volume.run import MANIFEST, AnsweringRun, Identity
from allkit.volume.tables import FORMATS, encode, join

CLASSES = ("Benign", "Pro")


def answer(name):
    return Prediction(name, "accepted", (), "Pro", 0.75, {"Benign": 0.25, "Pro": 0.75}, ("Pro",))


def identity(names, **changed):
    paths = Paths(names)
    values = {"model": "m", "classes": CLASSES, "shard": "1/1", "count": len(paths)}
    return Identity(**(values | {"images": paths.fingerprint()} | changed))


def rows_of(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 60 small images, two of them broken."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(60):
        pixels = rng.integers(0, 256, (40, 40 + index % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"field-{index:03d}.png")
    (folder / "field-007.png").write_bytes(b"no image")
    (folder / "field-031.png").write_bytes((folder / "field-030.png").read_bytes()[:200])
    return folder


# ── paths ──────────────────────────────────────────────────────────────────────────────────


def test_paths_come_back_to_the_letter_and_in_order():
    names = ["a/b/x.png", "x.png", "a/ü é.png", "/r/x.png", os.fsdecode(b"a/\xff.png"), "a/b/"]
    paths = Paths(names)
    assert list(paths) == names
    assert paths[-2] == names[-2]
    assert list(paths[1:5:2]) == names[1:5:2]
    with pytest.raises(IndexError):
        paths[6]


def test_a_hundred_thousand_paths_take_less_than_three_megabytes():
    import tracemalloc

    tracemalloc.start()
    paths = Paths(f"/data/{index % 50:02d}/smear-{index:06d}.png" for index in range(100_000))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(paths) == 100_000
    assert held < 4e6


def test_the_shards_of_a_run_partition_the_images_counted_from_one_or_from_nought():
    paths = Paths(f"{index}.png" for index in range(11))
    for numbers in ((1, 2, 3), (0, 1, 2)):
        taken = [name for i in numbers for name in Shard.parse(f"{i}/3").of(paths)]
        assert sorted(taken) == sorted(paths)
    assert str(Shard.parse("0/3")) == str(Shard.parse("3/3")) == "3/3"
    assert list(Shard.parse("12/12").of(paths)) == ["0.png"]
    assert list(Shard.parse("11/12").of(paths)) == []


@pytest.mark.parametrize("text", ["4/3", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--shard is"):
        Shard.parse(text)


def test_images_are_found_in_the_order_of_their_folders_and_names(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/10.png", "a.png", "b.jpg", "b/c/1.tif", "b/notes.txt", "b/.x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    expected = [p for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    expected = [
        str(p.relative_to(tmp_path)) for p in expected if p.name not in ("notes.txt", ".x.png")
    ]
    for folder in (".", "./"):
        paths, others = find_images([folder, "none.png"])
        assert list(paths) == [*expected, "none.png"]
        assert others == {folder: {"name": 1, "hidden": 1}}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        find_images(["empty"])


def test_the_fingerprint_tells_of_every_change(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("x")
    names = [str(tmp_path / f"{name}.png") for name in "ab"]
    before = Paths(names).fingerprint()
    assert Paths(names).fingerprint() == before
    assert Paths(names[::-1]).fingerprint() != before
    assert Paths([*names, "c"]).fingerprint() != before
    os.utime(names[0], ns=(0, 0))
    changed = Paths(names).fingerprint()
    assert changed != before
    os.unlink(names[1])
    assert Paths(names).fingerprint() not in (before, changed)


# ── tables ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_joined_are_the_table_that_is_written_at_once(tmp_path, suffix):
    rows = [answer(f"{i},\n{i}.png").to_row(CLASSES) for i in range(10)]
    rows[3] |= {"label": None, "probability": None, "p_Pro": None, "error": 'is "broken"'}
    parts = []
    for start, stop in ((0, 4), (4, 4), (4, 10)):
        parts.append(tmp_path / f"{len(parts)}{suffix}")
        parts[-1].write_bytes(encode(rows[start:stop], suffix, CLASSES))
    joined, once = tmp_path / f"joined{suffix}", tmp_path / f"once{suffix}"
    with joined.open("wb") as stream:
        join(parts, stream, suffix, CLASSES)
    once.write_bytes(encode(rows, suffix, CLASSES))
    assert rows_of(joined) == rows_of(once)
    assert len(rows_of(joined)) == 10
    if suffix != ".parquet":
        assert joined.read_bytes() == once.read_bytes()
    else:
        assert rows_of(joined) == rows


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_of_no_rows_has_its_columns(tmp_path, suffix):
    with AnsweringRun(tmp_path / f"a{suffix}", identity([])) as run:
        assert list(run.write([])) == []
        run.finish()
    assert rows_of(tmp_path / f"a{suffix}") == []
    if suffix == ".csv":
        assert (tmp_path / "a.csv").read_text().startswith("image,label,")


def test_a_name_that_is_no_unicode_is_written_readably(tmp_path):
    name = os.fsdecode(b"field-\xff.png")
    for suffix in FORMATS:
        out = tmp_path / f"a{suffix}"
        with AnsweringRun(out, identity([name])) as run:
            list(run.write([answer(name)]))
            run.finish()
        assert rows_of(out)[0]["image"] == "field-\\xff.png"


# ── runs ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_run_that_failed_goes_on_behind_its_last_part(tmp_path, suffix):
    names = [f"{i}.png" for i in range(20)]
    out = tmp_path / f"answers{suffix}"

    def failing():
        yield from (answer(name) for name in names[:13])
        raise RuntimeError("the power went")

    with AnsweringRun(out, identity(names)) as run, pytest.raises(RuntimeError):
        list(run.write(failing(), rows=5))
    assert not out.exists()
    with AnsweringRun(out, identity(names)) as run:
        assert run.done == 10
        with pytest.raises(AllkitError, match="10 of 20"):
            run.finish()
    with AnsweringRun(out, identity(names)) as run:
        numbers = list(run.write((answer(n) for n in names[run.done :]), rows=5))
        assert numbers == list(range(11, 21))
        assert run.finish() == {"accepted": 20}
    assert [row["image"] for row in rows_of(out)] == names
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_a_person_who_stops_it_keeps_every_answer_that_was_there(tmp_path):
    names = [f"{i}.png" for i in range(20)]

    def stopped():
        yield from (answer(name) for name in names[:13])
        raise KeyboardInterrupt

    with AnsweringRun(tmp_path / "a.csv", identity(names)) as run, pytest.raises(KeyboardInterrupt):
        list(run.write(stopped()))
    with AnsweringRun(tmp_path / "a.csv", identity(names)) as run:
        assert run.done == 13


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model": "other"}, "the model"),
        ({"images": "other"}, "the images"),
        ({"count": 21, "images": "other"}, "the number of images"),
        ({"shard": "2/2"}, "the shard"),
        ({"classes": ("A", "B")}, "the model's classes"),
        ({"allkit": "9"}, "the version of allkit"),
    ],
)
def test_what_was_left_by_another_run_is_refused_and_dropped_only_on_demand(
    tmp_path, changed, told
):
    names = [f"{i}.png" for i in range(20)]
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(names)) as run:
        next(iter(run.write((answer(n) for n in names), rows=1)))
    with pytest.raises(ConfigError, match=told):
        AnsweringRun(out, identity(names, **changed))
    with AnsweringRun(out, identity(names)) as run:  # the refusal touched nothing
        assert run.done >= 1
    with AnsweringRun(out, identity(names, **changed), overwrite=True) as run:
        assert run.done == 0
    assert not list(out.with_name("a.jsonl.parts").glob("part-*"))


def test_parts_of_a_table_with_other_columns_are_refused_and_not_joined(tmp_path):
    names = [f"{i}.png" for i in range(20)]
    out = tmp_path / "a.csv"
    with AnsweringRun(out, identity(names)) as run:
        next(iter(run.write((answer(n) for n in names), rows=1)))
    manifest = out.with_name("a.csv.parts") / MANIFEST
    before = manifest.read_text().replace('"format": 3', '"format": 1')  # that of 0.1.0
    manifest.write_text(before)
    with pytest.raises(ConfigError, match="the columns of the table"):
        AnsweringRun(out, identity(names))
    assert manifest.read_text() == before
    with AnsweringRun(out, identity(names), overwrite=True) as run:
        assert run.done == 0


def test_an_altered_or_lost_part_is_made_again(tmp_path):
    names = [f"{i}.png" for i in range(20)]
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(names)) as run:
        list(run.write((answer(n) for n in names[:15]), rows=5))
    parts = sorted(out.with_name("a.jsonl.parts").glob("part-*"))
    assert len(parts) == 3
    parts[1].write_bytes(parts[1].read_bytes().replace(b"0.75", b"0.57"))
    (parts[0].parent / "part-000000000015.jsonl").write_text("killed before the manifest")
    with AnsweringRun(out, identity(names)) as run:
        assert run.done == 5
        list(run.write(answer(n) for n in names[5:]))
        run.finish()
    assert [row["image"] for row in rows_of(out)] == names
    assert {row["probability"] for row in rows_of(out)} == {0.75}


def test_a_damaged_manifest_is_told(tmp_path):
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(["a"])):
        pass
    (tmp_path / "a.jsonl.parts" / MANIFEST).write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        AnsweringRun(out, identity(["a"]))


def test_two_processes_cannot_write_one_table(tmp_path):
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(["a"])), pytest.raises(ConfigError, match="Another process"):
        AnsweringRun(out, identity(["a"]))
    AnsweringRun(out, identity(["a"])).close()


def test_files_of_the_user_in_the_folder_of_parts_stay(tmp_path):
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(["a"])) as run:
        (run.folder / "notes.txt").write_text("mine")
        list(run.write([answer("a")]))
        run.finish()
    assert [p.name for p in run.folder.iterdir()] == ["notes.txt"]


def test_a_full_disk_keeps_the_parts(tmp_path, monkeypatch):
    out = tmp_path / "a.jsonl"
    with AnsweringRun(out, identity(["a"])) as run:
        list(run.write([answer("a")]))

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("allkit.volume.run.join", full)
        with pytest.raises(AllkitError, match="No space left"):
            run.finish()
        monkeypatch.undo()
    assert not out.exists()
    with AnsweringRun(out, identity(["a"])) as run:
        assert run.done == 1
        run.finish()
    assert len(rows_of(out)) == 1


KILLED = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from allkit.runtime.answers import stream
    from allkit.trust.verdict import Outputs, Trust
    from allkit.volume.inputs import find_images
    from allkit.volume.run import Identity, AnsweringRun

    def network(images):
        time.sleep(0.01 * len(images))
        level = np.array([[image.mean(), 100] for image in images], np.float32)
        return Outputs(level, level)

    classes = ("Benign", "Pro")
    images, _ = find_images([sys.argv[1]])
    known = Identity(model="m", classes=classes, shard="1/1", count=len(images),
                     images=images.fingerprint())
    with AnsweringRun(Path(sys.argv[2]), known) as run:
        answers = stream(images[run.done:], network, Trust(classes), batch_size=4)
        for _ in run.write(answers, rows=5):
            pass
        run.finish()
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_killed_again_and_again_it_ends_with_the_same_table(tmp_path, pictures, suffix):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(KILLED))
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    command = [sys.executable, str(script), str(pictures)]
    subprocess.run([*command, str(whole)], check=True)
    manifest = tmp_path / f"{broken.name}.parts" / MANIFEST
    kills, seen = 0, 0
    while not broken.exists():
        parts, process = 0, subprocess.Popen([*command, str(broken)])
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):  # not begun, or just finished
                parts = manifest.read_text().count('"file"')
            if parts >= seen + 2 and kills < 4:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills, seen = kills + 1, parts
            time.sleep(0.005)
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills >= 2
    assert rows_of(broken) == rows_of(whole)
    assert len(rows_of(broken)) == 60
    assert sum(row["verdict"] == "unreadable" for row in rows_of(broken)) == 2
    assert not manifest.exists()


# ── the command ────────────────────────────────────────────────────────────────────────────


def test_the_command_goes_on_with_what_an_ended_one_left(cli, tiny_folder, pictures, tmp_path):
    out = tmp_path / "answers.csv"
    images, _ = find_images([str(pictures)])
    left = Identity(
        model=model_hash(tiny_folder), classes=("Benign", "Early", "Pre", "Pro"), shard="1/1",
        count=len(images), images=images.fingerprint(),
    )  # fmt: skip
    with AnsweringRun(out, left) as run:
        list(run.write(answer(name) for name in images[:20]))
    status, _, err = cli("predict", tiny_folder, pictures, "--out", out)
    assert status == 1
    assert "20 of 60 rows are there already" in err
    rows = rows_of(out)
    assert [row["image"] for row in rows] == list(images)
    assert [row["probability"] == "0.75" for row in rows].count(True) == 20
    assert "60 rows (" in err
    assert "1 of 60 images were unreadable" in err  # the other lay in what was there already
    status, _, err = cli("predict", tiny_folder, pictures, "--out", out)
    assert status == 2
    assert "exists already" in err


def test_the_command_refuses_what_another_model_began(cli, tiny_folder, pictures, tmp_path):
    images, _ = find_images([str(pictures)])
    other = identity(images, model="other", classes=("Benign", "Early", "Pre", "Pro"))
    with AnsweringRun(tmp_path / "a.csv", other):
        pass
    status, _, err = cli("predict", tiny_folder, pictures, "--out", "a.csv")
    assert status == 2
    assert "changed since then: the model." in err
    assert cli("predict", tiny_folder, pictures, "--out", "a.csv", "--overwrite")[0] == 1


def test_the_shards_of_the_command_hold_every_image_once(cli, tiny_folder, pictures, tmp_path):
    for number in (1, 2):
        cli("predict", tiny_folder, pictures, "--shard", f"{number}/2", "--out", f"{number}.jsonl")
    rows = [row for n in (1, 2) for row in rows_of(tmp_path / f"{n}.jsonl")]
    assert sorted(row["image"] for row in rows) == list(find_images([str(pictures)])[0])
    status, _, err = cli("predict", tiny_folder, pictures, "--shard", "3/2")
    assert (status, "--shard is '3/2'" in err) == (2, True)
    status, _, err = cli("predict", tiny_folder, pictures, "--engine", "spark")
    assert (status, "is not one of 'local', 'ray'" in err) == (2, True)


def test_editing_the_card_of_a_model_does_not_make_it_another(tiny_folder, tmp_path):
    from allkit.model.folder import write_card

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    before = model_hash(folder)
    write_card(folder, "# Another text\n")
    assert model_hash(folder) == before
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "b"))
    assert model_hash(folder) != before


# ── Ray ────────────────────────────────────────────────────────────────────────────────────


class Patient:
    """A model that takes its time, opened in every worker; one of them is killed under it."""

    classes = CLASSES

    def __init__(self, mark):
        mark.with_name(f"{mark.name}.{os.getpid()}").touch()
        self.mark = mark

    def predict(self, images, *, batch_size=16):
        time.sleep(0.1 * len(images))
        with contextlib.suppress(FileExistsError):
            if "field-020" in " ".join(map(str, images)):
                self.mark.touch(exist_ok=False)  # once
                os.kill(os.getpid(), signal.SIGKILL)
        return [answer(str(image)) for image in images]


@pytest.fixture(scope="module")
def local_ray():
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}},
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own dependencies
def test_on_ray_a_killed_worker_costs_no_row_and_doubles_none(local_ray, pictures, tmp_path):
    import functools

    import cloudpickle

    from allkit.volume.ray_data import stream

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    names, _ = find_images([str(pictures)])
    mark, out = tmp_path / "killed", tmp_path / "a.parquet"
    opened = functools.partial(Patient, mark)
    with AnsweringRun(out, identity(names)) as run:
        list(run.write(answer(name) for name in names[:10]))
        rest = names[run.done :]
        list(run.write(stream(opened, "cpu", rest, chunk=5, threads=1), rows=7))
        run.finish()
    assert mark.exists()
    assert len(list(tmp_path.glob("killed.*"))) >= 2  # it was opened again elsewhere
    assert [row["image"] for row in rows_of(out)] == list(names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own dependencies
def test_on_ray_the_command_writes_the_same_table(local_ray, cli, tiny_folder, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "fields")  # relative paths are found by the workers
    for engine in ("local", "ray"):
        status, _, err = cli(
            "predict", tiny_folder, "fields", "--engine", engine, "--out", f"{engine}.csv"
        )
        assert status == 1, err
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "local.csv").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own dependencies
def test_on_ray_a_mistake_of_the_user_is_told_as_here(local_ray, tmp_path):
    from allkit.volume.ray_data import stream

    def missing():
        from pathlib import Path

        from allkit.runtime.onnx import OnnxPredictor

        return OnnxPredictor(Path("/no/such/model.onnx"))

    with pytest.raises(AllkitError, match=r"model\.onnx does not exist"):
        list(stream(missing, "cpu", Paths(["a.png"])))


def test_answers_cross_from_worker_to_driver_whole():
    from allkit.volume.ray_data import _packed, _unpacked

    answers = [
        replace(
            answer("ü.png"),
            cells=(Cell(1.5, 2.0, 30.0),),
            reasons=("a", "b"),
            reason_codes=("x", "y"),
            coarse="malignant",
            coarse_probability=0.9,
            coarse_verdict="accepted",
            coarse_evidence={"benign": -2.0, "malignant": 2.0},
            red_cell=15.0,
            white_cells=1,
        ),
        Prediction("b.png", "unreadable", ("unreadable",), error="b.png is empty."),
    ]
    assert _unpacked(_packed(answers)) == answers


def test_without_ray_the_line_to_type_is_told(monkeypatch):
    from allkit.volume.ray_data import stream

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[ray\]'"):
        list(stream(lambda: None, "cpu", Paths(["a.png"])))
