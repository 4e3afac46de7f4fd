"""Inputs on which users of other tools stumbled, where they are on this machine; each is a script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
SCRIPTS = sorted(CASES.glob("*.py")) or [
    pytest.param(
        None, marks=pytest.mark.skip("the cases (../shared/cases) are not on this machine")
    )
]

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that `allkit demo` leaves."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    allkit = Path(sys.executable).with_name("allkit")
    subprocess.run([allkit, "demo", "--out", folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path and path.stem)
def test_an_input_that_other_tools_get_wrong_is_read_rightly_or_refused(script, demo, tmp_path):
    environment = os.environ | {"ALLKIT_DEMO": str(demo)}
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
