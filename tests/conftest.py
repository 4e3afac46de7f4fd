"""What every test stands on: no network, an empty cache, a tiny trained model."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import sys
import types
import warnings
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


# A worker that begins one of these last is waited for by the others.
LONGEST = (
    "test_no_route_out.py", "test_conformance.py", "test_real.py", "test_strategies.py",
    "test_cli.py", "test_volume.py", "test_resume.py", "test_dinobloom.py", "test_tutorials.py",
    "test_audit.py", "test_adapt.py", "test_blocks.py", "test_notebooks.py", "test_examples.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def site_key(tmp_path_factory):
    """The file of a key of this site, the same in every test: models keep their groups under it."""
    path = tmp_path_factory.mktemp("site") / "site-key"
    path.write_text("0123456789abcdef" * 4 + "\n")
    path.chmod(0o600)
    os.environ["ALLKIT_SITE_KEY_FILE"] = str(path)
    return path


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    """The file of what each installed plugin offers: they are asked once, not in every test."""
    from allkit.plugins.catalogue import installed, offers_of

    folder = tmp_path_factory.mktemp("catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALLKIT_PLUGINS", raising=False)
        patch.setenv("ALLKIT_CACHE", str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a busy machine is slow to import them
            offers_of(installed()[0])
    return folder / "plugins.json"


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory, catalogue, site_key):
    """No network, no settings of the machine, a cache of its own."""
    for name in [n for n in os.environ if n.startswith("ALLKIT_")]:
        monkeypatch.delenv(name)
    cache = tmp_path_factory.mktemp("cache")
    if catalogue.is_file():
        shutil.copy(catalogue, cache)
    monkeypatch.setenv("ALLKIT_CACHE", str(cache))
    monkeypatch.setenv("ALLKIT_SITE_KEY_FILE", str(site_key))
    connect = socket.socket.connect

    def local_only(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise OSError(f"network is blocked in tests: {host}")
        return connect(self, address, *rest)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="module")
def benchmarks():
    """The folder of the benchmarks, whose scripts can be imported while the tests of a file run."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield folder
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The path of the table of 48 drawn smears in 12 groups."""
    from allkit.data.drawn import write_smears

    return write_smears(tmp_path_factory.mktemp("drawn"), 48, groups=12, seed=3)


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """The path of the table of 24 drawn smears in 12 groups, for what trains again and again."""
    from allkit.data.drawn import write_smears

    return write_smears(tmp_path_factory.mktemp("few"), 24, groups=12, seed=3)


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


@pytest.fixture(scope="session")
def trained(few, tiny_settings):
    """Train on the 24 smears, once for the same settings: `trained(strategy="last")`.

    For tests that only read the classifier. One that changes it, or asks whether a training
    repeats itself, trains its own.
    """
    import allkit

    made = {}

    def get(**settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in made:
            made[key] = allkit.Trainer(**tiny_settings | settings).fit(allkit.Dataset.open(few))
        return made[key]

    return get


# Forks of one server, which has torch and allkit loaded: a new interpreter takes seconds for that.
FORKED = """
import os, sys, warnings
os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
os.environ.update(environment)
warnings.simplefilter("ignore")
exec(program, names)
"""


@pytest.fixture(scope="session")
def fork_server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([
        "torch", "accelerate", "timm", "sklearn.model_selection", "scipy.optimize", "allkit.training",
        "allkit.plugins", "matplotlib.backends.backend_agg", "matplotlib.figure",
    ])  # fmt: skip
    return context


@pytest.fixture
def start(fork_server, tmp_path):
    """Start a program in a process of its own: `start(code, environment, name=value, …)`.

    Returns the process, with the path of what it wrote to standard error as `errors`.
    """
    started = []

    def begin(program, environment=(), **names):
        errors = tmp_path / f"errors-{len(started)}.txt"
        inside = {
            "program": program, "errors": str(errors), "environment": dict(environment),
            "names": {"__name__": "__main__", **names},
        }  # fmt: skip
        process = fork_server.Process(target=exec, args=(FORKED, inside))
        process.errors = errors
        with pytest.MonkeyPatch.context() as patch:
            # Whatever is the main module here (the app, after a test of it) is not run there.
            patch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
            process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own: `cli("train", …)` → (status, out, err)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):

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


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server in a temporary folder, or a skip with the reason."""
    from clinic_places import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The URL of an empty database: `None` for SQLite."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres").database()


@pytest.fixture
def clinic(tmp_path, database):
    """An empty clinic, on both databases, and its first person: (store, user)."""
    from allkit.clinic.access import first_person
    from clinic_places import Clock, new_store

    with new_store(tmp_path / "clinic", database, now=Clock()) as store:
        yield store, first_person(store, "anna", "Dr. Anna Berg")


@pytest.fixture(scope="session")
def tiny_onnx(tiny, tmp_path_factory):
    """That classifier as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    tiny.export(path)
    return path
