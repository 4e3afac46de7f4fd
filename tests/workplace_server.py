"""The workplace as `allkit app` starts it, for tests in a browser: the server, its store, the browser."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
CLOSED = (  # the browser's own calls home, which are not the workplace's
    "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=127.0.0.1",
)  # fmt: skip
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]


def free_port():
    """A port that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(true, seconds=20.0, what="it"):
    """What `true` answers, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)
    return answer


class Workplace:
    """A server in a process of its own, with a home of its own; it can be killed and started again."""

    def __init__(self, folder, *arguments, port=None):
        self.folder, self.arguments, self.port = Path(folder), arguments, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = self.folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.store = self.folder / "clinic"
        self.log = self.folder / "log"
        self.process = None

    def start(self):
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "allkit", "app", *map(str, self.arguments), "--no-browser"]
        options = ["--port", str(self.port), "--store", str(self.store), "--as", "anna"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLKIT_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options],
                cwd=self.home, env=kept | {"HOME": str(self.home)}, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._answers, 60, "the server")
        return self

    def _answers(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).read() == b"ok"
        return False

    def kill(self):
        """End it as a failing machine would: at once."""
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        """End it as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def opened(self):
        """Its store, opened beside it."""
        from allkit.clinic.store.store import Store

        return Store.open(self.store)

    def answering(self):
        """The process that answers, by its id; `None` while there is none."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = [line.split(None, 1) for line in found.stdout.splitlines() if " work" in line]
        return int(lines[0][0]) if lines else None


@contextlib.contextmanager
def browser():
    """A browser that reaches this machine only."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CLOSED))
        try:
            yield opened
        finally:
            opened.close()


class Watched:
    """What a page asked for, and what its console says is wrong."""

    def __init__(self, page):
        self.page, self.asked, self.wrong = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("console", self._console)

    def _console(self, message):
        if message.type == "error":
            self.wrong.append(f"{message.text} {message.location.get('url', '')}")

    def elsewhere(self, url):
        """The requests to anywhere but this server; what the browser makes itself is none."""
        own = (url, url.replace("http", "ws"), "data:", f"blob:{url}")
        return [one for one in self.asked if not one.startswith(own)]


@contextlib.contextmanager
def new_page(opened, *, size=(1440, 900), scheme="light", language="en-GB", **options):
    """A page in a context of its own, as another person's computer would have it."""
    context = opened.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale=language,
        reduced_motion="reduce", **options,
    )  # fmt: skip
    context.set_default_timeout(20_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def still(page):
    """Wait until Streamlit has drawn what it was asked for."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(
        state="attached"
    )


PEOPLE = {"anna": ("reader", "signer", "admin"), "ben": ("reader", "signer"), "cleo": ("reader",)}


def filled(folder, *, fields=4, said=None, host="clinic.example"):
    """A clinic with people, who sign in by their addresses, and a case that the model has answered.

    `said` is what the model says of each field, as (verdict, class); it accepts Benign where nothing is
    given. The first person is anna, who starts the server. Return the id of the case.
    """
    from allkit.clinic import access, cases
    from allkit.clinic import fields as fields_
    from allkit.clinic.store.store import Store
    from clinic_places import BLOOD, Scripted, incoming, with_model

    with Store.create(folder) as store:
        anna = access.first_person(store, "anna", "Dr. Anna Berg")
        for name, roles in PEOPLE.items():
            access.add_person(anna, f"{name}@{host}", roles, display=name.title())
        images = [incoming(seed) for seed in range(1, fields + 1)]
        model = Scripted()
        for image, one in zip(images, said or [], strict=False):
            model.said[image.sha256] = one
        _, worker = with_model(anna, Path(folder).parent / "model.bin", model)
        case = cases.create(anna, specimen_=BLOOD, patient="P-4711")
        fields_.add(anna, case, images)
        worker.drain()
    return case


class Provider:
    """A provider of logins on this machine, and the secrets of a workplace that trusts it."""

    def __init__(self, folder):
        self.port, self.log = free_port(), Path(folder) / "provider.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        """Start it, and wait until it answers."""
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "oidc_provider_mock",
            "--port",
            str(self.port),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, 60, "the provider")
        return self

    def _answers(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            address = f"{self.url}/.well-known/openid-configuration"
            return urllib.request.urlopen(address, timeout=2).status == 200
        return False

    def knows(self, who, **claims):
        """Add somebody, with what their tokens say."""
        request = urllib.request.Request(
            f"{self.url}/users/{who}", json.dumps(claims).encode(), method="PUT",
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        urllib.request.urlopen(request, timeout=10).close()

    def trusted(self, workplace, allkit=""):
        """Write the secrets of a workplace, with its table [allkit]."""
        place = workplace.home / ".streamlit" / "secrets.toml"
        place.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            "[auth]", f'redirect_uri = "{workplace.url}/oauth2callback"', 'client_id = "allkit"',
            f'cookie_secret = "{"s3cret" * 8}"', 'client_secret = "of the client"',
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"', allkit,
        ]  # fmt: skip
        place.write_text("\n".join(lines))

    def stop(self):
        """End it."""
        self.process.kill()
        self.process.wait(20)


def log_in(page, name):
    """Press the workplace's button, and say at the provider who one is."""
    page.get_by_role("button", name="Sign in").click()
    at_provider(page, name)


def at_provider(page, name):
    """Say at the provider who one is."""
    page.get_by_placeholder("sub").fill(name)
    page.get_by_role("button", name="Authorize").click()


def press(page, key):
    """Press a key on the selected field; where the desk asks why, give the first reason."""
    page.keyboard.press(key)
    reason = page.locator("dialog.reason")
    if reason.is_visible():
        page.wait_for_timeout(700)  # nobody has read the reasons sooner, so no key chooses one
        page.keyboard.press("1")
        reason.wait_for(state="detached")


def held(workplace, case, name="anna"):
    """The fields of a case, as the store holds them."""
    from allkit.clinic.access import sign_in
    from allkit.clinic.view import look

    with workplace.opened() as store:
        return look(sign_in(store, name), case).fields


def barriers(page):
    """What axe finds on a page that keeps people out, each with the first element that it names."""
    found = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    answer = found.Axe().run(page).response
    assert "color-contrast" in [one["id"] for one in answer["passes"]], "axe has looked"
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} | {node['failureSummary'][:200]}"
        for one in answer["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:2]
    ]
