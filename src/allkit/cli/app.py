"""`allkit app`: the workplace of a clinic, started on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import allkit
from allkit.cli.app_login import SECRETS, login_table, name_of
from allkit.cli.clinic_options import As, Url, Where, own_name, require_clinic
from allkit.cli.ending import Stopped
from allkit.cli.models import open_model
from allkit.cli.progress import say
from allkit.errors import ConfigError

if TYPE_CHECKING:
    from allkit.clinic.access import User
    from allkit.clinic.store.store import Store
    from allkit.data.dataset import Dataset

__all__ = ["app", "run_app"]

# Given as settings of the program, where no configuration file of the user can undo them.
FLAGS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "server.enableAgentApi": False,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 1,  # files come by a route of our own, which keeps them out of the memory
    "server.showEmailPrompt": False,
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names by which a browser may call it: a page elsewhere cannot rebind its own name to it."""
DEMO = Path("allkit-demo")


@dataclass(frozen=True)
class Start:
    """How the workplace is started. `host` is the address to listen on; `name` is who acts without login."""

    store: Path | None = None
    url: str | None = None
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8501
    browser: bool = True
    demo: bool = False


def app(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="model folders or exported files, or folders of them", metavar="MODELS"
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="on 127.0.0.1, or on --host")] = 8501,
    browser: Annotated[bool, typer.Option(help="open the browser")] = True,
    demo: Annotated[
        bool, typer.Option("--demo", help="ten synthetic cases, to try it out")
    ] = False,
    host: Annotated[
        str, typer.Option(help="the address to listen on; others than this machine's need a login")
    ] = "127.0.0.1",
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Open the workplace of a clinic in the browser: cases, readings, signatures, reports.

    Without a login (OIDC, in .streamlit/secrets.toml) it listens on this machine
    only, and who sits there acts.

    Example:
    allkit app
    allkit app model.onnx
    allkit app --demo
    """
    start = Start(store, url, as_, host=host, port=port, browser=browser, demo=demo)
    raise typer.Exit(run_app(models or [], start))


def run_app(models: list[Path], start: Start) -> int:
    """Run the workplace until it is stopped, and return its exit status.

    Raises `ConfigError` when something is not installed, the address can be reached by others and nobody
    has to sign in, the port is taken, or a model does not exist.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("The app needs Streamlit. Type: pip install 'allkit[app]'")
    require_clinic()
    login = login_table()
    _require_closed(start.host, login=login is not None)
    for path in models:
        if not path.exists():
            raise ConfigError(
                f"{path} does not exist. Give a model folder, an exported file, or a folder of these."
            )
    folder = _script().parent
    _require_free_port(start.host, start.port)
    if start.demo:
        start = _of_demo(start)
    name = start.name or own_name()
    with _opened(start, name) as store:
        if login is None or models:
            _take_up(store, name, models)
        where = {"ALLKIT_CLINIC": str(store.folder.resolve())}
        where |= {} if store.url is None else {"ALLKIT_CLINIC_URL": store.url}
    hosts = [*LOOPBACK, start.host, *name_of(login)]
    said = {"name": name, "hosts": hosts, "login": login is not None, "demo": start.demo}
    os.environ |= where | {"ALLKIT_APP": json.dumps(said)}
    return _serve(folder, start, hosts)


def _opened(start: Start, name: str) -> Store:
    """Return the clinic, which is made where there is none yet: who starts it looks after it."""
    from allkit.clinic.access import first_person, people
    from allkit.clinic.store.store import Store

    store = Store.create(start.store, start.url)
    with store.read() as connection:
        known = people(connection)
    if not known:
        first_person(store, name)
        say(f"A new clinic in {store.folder.resolve()}; {name} may read, sign and look after it.")
    return store


