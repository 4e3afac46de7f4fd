"""One guard around every call into a plugin: what goes wrong is named with its package and its step.

What is caught is decided in `calling` alone. All other places that call a stranger's code use it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from allkit.errors import AllkitError, PluginError
from allkit.plugins.distributions import shown

__all__ = ["Guarded", "Stopped", "calling", "each", "in_words", "no_memory", "quoted", "said"]

MOST = 300
"""Characters of a plugin's own message that are quoted."""
OWN = "allkit "
"""The beginning of the origin of built-in records."""
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What a RuntimeError of torch says when the memory does not suffice."""


class Stopped(SystemExit):
    """A person (Ctrl-C) or the system (SIGTERM) ends the command; notes say what is kept."""


@contextlib.contextmanager
def calling(
    origin: str,
    kind: str,
    name: str,
    step: str,
    *,
    failed: Callable[[str], AllkitError] | None = None,
) -> Iterator[None]:
    """Turn what a plugin raises inside the block into a `PluginError` that names it.

    `origin` is the package with its version and `step` what was called (`build`, `forward`); `failed`
    makes another error of the words for what was raised. Whatever is raised is turned, a SystemExit and a
    GeneratorExit too; so no block may hold a `yield` (`each` is for what a plugin yields).

    Three things pass: Ctrl-C and the end of the program that allkit itself raises for it (`Stopped`);
    a lack of memory; and an `AllkitError`, which says what to do already. The last gets a note of
    where it comes from, unless it says so itself.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:
        text = said(error)
        if text is not None and no_memory(error):
            raise
        if text is not None and issubclass(type(error), AllkitError):
            _note(error, f"{origin}: the {kind} {name!r}, in `{step}`", text)
            raise
        from allkit.plugins.requirements import missing_module

        words = missing_module(error, origin.partition(" ")[0]) or in_words(error)
        told = f"{origin}: the {kind} {name!r} failed in `{step}`: {words}"
        raise (PluginError(told) if failed is None else failed(words)) from error


def each(results: Iterator[Any], place: tuple[str, str, str, str]) -> Iterator[Any]:
    """Yield what an iterator of a plugin yields; raise `PluginError` for whatever it raises meanwhile.

    `place` is what `calling` is given: origin, kind, name and step.
    """
    try:
        while True:
            with calling(*place):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            with calling(*place):
                close()


def _note(error: BaseException, whose: str, text: str) -> None:
    """Say with an error of a plugin whose it is, where nothing says it yet."""
    origin = whose.partition(":")[0]
    notes = getattr(error, "__notes__", ())
    if origin and not origin.startswith(OWN) and not any(origin in t for t in (text, *notes)):
        error.add_note(f"({whose}.)")


def no_memory(error: BaseException) -> bool:
    """Say whether an error means that this machine or its graphics card has no memory left."""
    if issubclass(type(error), MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(type(error), torch.OutOfMemoryError):
        return True
    text = (said(error) or "").lower() if issubclass(type(error), RuntimeError) else ""
    return any(sign in text for sign in NO_MEMORY)


def said(error: BaseException) -> str | None:
    """Return an error's own message; `None` for one that cannot tell itself."""
    text: str | None = _safely(lambda: str(error))
    return text


def quoted(value: object, most: int = 100) -> str:
    """Return a value as Python writes it, cut short; its type for one that cannot be written."""
    text = _safely(lambda: repr(value))
    return shown(f"a value of type {type(value).__name__}" if text is None else text, most)


def in_words(error: BaseException) -> str:
    """Return an error's type and the beginning of its message; it raises nothing of the error's own."""
    if issubclass(type(error), SystemExit):
        code = quoted(_safely(lambda: getattr(error, "code", None)), MOST)
        return f"it tried to end the program (SystemExit: {code})."
    kind = shown(_safely(lambda: type(error).__name__) or "an error", 100)
    text = shown((said(error) or "")[: 10 * MOST], MOST).rstrip(".")
    return f"{kind}: {text}." if text else f"{kind}."


def _safely(work: Callable[[], Any]) -> Any:
    """Return what a stranger's object says of itself; `None` where it fails at that."""
    try:
        return work()
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException:  # noqa: BLE001 - an error that cannot tell itself is one of the plugin's, too
        return None


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
        place = (self.origin, self.kind, self.name, self.step)
        with calling(*place):
            result = self.func(*arguments, **options)
        # What a function yields is made later, and fails later.
        return each(result, place) if type(result) is GeneratorType else result
