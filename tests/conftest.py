"""What every test stands on: no network, an empty cache, a tiny trained model."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    """No network, no settings of the machine, a cache of its own."""
    for name in [n for n in os.environ if n.startswith("ALLKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    connect = socket.socket.connect

    def local_only(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise OSError(f"network is blocked in tests: {host}")
        return connect(self, address, *rest)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The path of the table of 48 drawn smears in 12 groups."""
    from allkit.data.drawn import write_smears

    return write_smears(tmp_path_factory.mktemp("drawn"), 48, groups=12, seed=3)


@pytest.fixture(scope="session")
def tiny_settings():
    """Settings of a training that takes a second: a small network with random weights."""
    return {
        "backbone": "timm:test_resnet",
        "weights": "none",
        "epochs": 8,
        "cache": None,
        "calibration_folds": 0,
        "view": "rgb",
        "bag": "field",
        "class_weights": False,
        "head_decay": 1e-2,
    }


@pytest.fixture(scope="session")
def tiny(drawn, tiny_settings):
    """A classifier trained on half of the drawn smears."""
    import allkit

    split = allkit.Dataset.open(drawn).split(test=0.34, seed=0)
    return allkit.Trainer(**tiny_settings).fit(split.train)


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    """The model folder of that classifier; tests that alter it copy it first."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def shared():
    """The folder of real images beside the checkout, or a skip."""
    if not (SHARED / "data" / "taleqani" / "index.csv").is_file():
        pytest.skip("the real images (../shared/data) are not on this machine")
    return SHARED


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own: `cli("train", …)` → (status, out, err)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        import sys

        from allkit.cli import main

        monkeypatch.setattr(sys, "argv", ["allkit", *map(str, arguments)])
        status = 0
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # the command line prints them
            try:
                main()
            except SystemExit as stop:
                status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run