def _take_up(store: Store, name: str, given: list[Path]) -> None:
    """Take up the models that are given; the first one answers from now on.

    Raises `AccessError` where the clinic does not know who starts it.
    """
    from allkit.clinic.access import sign_in
    from allkit.clinic.models import add_model, known_model

    user: User = sign_in(store, name)
    paths = [path for place in given for path in _models_in(place)]
    for number, path in enumerate(paths):
        if not known_model(user, path, default=number == 0):
            say(f"Taking up {path}")
            add_model(user, path, open_model(path), default=number == 0)


def _models_in(place: Path) -> Iterator[Path]:
    if place.is_file() or (place / "model.json").is_file():
        yield place
        return
    found = [path.parent for path in sorted(place.glob("*/model.json"))]
    found += sorted(place.glob("*.onnx"))
    if not found:
        raise ConfigError(f"{place} holds no model. Give a model folder or an exported file.")
    yield from found


def _of_demo(start: Start) -> Start:
    """Return the start with the demo's clinic, which is made where it is not there yet."""
    from dataclasses import replace

    from allkit.cli.demo import demo
    from allkit.clinic.demo import make_demo

    folder, model = DEMO / "clinic", DEMO / "model.onnx"
    if not folder.exists():
        if not model.exists():
            say("The demo's model is made first, which takes about a minute.")
            demo(out=DEMO, overwrite=DEMO.exists())
        say("Making ten synthetic cases; nothing follows from them for real ones.")
        make_demo(folder, model, open_model(model), _smears(), who=start.name or own_name())
    return replace(start, store=folder, url=None, name=start.name or _maker(folder))


def _maker(folder: Path) -> str:
    """Return who acts in the demo: who is signed in to this machine, or else who made it."""
    from allkit.clinic.access import people
    from allkit.clinic.store.store import Store

    with Store.create(folder) as store, store.read() as connection:
        known = {one.name: one.roles for one in people(connection)}
    every = [name for name, roles in known.items() if {"signer", "admin"} <= set(roles)]
    return own_name() if own_name() in known or not every else every[0]


def _smears() -> Dataset | None:
    """Return the smears that the demo's model was trained on, to look at beside a field."""
    from allkit.data.dataset import Dataset

    table = DEMO / "split.csv"
    return Dataset.open(table) if table.is_file() else None


# ── who may come ──────────────────────────────────────────────────────────────────────────────


def _require_closed(host: str, *, login: bool) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not login:
        raise ConfigError(
            f"The app would listen on {host!r}, where others could reach it, and nobody would have to sign "
            f"in. Use 127.0.0.1, or set up a login (OIDC) in {SECRETS}."
        )


def _require_free_port(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ConfigError(f"The port is {port}; it must be between 1 and 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # a port that was just left is free; on Windows it means another
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} on {host} cannot be used ({error.strerror}). Close what uses it, "
                f"or choose another with --port."
            ) from None


# ── serving ───────────────────────────────────────────────────────────────────────────────────


def _script() -> Path:
    """Return the server's module: beside the installed package, or in the checkout."""
    package = Path(allkit.__file__).parent
    for folder in (package, package.parents[1]):
        script = folder / "streamlit_app" / "asgi.py"
        if script.is_file():
            return script
    raise ConfigError(
        f"The app's script is neither in {package} nor beside it. Install allkit again: "
        f"pip install --force-reinstall 'allkit[app]'"
    )


def _serve(folder: Path, start: Start, hosts: list[str]) -> int:
    """Serve in this process, which has imported half of what is needed."""
    sys.path.insert(0, str(folder))
    # It names the folder in which Streamlit looks for its own settings.
    sys.argv = [str(folder / "asgi.py")]
    server = importlib.import_module("asgi")
    config = FLAGS | {
        "server.address": start.host,
        "server.port": start.port,
        "server.headless": not start.browser,
        "server.allowedHosts": hosts,
    }
    say(f"http://{start.host}:{start.port}  Ctrl-C ends it.")
    # The server ends what was begun, and then raises the signal anew; asked politely, that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt, Stopped):
        server.app.run(config=config)
    return 0
