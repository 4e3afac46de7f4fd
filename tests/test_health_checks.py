"""Health checks in `allkit doctor`: allkit's own, and those of plugins, which harm nobody."""

import contextlib
import json
import os
import time

import pytest

from allkit import Finding, HealthCheck
from allkit.plugins import Registry, using
from allkit.testing import ConformanceError, checks_of, conformance

installing = pytest.importorskip("installing", reason="tests/ is not on the path")

pytestmark = pytest.mark.filterwarnings("ignore:The plugin .* has been importing")
"""A busy machine is slow to import them."""
OWN = ("cache-folder", "weights-folder", "site-key", "telemetry")
HEAD = """
from allkit import Finding, HealthCheck, hookimpl
import os, time
api_version = 2
@hookimpl
def allkit_health_checks():
    return [HealthCheck("mine", run, "mine")]
"""


@pytest.fixture
def doctor(cli, tmp_path, monkeypatch):
    """Install plugins by the body of their `run`, and ask the doctor: `doctor(acme="return []")`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def run(**bodies):
        for name, body in bodies.items():
            installing.put(site, name, f"{HEAD}def run():\n    {body}\n")
        if bodies and "ALLKIT_PLUGINS" not in os.environ:
            monkeypatch.setenv("ALLKIT_PLUGINS", ",".join(bodies))  # the others are not asked
        with using(Registry()):
            status, out, err = cli("doctor", "--json")
        assert not err
        return status, json.loads(out)

    return run


def test_own_checks_come_through_the_door():
    assert set(OWN) == set(Registry(discover=False).names("health-check"))


@conformance(*(f"allkit/{name}" for name in OWN))
def test_an_own_health_check_keeps_the_contract(check):
    check()


def test_hook_allkit_health_checks_offers_checks_whose_findings_are_told(doctor):
    status, report = doctor(acme="return [Finding('problem', 'No engine.', 'Type: pip install e')]")
    assert status == 1
    assert report["problems"] == ["No engine. Type: pip install e"]
    assert report["health_checks"]["acme 1.2: mine"] == "problem"


def test_a_note_breaks_nothing(doctor):
    status, report = doctor(acme="return [Finding('note', 'The engine is old.')]")
    assert (status, report["problems"]) == (0, [])
    assert any("The engine is old." in note for note in report["notes"])


FAILING = {
    "divides": ("return 1 / 0", "'mine' failed in `run`: ZeroDivisionError"),
    "exits": ("raise SystemExit(0)", "tried to end the program"),
    "words": ("return ['words']", "'words' is no Finding"),
    "number": ("return 7", "TypeError"),
    "state": (
        "return [Finding('x', 'y')]",
        "1.2: the health-check 'mine' failed in `run`: ValueError: A finding",
    ),
    "crashes": ("os.kill(os.getpid(), 11)", "crashed the Python process (signal 11)"),
    "ends": ("os._exit(0)", "ended the Python process (status 0) without an answer"),
    "loud": ("print('x' * 100000); return 1 / 0", "ZeroDivisionError"),
}


def test_checks_that_fail_are_named_and_harm_nobody(doctor):
    bodies = {f"acme-{name}": body for name, (body, _) in FAILING.items()}
    status, report = doctor(bolt="return [Finding('note', 'All is well.')]", **bodies)
    assert status == 1
    assert len(report["problems"]) == len(FAILING)
    for name, (_, said) in FAILING.items():
        (problem,) = [p for p in report["problems"] if p.startswith(f"acme-{name} 1.2: ")]
        assert said in problem
        assert f"Update or uninstall acme-{name}" in problem
    assert any("All is well." in note for note in report["notes"])


def test_a_check_that_hangs_is_ended(doctor, monkeypatch):
    monkeypatch.setenv("ALLKIT_PLUGIN_SECONDS", "4")
    start = time.monotonic()
    status, report = doctor(acme="time.sleep(60)")
    assert status == 1
    assert "took longer than 4 seconds and was ended" in report["problems"][0]
    assert time.monotonic() - start < 30


def test_a_check_of_a_plugin_that_is_left_out_is_not_run(doctor, monkeypatch):
    monkeypatch.setenv("ALLKIT_PLUGINS", "")
    assert doctor(acme="return 1 / 0")[0] == 0


def test_a_folder_of_weights_that_is_none_and_a_cache_that_cannot_be_written(
    doctor, monkeypatch, tmp_path
):
    monkeypatch.setenv("ALLKIT_WEIGHTS", "/no/such/folder")
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("ALLKIT_CACHE", str(file))
    status, report = doctor()
    assert status == 1
    assert any("/no/such/folder" in problem for problem in report["problems"])
    assert any(f"cache folder {file} cannot be written" in p for p in report["problems"])


# ── each check of the contract finds its fault ────────────────────────────────────────────────

_calls = []


def _changing():
    _calls.append(1)
    return [Finding("note", str(len(_calls)))]


def _reaching():
    import socket

    with contextlib.suppress(OSError):
        socket.create_connection(("example.org", 80), 1)
    return []


@pytest.mark.parametrize(
    ("run", "check", "said"),
    [
        (lambda: "words", "returns_findings", "must return a list"),
        (lambda: [1], "returns_findings", "no Finding"),
        (lambda: [Finding("problem", "x")], "a_problem_has_a_way_out", "no `fix`"),
        (lambda: [Finding("note", " ")], "a_problem_has_a_way_out", "says nothing"),
        (_changing, "finds_the_same_twice", "First it found"),
        (_reaching, "needs_no_network", "example.org"),
    ],
)
def test_a_fault_of_a_health_check_is_found(run, check, said):
    by_name = {one.name: one for one in checks_of(HealthCheck("mine", run))}
    with pytest.raises(ConformanceError, match=said):
        by_name[check]()
