"""Starting the workplace: who may reach it, what it is given, what is refused."""

import json
import os
import socket
import sys

import pytest

from allkit.cli import app as starter
from allkit.cli.app import FLAGS, Start, run_app
from allkit.clinic.access import sign_in
from allkit.clinic.models import models
from allkit.clinic.store.store import Store
from allkit.errors import AccessError, ConfigError

pytest.importorskip("streamlit", reason="the app extra is not installed")
AUTH = """[auth]
redirect_uri = "https://allkit.hospital.example/oauth2callback"
cookie_secret = "a long random text of more than 32"
client_id = "id"
client_secret = "secret"
server_metadata_url = "https://id.hospital.example/.well-known/openid-configuration"
"""


@pytest.fixture
def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def start(tmp_path, monkeypatch, free):
    """Start the workplace of an empty folder, without serving; returns what it would serve."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    served = []
    monkeypatch.setattr(starter, "_serve", lambda *given: served.append(given) or 0)

    def run(*given, **changes):
        values = {"store": tmp_path / "clinic", "name": "anna", "port": free} | changes
        assert run_app(list(given), Start(**values)) == 0
        return served[-1]

    return run


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_without_a_login_it_listens_on_this_machine_only(start, address):
    with pytest.raises(ConfigError, match="nobody would have to sign"):
        start(host=address)


def test_with_a_login_it_may_listen_elsewhere_and_knows_its_name(start, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(AUTH)
    _, _, hosts = start(host="0.0.0.0")
    assert "allkit.hospital.example" in hosts
    assert json.loads(os.environ["ALLKIT_APP"])["login"] is True


def test_a_login_that_lacks_something_is_told(start, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(AUTH.replace("client_id", "client"))
    with pytest.raises(ConfigError, match="lacks client_id"):
        start()


def test_a_group_that_gives_a_role_that_there_is_not_is_told(start, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    table = '\n[allkit]\nroles_claim = "groups"\nroles = { smears = "raeder" }\n'
    (tmp_path / ".streamlit" / "secrets.toml").write_text(AUTH + table)
    with pytest.raises(ConfigError, match="gives the role 'raeder'"):
        start()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (AUTH.replace("a long random text of more than 32", "a"), "cookie_secret .* is too short"),
        (AUTH.replace("https://allkit", "http://allkit"), "cross the network in the open"),
        ('auth = "yes"\n', "Make it a table"),
        (AUTH + '[allkit]\nclaims = "email"\n', "'claims', which is not known"),
        (AUTH + '[allkit]\nroles = { g = "king" }\n', "the role 'king'"),
        ("[auth\n", "is no TOML"),
    ],
)
def test_a_login_that_would_let_others_in_is_refused(start, tmp_path, text, told):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        start(host="0.0.0.0")


def test_secrets_that_others_may_read_are_told(start, tmp_path, capsys):
    (tmp_path / ".streamlit").mkdir()
    place = tmp_path / ".streamlit" / "secrets.toml"
    place.write_text(AUTH)
    place.chmod(0o644)
    start()
    assert "Others on this machine may read" in capsys.readouterr().err
    place.chmod(0o600)
    start()
    assert "Others on this machine may read" not in capsys.readouterr().err


def test_somebody_whom_the_clinic_does_not_know_is_told_at_the_start(start):
    start()
    with pytest.raises(AccessError, match="knows nobody named 'bert'"):
        start(name="bert")


def test_nobody_else_may_look_into_a_new_clinic(start, tmp_path):
    start()
    assert (tmp_path / "clinic").stat().st_mode & 0o077 == 0


def test_a_taken_port_is_told(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} on 127.0.0.1 cannot be used"):
            start(port=port)


def test_a_port_out_of_range_is_told(start):
    with pytest.raises(ConfigError, match="The port is 70000; it must be between 1 and 65535"):
        start(port=70000)


def test_a_model_that_does_not_exist_is_told_and_no_clinic_is_made(start, tmp_path):
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        start(tmp_path / "nowhere")
    assert not (tmp_path / "clinic").exists()


def test_a_folder_without_a_model_is_told(start, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no model"):
        start(tmp_path / "empty")


def test_without_streamlit_it_says_what_to_install(start, monkeypatch):
    monkeypatch.setattr(starter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[app\]'"):
        start()


def test_nothing_is_reported_and_no_traceback_shown():
    assert FLAGS["browser.gatherUsageStats"] is False
    assert FLAGS["client.showErrorDetails"] == "none"
    assert FLAGS["client.showErrorLinks"] is False
    assert FLAGS["server.enableXsrfProtection"] is True


def test_who_starts_it_first_looks_after_the_clinic(start, tmp_path):
    start()
    start()
    with Store.open(tmp_path / "clinic") as store:
        assert set(sign_in(store, "anna").person.roles) == {"reader", "signer", "admin"}
    assert os.environ["ALLKIT_CLINIC"] == str(tmp_path / "clinic")


@pytest.mark.slow
def test_a_model_is_taken_up_once_and_answers(start, tmp_path, tiny_onnx, monkeypatch):
    start(tiny_onnx)
    monkeypatch.setattr(starter, "open_model", lambda path: pytest.fail("opened again"))
    start(tiny_onnx)
    with Store.open(tmp_path / "clinic") as store:
        (model,) = models(sign_in(store, "anna"))
    assert model["default"]
    assert model["name"] == "tiny"


def test_the_pages_import_no_torch():
    import subprocess

    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import workplace.routes, workplace.here, workplace.frame, workplace.answering\n"
        "import importlib\n"
        "from workplace.here import PAGES\n"
        "[importlib.import_module(f'workplace.pages.{name}') for name in PAGES]\n"
        "heavy = {'torch', 'timm', 'onnxruntime', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    app = os.path.join(os.path.dirname(os.path.dirname(__file__)), "streamlit_app")
    done = subprocess.run(
        [sys.executable, "-c", code, app, *sys.path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
