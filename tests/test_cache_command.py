"""`allkit cache`: what is kept, and how to be rid of it."""

import json
import os
from pathlib import Path

import numpy as np
import torch

from allkit.features import ActivationStore, FeatureCache, activations_folder


def fill():
    cache = FeatureCache()
    vectors = {f"{i}".encode(): np.zeros(100, np.float32) for i in range(5)}
    cache.put(vectors, backbone="vgg16", engine="torch 2 cpu float32")
    cache.put({b"other": np.zeros(100, np.float32)}, backbone="lite", engine="openvino 2026 cpu")
    store = ActivationStore.open(
        activations_folder(), "cut", (8,), torch.float32,
        about={"backbone": "vgg16", "stage": "block4", "engine": "torch 2 cpu float32"},
    )  # fmt: skip
    store.write([b"a", b"b"], torch.zeros(2, 8))


def test_an_empty_cache_is_shown_as_empty(cli):
    status, out, _ = cli("cache")
    assert status == 0
    assert "features: 0.0 MB of 2,048.0 MB" in out
    assert "activations: 0.0 MB of 16,384.0 MB" in out


def test_what_is_kept_is_listed_by_backbone_and_engine(cli):
    fill()
    _, out, _ = cli("cache", "list")
    assert "vgg16 block4" in out
    assert "openvino 2026 cpu" in out
    report = json.loads(cli("cache", "list", "--json")[1])
    assert report["folder"] == os.environ["ALLKIT_CACHE"]
    rows = {(e["kind"], e["backbone"]): e for e in report["entries"]}
    assert rows["features", "vgg16"]["count"] == 5
    assert rows["activations", "vgg16"]["stage"] == "block4"
    assert rows["activations", "vgg16"]["count"] == 2


def test_one_backbone_is_cleared_and_the_others_stay(cli):
    fill()
    _, out, _ = cli("cache", "clear", "--backbone", "vgg16")
    assert out == "Dropped 5 features and the activations of 2 images.\n"
    entries = json.loads(cli("cache", "list", "--json")[1])["entries"]
    assert [e["backbone"] for e in entries] == ["lite"]


def test_what_was_used_lately_stays_when_days_are_given(cli):
    fill()
    assert (
        "Dropped 0 features and the activations of 0"
        in cli("cache", "clear", "--unused-days", "1")[1]
    )
    assert "Dropped 6 features and the activations of 2" in cli("cache", "clear")[1]


def test_a_backbone_of_which_nothing_is_kept_is_refused(cli):
    fill()
    status, _, err = cli("cache", "clear", "--backbone", "resnet")
    assert status == 2
    assert "There is: lite, vgg16" in err


def test_a_damaged_cache_is_named(cli):
    Path(os.environ["ALLKIT_CACHE"], "features.sqlite").write_bytes(b"no database" * 100)
    status, _, err = cli("cache", "list")
    assert status == 2
    assert "Delete the file" in err


def test_a_cache_of_an_older_layout_is_begun_anew(tmp_path):
    import sqlite3

    connection = sqlite3.connect(tmp_path / "features.sqlite")
    connection.execute("CREATE TABLE features (key BLOB PRIMARY KEY, vector BLOB, used REAL)")
    connection.commit()
    connection.close()
    cache = FeatureCache(tmp_path)
    cache.put({b"k": np.ones(3, np.float32)})
    assert cache.get([b"k"])[b"k"].tolist() == [1, 1, 1]
