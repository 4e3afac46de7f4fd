"""`allkit app`: the clinicians' app, started on this machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

import allkit
from allkit.errors import ConfigError

__all__ = ["app", "run_app"]

# Given on the command line, where no configuration file of the user can undo them.
FLAGS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "viewer",
    "server.enableAgentApi": "false",
    "server.enableCORS": "true",
    "server.enableStaticServing": "false",
    "server.enableXsrfProtection": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "20",
    "server.showEmailPrompt": "false",
}
HOSTS = ("localhost", "127.0.0.1", "::1")
"""The names by which a browser may call it: a page elsewhere cannot rebind its own name to it."""


def app(
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="model folders, or folders of them", metavar="MODELS"),
    ] = None,
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8501,
    browser: Annotated[bool, typer.Option(help="open the browser")] = True,
) -> None:
    """Open the app in the browser. It listens on this machine only and keeps nothing.

    Example:
    allkit app model
    """
    raise typer.Exit(run_app(models or [], port, browser=browser))


def run_app(models: list[Path], port: int, address: str = "127.0.0.1", browser: bool = True) -> int:
    """Run the app until it is stopped, and return its exit status.

    Raises `ConfigError` when Streamlit is not installed, the address is not of this machine only,
    the port is taken, or a model does not exist.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("The app needs Streamlit. Type: pip install 'allkit[app]'")
    _require_loopback(address)
    environment = _environment(models)
    script = _script()
    _require_free_port(address, port)
    flags = FLAGS | {
        "server.address": address,
        "server.port": str(port),
        "server.headless": "false" if browser else "true",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += [f"--{name}={value}" for name, value in flags.items()]
    command += [f"--server.allowedHosts={host}" for host in (*HOSTS, address)]
    return _run(command, environment)


def _run(command: list[str], environment: dict[str, str]) -> int:
    stopped = False
    process = subprocess.Popen(command, env=environment)

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        process.terminate()

    # Whoever ends this process by its id must not leave the app behind.
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if in_main else None
    try:
        while True:
            try:
                status = process.wait()
                return 0 if stopped else status
            except KeyboardInterrupt:  # the usual way to end it
                stop()
    finally:
        if process.poll() is None:
            process.kill()
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _script() -> Path:
    """Return the script of the app: beside the installed package, or in the checkout."""
    package = Path(allkit.__file__).parent
    for folder in (package, package.parents[1]):
        script = folder / "streamlit_app" / "app.py"
        if script.is_file():
            return script
    raise ConfigError(
        f"The app's script is neither in {package} nor beside it. Install allkit again: "
        f"pip install --force-reinstall 'allkit[app]'"
    )


def _environment(models: list[Path]) -> dict[str, str]:
    environment = dict(os.environ)
    for model in models:
        if not model.is_dir():
            what = "is a file" if model.exists() else "does not exist"
            raise ConfigError(f"{model} {what}. Give a model folder, or a folder of model folders.")
        if os.pathsep in str(model.resolve()):
            raise ConfigError(
                f"The path {model.resolve()} holds {os.pathsep!r}, which separates models. Rename "
                f"the folder, or start the app inside it."
            )
    if models:
        environment["ALLKIT_MODELS"] = os.pathsep.join(str(model.resolve()) for model in models)
    return environment


def _require_loopback(address: str) -> None:
    try:
        local = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigError(
            f"The app would listen on {address!r}, where others could reach it, and it has no "
            f"login. Use 127.0.0.1."
        )


def _require_free_port(address: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ConfigError(f"The port is {port}; it must be between 1 and 65535.")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # a port that was just left is free; on Windows it means another
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} on {address} cannot be used ({error.strerror}). Close what uses it, "
                f"or choose another with --port."
            ) from None
