"""One guard around every call into a plugin: what goes wrong is named with its package and its step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from allkit.errors import AllkitError, PluginError
from allkit.plugins.distributions import shown

__all__ = ["Guarded", "calling", "in_words", "stopped"]

MOST = 300
"""Characters of a plugin's own message that are quoted."""


@contextlib.contextmanager
def calling(origin: str, kind: str, name: str, step: str) -> Iterator[None]:
    """Turn what a plugin raises inside the block into a `PluginError` that names it.

    `origin` is the package with its version and `step` what was called (`build`, `forward`). Errors of
    allkit pass, since they say what to do already, and so do a lack of memory and an interrupt.
    """
    try:
        yield
    except (AllkitError, MemoryError, KeyboardInterrupt, GeneratorExit):
        raise
    # A plugin is a stranger's code, and a script that was packaged by mistake raises SystemExit.
    except BaseException as error:
        if type(error).__name__ == "OutOfMemoryError" or stopped(error):  # the former is torch's
            raise
        from allkit.plugins.requirements import missing_module

        why = missing_module(error, origin.partition(" ")[0]) or in_words(error)
        raise PluginError(f"{origin}: the {kind} {name!r} failed in `{step}`: {why}") from error


def stopped(error: BaseException) -> bool:
    """Say whether a person or the system ends the program: by a SystemExit that is not Python's own."""
    return isinstance(error, SystemExit) and type(error) is not SystemExit


def in_words(error: BaseException) -> str:
    """Return an error's type and the beginning of its message."""
    if isinstance(error, SystemExit):
        return f"it tried to end the program (SystemExit: {error.code!r:.{MOST}})."
    try:
        text = shown(error, MOST).rstrip(".")
    except Exception:  # noqa: BLE001 - an error that cannot tell itself is one of the plugin's, too
        text = ""
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


@dataclass(frozen=True)
class Guarded:
    """A function of a record, called through the guard; it can be sent to another process."""

    func: Any
    origin: str
    kind: str
    name: str
    step: str

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function; raise `PluginError` for whatever it raises."""
        with calling(self.origin, self.kind, self.name, self.step):
            result = self.func(*arguments, **options)
        # What a function yields is made later, and fails later.
        return self._each(result) if isinstance(result, GeneratorType) else result

    def _each(self, results: Iterator[Any]) -> Iterator[Any]:
        with calling(self.origin, self.kind, self.name, self.step):
            yield from results
