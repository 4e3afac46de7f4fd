"""What allkit brings onto a machine has no known holes, no copyleft in the core, and runs no file."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from attacks import supply_chain

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "supply_chain.py"


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The counts of the row."""
    return supply_chain.run("short", tmp_path_factory.mktemp("supply"))


@pytest.mark.parametrize("line", [
    "floors of versions with known holes", "licences of what is installed",
    "files of code without a call that runs what it reads",
])  # fmt: skip
def test_nothing_is_brought_that_is_known_to_be_unsafe(lines, line):
    lines[line].require_none_failed()


@pytest.mark.parametrize(("said", "core", "out"), [
    ("MIT", True, False), ("LGPL-3.0-only", True, True), ("LGPL-3.0-only", False, False),
    ("GPL3", False, True), ("AGPL-3.0", False, True), ("Apache-2.0 OR GPL-2.0", True, False),
    ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False, True),
    ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False, False),
])  # fmt: skip
def test_a_copyleft_licence_is_recognised(monkeypatch, said, core, out):
    monkeypatch.setattr(supply_chain, "licence", lambda name: said)
    assert supply_chain.forbidden("anything", core=core) is out


@pytest.mark.parametrize("call", [
    "pickle.load(f)", "joblib.load(p)", "eval(text)", "torch.hub.load(a, b)", "yaml.unsafe_load(t)",
    "os.system(t)",
])  # fmt: skip
def test_a_call_that_runs_what_it_reads_is_recognised(call):
    name = ast.unparse(ast.parse(call).body[0].value.func)
    assert supply_chain.BANNED.search(name)


def test_an_audit_that_audited_nothing_is_no_success(tmp_path):
    report = {"dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "skip_reason": "not found"},
    ]}  # fmt: skip
    (tmp_path / "audit.json").write_text(json.dumps(report))
    done = subprocess.run(
        [sys.executable, SCRIPT, "audit", "--report", tmp_path / "audit.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "2 installed, 1 audited, 0 with known holes" in done.stdout
    assert "b 2: not found" in done.stdout


def test_the_bill_of_materials_holds_what_a_user_gets(tmp_path):
    from importlib.metadata import version

    components = [
        {"name": name, "version": "1", "type": "library"} for name in ("Pillow", "torch", "ruff")
    ]
    everything = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components}
    (tmp_path / "all.json").write_text(json.dumps(everything))
    out = tmp_path / "sbom.json"
    subprocess.run(
        [sys.executable, SCRIPT, "sbom", "--environment", tmp_path / "all.json", "--out", out],
        check=True,
    )
    made = json.loads(out.read_text())
    scopes = {c["name"]: c["scope"] for c in made["components"]}
    assert scopes == {"Pillow": "required", "torch": "optional"}
    assert made["metadata"]["component"]["version"] == version("allkit")
