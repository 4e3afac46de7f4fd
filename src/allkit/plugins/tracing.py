"""With ALLKIT_TRACE=1, every import, hook and call of a plugin is written to standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

__all__ = ["trace", "traced", "tracing"]

F = TypeVar("F", bound=Callable[..., Any])


def tracing() -> bool:
    """Say whether ALLKIT_TRACE asks for a trace."""
    return os.environ.get("ALLKIT_TRACE", "") not in ("", "0")


def trace(what: str, seconds: float) -> None:
    """Tell that `what` took `seconds`, when a trace is asked for."""
    if tracing():
        sys.stderr.write(f"[allkit] {what} · {seconds * 1000:.1f} ms\n")


def traced(function: F, origin: str, record: str, step: str) -> F:
    """Return a function of a record that tells when it is called; itself without a trace."""
    return _with_trace(function, f"{origin}: {record}.{step}") if tracing() else function


def _with_trace(function: F, name: str) -> F:
    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        shown = ", ".join(_shown(value) for value in arguments)
        try:
            result = function(*arguments, **options)
        except BaseException as error:
            trace(f"{name}({shown}) ✗ {type(error).__name__}: {error}", time.perf_counter() - start)
            raise
        trace(f"{name}({shown}) → {_shown(result)}", time.perf_counter() - start)
        return result

    return cast(F, run)


def _shown(value: object) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{'×'.join(map(str, shape))} {getattr(value, 'dtype', '')}".strip()
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"
