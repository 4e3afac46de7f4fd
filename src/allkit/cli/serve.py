"""`allkit serve`: answers over HTTP."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from allkit.cli.judge import open_model
from allkit.cli.progress import say
from allkit.errors import ConfigError

__all__ = ["run_serve"]

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
VARIABLE = "ALLKIT_API_KEY"


def run_serve(
    model_path: Path,
    host: str,
    port: int,
    name: str | None,
    key_file: Path | None,
    max_request_mb: float,
    queue: int,
    device: str,
) -> None:
    """Serve a model until the process is told to stop."""
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"The server needs {', '.join(missing)}. Type: pip install 'allkit[serve]'"
        )
    from allkit.serving.app import Limits, create_app
    from allkit.serving.guard import is_local
    from allkit.serving.run import listen, serve

    key = _key(key_file)
    local = is_local(host)
    if key is None and not local:
        raise ConfigError(
            f"On {host} others could reach the server, and it has no key. Put one into "
            f"{VARIABLE} or give --api-key-file, or use 127.0.0.1."
        )
    if max_request_mb <= 0 or queue < 1:
        raise ConfigError("--max-request-mb and --queue must be positive.")
    with listen(host, port) as bound:
        model = open_model(model_path, device)
        limits = Limits(images=queue, request_bytes=int(max_request_mb * 2**20))
        named = name or model_path.resolve().stem
        app = create_app(model, name=named, key=key, limits=limits, local=local)
        shown = f"[{host}]" if ":" in host else host
        say(
            f"Serving {named!r} on http://{shown}:{bound.getsockname()[1]} "
            f"({'with' if key else 'without'} a key; Ctrl-C ends it)."
        )
        whole = serve(app, bound)
    say("Ended; everything accepted was answered." if whole else "Ended at once.")


def _key(file: Path | None) -> str | None:
    """Return the key from a file, or the environment; never from an argument, which all can see."""
    if file is None:
        key = os.environ.get(VARIABLE)
        where = VARIABLE
    else:
        try:
            key, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The key file {file} cannot be read ({error}).") from None
    if key is None:
        return None
    if len(key) < 16 or not key.isascii() or any(c.isspace() for c in key):
        raise ConfigError(
            f"The key in {where} must be 16 characters or more, ASCII and without spaces. "
            f"Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return key
