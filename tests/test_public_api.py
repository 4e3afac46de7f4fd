"""What is public, and what importing it costs."""

import functools
import operator
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import allkit

ROOT = Path(__file__).resolve().parents[1]


def fresh(code):
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_list_of_public_names_is_sorted_and_every_name_is_there():
    assert allkit.__all__ == sorted(allkit.__all__)
    for name in allkit.__all__:
        assert getattr(allkit, name) is not None
    assert set(allkit.__all__) <= set(dir(allkit))


@pytest.mark.parametrize(
    "name", [n for n in allkit.__all__ if n not in ("__version__", "hookimpl")]
)
def test_every_public_name_says_what_it_is(name):
    assert len(getattr(allkit, name).__doc__ or "") > 20


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        allkit.Trainr  # noqa: B018


def test_importing_allkit_imports_no_heavy_library():
    heavy = "'torch', 'timm', 'pandas', 'sklearn', 'matplotlib', 'albumentations', 'streamlit'"
    code = f"import sys, allkit; print([n for n in ({heavy}) if n in sys.modules])"
    assert fresh(code) == "[]"


@pytest.mark.slow
def test_answering_from_an_exported_file_imports_no_torch(tiny, tmp_path):
    path = tmp_path / "m.onnx"
    tiny.export(path)
    code = (
        "import sys; from allkit.cli.models import open_model; from pathlib import Path;"
        f"m = open_model(Path({str(path)!r}));"
        "import numpy as np; m.predict([np.zeros((64, 64, 3), np.uint8)]);"
        "print([n for n in ('torch', 'timm', 'pandas', 'albumentations') if n in sys.modules])"
    )
    assert fresh(code) == "[]"


def test_importing_changes_nothing():
    code = (
        "import os, random, warnings, threading, numpy\n"
        "def state(): return (dict(os.environ), list(warnings.filters), threading.active_count(),"
        " random.getstate()[1][:5], numpy.random.get_state()[1][:5].tolist())\n"
        "before = state()\n"
        "import allkit, allkit.plugins; [getattr(allkit, n) for n in ('Dataset', 'Backbone')]\n"
        "allkit.plugins.registry()\n"
        "print(before == state())"
    )
    assert fresh(code) == "True"


def test_the_version_stands_in_one_form_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == allkit.__version__
    assert "[Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_floors_that_close_security_holes_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = project["dependencies"] + functools.reduce(
        operator.iadd, project["optional-dependencies"].values(), []
    )
    for floor in ("pillow>=13.0.0", "torch>=2.10", "onnx>=1.21.0", "streamlit[auth]>=1.67,<2"):
        assert floor in everything
