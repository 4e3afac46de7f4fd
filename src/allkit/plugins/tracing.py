"""With ALLKIT_TRACE=1, every import, hook and call of a plugin is written to standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from allkit.records import Augmentation, Backbone, Exporter

__all__ = ["trace", "traced", "tracing"]

R = TypeVar("R", bound="Backbone | Augmentation | Exporter")


def tracing() -> bool:
    """Say whether ALLKIT_TRACE asks for a trace."""
    return os.environ.get("ALLKIT_TRACE", "") not in ("", "0")


def trace(what: str, seconds: float) -> None:
    """Tell that `what` took `seconds`, when a trace is asked for."""
    if tracing():
        sys.stderr.write(f"[allkit] {what} · {seconds * 1000:.1f} ms\n")


def traced(record: R, origin: str) -> R:
    """Return `record` with functions that tell when they are called; itself without a trace."""
    if not tracing():
        return record
    functions = ("build", "apply", "write", "open")
    wrapped = {
        name: _with_trace(getattr(record, name), f"{origin}: {record.name}.{name}")
        for name in functions
        if hasattr(record, name)
    }
    return cast(R, replace(cast(Any, record), **wrapped))


def _with_trace(function: Callable[..., Any], name: str) -> Callable[..., Any]:
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

    return run


def _shown(value: object) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{'×'.join(map(str, shape))} {getattr(value, 'dtype', '')}".strip()
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"
