"""The program around allkit may have set anything: the answers are the same, and it finds its own again."""

import asyncio
import errno
import os
import random
import subprocess
import sys
import threading
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import allkit
from allkit import files
from allkit.errors import AllkitError
from allkit.plugins import catalogue, probe
from attacks import host
from installing import put

SRC = Path(allkit.__file__).parents[1]
HOOK = "import allkit\n@allkit.hookimpl\ndef allkit_backbones():\n    return []\n"


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOME", "XDG_", "ALLKIT_"))}
    path = os.pathsep.join([more.pop("first", ""), str(SRC), os.environ.get("PYTHONPATH", "")])
    return kept | {"PYTHONPATH": path.strip(os.pathsep)} | more


def run(*arguments, cwd, **more):
    return subprocess.run(
        [sys.executable, "-P", "-m", "allkit", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment(**more), timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def answers(tiny, drawn):
    """Some images, and what the model says of them in a program that has set nothing."""
    images = [sample.image for sample in allkit.Dataset.open(drawn)][:3]
    pixels = [allkit.read_image(drawn.parent / image) for image in images]
    return pixels, tiny.predict(pixels)


@pytest.mark.parametrize("state", ["float64", "default_device", "recursion"])
def test_a_model_that_is_opened_in_another_state_is_the_same(tiny_folder, answers, state):
    pixels, expected = answers
    with host.STATES[state]():
        inside = host.seen()
        model = allkit.Classifier.load(tiny_folder)
        assert host.seen() == inside
    assert model.predict(pixels) == expected


@pytest.mark.parametrize("state", ["float64", "inference_mode", "autocast"])
def test_a_training_does_not_depend_on_it_either(few, tiny_settings, trained, state):
    usual = trained(epochs=2)
    with host.STATES[state]():
        inside = host.seen()
        model = allkit.Trainer(**tiny_settings | {"epochs": 2}).fit(allkit.Dataset.open(few))
        assert host.seen() == inside
    assert model.content_hash() == usual.content_hash()


def test_the_row_of_the_table(tiny_folder, tiny_onnx, answers, tmp_path):
    for counts in host.run("short", tmp_path, tiny_folder, tiny_onnx, answers[0]).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_the_whole_row_of_the_table(tiny_folder, tiny_onnx, answers, tmp_path):
    for counts in host.run("long", tmp_path, tiny_folder, tiny_onnx, answers[0]).values():
        counts.require_none_failed()


def test_answers_in_a_thread_and_in_a_running_loop(tiny, answers):
    pixels, expected = answers

    async def within():
        return tiny.predict(pixels)

    assert asyncio.run(within()) == expected
    found = []
    thread = threading.Thread(target=lambda: found.extend(tiny.predict(pixels)))
    thread.start()
    thread.join()
    assert found == expected


def test_loading_a_model_draws_no_random_number(tiny_folder):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    allkit.Classifier.load(tiny_folder)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


# ── modules with names of others in the working folder ─────────────────────────────────────────


@pytest.mark.parametrize("name", ["types", "enum", "json", "random", "numpy", "pluggy", "allkit"])
def test_what_lies_in_the_working_folder_is_not_imported_by_the_probe(tmp_path, monkeypatch, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('not for you')\n")
    plugin = tmp_path / "elsewhere"
    plugin.mkdir()
    (plugin / "a_plugin.py").write_text(HOOK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(plugin))
    told = list(probe.probe([("a 1", "a", "a_plugin")], 15, catalogue.search_path()))
    assert [(t["error"], t.get("kept", True)) for t in told] == [(None, True)]


def test_a_folder_that_pythonpath_names_is_searched_also_as_the_working_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(tmp_path) not in catalogue.search_path()
    assert catalogue.search_path([str(tmp_path)])[-1] == str(tmp_path)  # a plugin lies there
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert catalogue.search_path()[0] == str(tmp_path)


def test_a_plugin_is_whole_in_the_folder_where_it_is_edited(tmp_path):
    folder = tmp_path / "allkit-mine"
    folder.mkdir()
    (folder / "allkit_mine.py").write_text(HOOK)
    (folder / "numpy.py").write_text("raise SystemExit('not for you')\n")
    (tmp_path / "link").symlink_to(folder)
    venv.create(tmp_path / "venv")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    put(site, "allkit-mine", "")
    (site / "allkit_mine.py").unlink()
    (site / "mine.pth").write_text(f"{folder}\n")  # what `pip install --editable .` leaves
    others = [p for p in sys.path if "site-packages" in p]
    code = (
        f"import sys; sys.path += {[str(SRC), *others]}\n"
        "from allkit.plugins import Registry\n"
        "(found,) = [p for p in Registry().plugins if p.distribution == 'allkit-mine']\n"
        "print(found.error)"
    )
    for here in (folder, tmp_path / "link", tmp_path):
        done = subprocess.run(
            [tmp_path / "venv/bin/python", "-P", "-c", code],
            capture_output=True, text=True, cwd=here, timeout=60,
            env=environment(ALLKIT_CACHE=str(tmp_path / here.name), PYTHONPATH=""),
        )  # fmt: skip
        assert (done.stdout, done.returncode) == ("None\n", 0), done.stderr


def test_a_probe_that_cannot_begin_says_nothing_about_plugins(monkeypatch):
    chosen, _ = catalogue.installed()
    here = files.cache_folder() / "plugins.json"
    here.unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        told = catalogue.offers_of(chosen[:1])
    assert [entry["error"] for entry in told] == [None]
    assert not here.exists() or catalogue._read(here) == {}


def test_a_plugin_that_was_killed_from_outside_is_asked_again(tmp_path, monkeypatch):
    (tmp_path / "victim.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (told,) = probe.probe([("victim 1", "victim", "victim")], 15, catalogue.search_path())
    assert "ended" in told["error"] or "crashed" in told["error"]
    assert told["kept"] is False


# ── drives and homes ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "EINVAL", "ENOSYS"])
def test_a_drive_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, code):
    def flock(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="has no locks"):
        stream = files.held(tmp_path / "lock", tmp_path / "answers.csv")
    assert stream is not None
    stream.close()


def test_a_lock_that_another_holds_is_still_seen(tmp_path):
    first = files.held(tmp_path / "lock", tmp_path)
    assert files.held(tmp_path / "lock", tmp_path) is None
    first.close()
    again = files.held(tmp_path / "lock", tmp_path)
    again.close()


@pytest.mark.parametrize("broken", ["chmod", "fsync", "link"])
def test_files_are_written_on_drives_that_lack_something(tmp_path, monkeypatch, broken):
    def refuse(*_, **__):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, broken, refuse)
    files.write_whole(tmp_path / "a", "text")
    with files.whole_folder(tmp_path / "b") as building:
        (building / "c").write_text("text")
    assert (tmp_path / "a").read_text() == (tmp_path / "b" / "c").read_text() == "text"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_disk_that_fails_is_not_taken_for_one_without_a_feature(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AllkitError, match="No space left"):
        files.write_whole(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())


def test_the_longest_name_is_written_and_a_longer_one_refused(tmp_path):
    files.write_whole(tmp_path / ("é" * 127), "text")
    with pytest.raises(AllkitError, match="too long"):
        files.write_whole(tmp_path / ("n" * 300), "text")
    with pytest.raises(AllkitError, match="too long"):
        files.require_free(tmp_path / ("n" * 300), overwrite=False)
    assert len(list(tmp_path.iterdir())) == 1


HOMELESS = (
    "import pwd\ndef getpwuid(*a): raise KeyError('uid not found')\npwd.getpwuid = getpwuid\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("home", ["none", "a file"])
def test_commands_work_for_a_user_without_a_home(tmp_path, tiny_onnx, drawn, home):
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    (site / "sitecustomize.py").write_text(HOMELESS)
    place = tmp_path / "home"
    place.write_text("")  # nothing can be made below it, not even by root
    more = {} if home == "none" else {"HOME": str(place), "XDG_CACHE_HOME": str(place)}
    done = run(
        "predict",
        tiny_onnx,
        *sorted(drawn.parent.rglob("*.png"))[:1],
        cwd=work,
        first=str(site),
        **more,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 3), done.stderr
    assert not list(work.iterdir())


def test_a_user_without_a_home_has_a_cache_for_this_process_only(monkeypatch):
    monkeypatch.delenv("ALLKIT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/allkit")
    files._of_this_process.cache_clear()
    folder = files.cache_folder()
    assert folder == files.cache_folder()
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
    files._of_this_process.cache_clear()
