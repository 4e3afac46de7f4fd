"""No name of a patient in what allkit makes, and nobody else may read what holds them."""

import hashlib
import os
import re
import stat
import threading

import pytest

import allkit
from allkit import files
from allkit.errors import ConfigError
from allkit.evaluation import leakage, site_key
from allkit.evaluation.site_key import HiddenGroups, hide_groups
from attacks import privacy


@pytest.fixture
def key(tmp_path, monkeypatch):
    path = tmp_path / "settings" / "site-key"
    monkeypatch.setenv("ALLKIT_SITE_KEY_FILE", str(path))
    return path


@pytest.mark.slow
def test_the_row_of_the_table(tmp_path, site_key):
    for counts in privacy.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_the_whole_row_of_the_table(tmp_path, site_key):
    for counts in privacy.run("long", tmp_path).values():
        counts.require_none_failed()


def test_the_search_for_names_finds_them_in_every_form():
    import base64
    import zlib

    name = f"Mrs {privacy.CANARY}".encode()
    forms = (
        name,
        name.upper(),
        name.decode().encode("utf-16-le"),
        zlib.compress(name),
        base64.b64encode(name),
    )
    for form in forms:
        assert privacy.found_in(b"\1\2\3" + form + b"\0" * 40), form
    assert not privacy.found_in(os.urandom(9999))


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_the_key_is_made_once_and_for_the_user_only(key, mask):
    before = os.umask(mask)
    try:
        hidden = hide_groups(["12345678", "12345679"])
    finally:
        os.umask(before)
    assert re.fullmatch("[0-9a-f]{64}\n", key.read_text())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [path.name for path in key.parent.iterdir()] == ["site-key"]
    assert all(re.fullmatch("[0-9a-f]{8}:[0-9a-f]{32}", entry) for entry in hidden)
    assert hide_groups(["12345679", "12345678"]) == hidden


def test_threads_that_make_the_key_together_end_with_one(key):
    found = []
    threads = [threading.Thread(target=lambda: found.append(hide_groups(["a"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert HiddenGroups(found[0]).holds("a")


def test_groups_of_another_site_are_unknown_and_not_absent(key, monkeypatch, tmp_path, tiny, drawn):
    info = tiny.info.data.model_copy(
        update={"images_sha256": (), "groups_sha256": hide_groups(["g"])}
    )
    data = allkit.Dataset.open(drawn)
    assert not any("another site" in note for note in leakage.cautions(info, {}, data))
    monkeypatch.setenv("ALLKIT_SITE_KEY_FILE", str(tmp_path / "other"))
    notes = leakage.cautions(info, {}, data)
    assert any("is unknown" in note and "another site" in note for note in notes)
    assert not (tmp_path / "other").exists()  # to judge a model makes no key
    assert not HiddenGroups(info.groups_sha256).known


def test_models_of_the_first_versions_are_still_recognised(key):
    old = [hashlib.sha256(f"group {name}".encode()).hexdigest()[:16] for name in ("a", "b")]
    groups = HiddenGroups(old)
    assert groups.known
    assert groups.holds("a")
    assert not groups.holds("c")
    assert not groups.holds(None)
    assert groups.are(["a", "b"])
    mixed = HiddenGroups([*old, *hide_groups(["c"])])
    assert mixed.known
    assert mixed.are(["a", "b", "c"])


def test_overlap_by_group_is_said(tiny, drawn):
    data = allkit.Dataset.open(drawn)
    info = tiny.info.data.model_copy(update={"images_sha256": ()})
    assert any(
        "come from groups that were trained on" in n for n in leakage.cautions(info, {}, data)
    )


def test_a_file_that_holds_no_key_is_named(key):
    key.parent.mkdir()
    key.write_text("secret")
    with pytest.raises(ConfigError, match="holds no key of a site"):
        hide_groups(["a"])


def test_a_key_that_cannot_be_written_ends_with_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALLKIT_SITE_KEY_FILE", str(tmp_path / "file" / "site-key"))
    with pytest.warns(UserWarning, match="ALLKIT_SITE_KEY_FILE"):
        hidden = hide_groups(["a"])
    assert HiddenGroups(hidden).holds("a")
    site_key._forgotten.clear()
    assert not HiddenGroups(hidden).known


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_the_caches_are_closed_to_others(tmp_path, mask):
    import numpy as np

    from allkit.features import FeatureCache

    before = os.umask(mask)
    try:
        cache = FeatureCache(tmp_path / "cache" / "deeper")
        cache.put({b"1" * 32: np.zeros(3, np.float32)})
        files.write_whole(tmp_path / "cache" / "a", "x", private=True)
        with files.whole_folder(tmp_path / "cache" / "b", private=True) as building:
            (building / "inside").mkdir()
            (building / "inside" / "c").write_text("x")
        files.write_whole(tmp_path / "usual", "x")
    finally:
        os.umask(before)
    assert privacy.open_to_others(tmp_path / "cache") == []
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_a_clinic_and_its_backup_are_closed_to_others(tmp_path, mask):
    from allkit.clinic.access import first_person
    from allkit.clinic.store.backup import backup
    from clinic_places import Clock, new_store, picture

    before = os.umask(mask)
    try:
        with new_store(tmp_path / "clinic", None, now=Clock()) as store:
            first_person(store, "anna", "Dr. Anna Berg")
            store.blobs.put(picture(1))
            assert privacy.open_to_others(tmp_path / "clinic") == []  # the journal is there now
            backup(store, tmp_path / "copy", who="anna")
    finally:
        os.umask(before)
    for name in ("clinic", "copy"):
        assert privacy.open_to_others(tmp_path / name) == []
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
