"""`allkit serve`: answers over HTTP."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.extras import EXTRAS, missing_modules
from allkit.cli.models import open_model
from allkit.cli.options import Device, Model
from allkit.cli.progress import say
from allkit.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from allkit.serving.app import Limits
    from allkit.serving.keys import Keys

__all__ = ["serve"]

VARIABLE = "ALLKIT_API_KEY"


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="of the model, in addresses", show_default="the file's")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="keys, one a line; read anew when it changes", show_default=VARIABLE),
    ] = None,
    max_request_mb: Annotated[float, typer.Option(help="size of one request, at most")] = 32,
    queue: Annotated[int, typer.Option(help="images inside at once, at most")] = 256,
    rate: Annotated[
        int, typer.Option(help="requests a minute of each key or address, at most; 0: any number")
    ] = 0,
    access_log: Annotated[
        Path | None, typer.Option(help="file that gets a line for each request, without names")
    ] = None,
    clinic: Annotated[
        bool, typer.Option("--clinic", help="also the clinic, for laboratory systems")
    ] = False,
    device: Device = "auto",
) -> None:
    """Answer over HTTP: images as forms, or by the Open Inference Protocol.

    With --clinic also your clinic, at /clinic, for keys of its own people.

    Example:
    allkit serve model.onnx --port 8080
    """
    missing = missing_modules(EXTRAS["serve"])
    if missing:
        raise ConfigError(
            f"The server needs {', '.join(missing)}. Type: pip install 'allkit[serve]'"
        )
    from allkit.serving.accesses import AccessLog
    from allkit.serving.app import Limits, create_app
    from allkit.serving.guard import is_local
    from allkit.serving.run import listen
    from allkit.serving.run import serve as run_server

    keys = _keys(api_key_file)
    local = is_local(host)
    if keys is None and not local:
        raise ConfigError(
            f"On {host} others could reach the server, and it has no key. Put one into "
            f"{VARIABLE} or give --api-key-file, or use 127.0.0.1."
        )
    if not 0 < max_request_mb <= 2**20 or queue < 1 or rate < 0:
        raise ConfigError("--max-request-mb and --queue must be positive, --rate at least 0.")
    limits = Limits(images=queue, request_bytes=int(max_request_mb * 2**20), requests_a_minute=rate)
    noted = None if access_log is None else AccessLog(access_log)
    with contextlib.ExitStack() as opened:
        bound = opened.enter_context(listen(host, port))
        routers = [_clinic(opened, limits)] if clinic else []
        served_name = name or model.resolve().stem
        app = create_app(
            open_model(model, device),
            name=served_name,
            key=keys,
            limits=limits,
            local=local,
            routers=routers,
            access_log=noted,
        )
        shown = f"[{host}]" if ":" in host else host
        say(
            f"Serving {served_name!r} on http://{shown}:{bound.getsockname()[1]} "
            f"({'with' if keys else 'without'} a key; Ctrl-C ends it)."
            + (" The clinic is at /clinic." if clinic else "")
        )
        complete = run_server(app, bound)
    say("Ended; everything accepted was answered." if complete else "Ended at once.")


def _clinic(opened: contextlib.ExitStack, limits: Limits) -> APIRouter:
    """Return the routes of the clinic, whose store is open as long as the server runs."""
    missing = missing_modules(EXTRAS["clinic"])
    if missing:
        raise ConfigError(
            f"The clinic needs {', '.join(missing)}. Type: pip install 'allkit[clinic]'"
        )
    from allkit.clinic.routes import clinic_router
    from allkit.clinic.store.store import Store

    return clinic_router(opened.enter_context(Store.open()), limits=limits)


def _keys(file: Path | None) -> Keys | None:
    """Return the keys of a file, or of the environment; never of an argument, which all can see."""
    from allkit.serving.keys import Keys, keys_of

    if file is not None:
        return Keys.of_file(file)
    given = os.environ.get(VARIABLE)
    return None if given is None else Keys(keys_of(given, VARIABLE))
