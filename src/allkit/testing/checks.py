"""Named checks, how they are run, and what came of them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from allkit.errors import PluginError, did_you_mean
from allkit.plugins import registry
from allkit.plugins.offers import HOOKS, KINDS, Kind, Record
from allkit.records import BackboneFamily

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Check",
    "ConformanceError",
    "Outcome",
    "Skipped",
    "checks_of",
    "conformance",
    "require",
    "run_checks",
]

_HOMES: Mapping[Kind, str] = {
    "backbone": "allkit.testing.backbones",
    "augmentation": "allkit.testing.augmentations",
    "view": "allkit.testing.views",
    "finder": "allkit.testing.finders",
    "reader": "allkit.testing.readers",
    "explainer": "allkit.testing.explainers",
    "exporter": "allkit.testing.exporters",
    "command": "allkit.testing.commands",
    "health-check": "allkit.testing.health_checks",
}
"""Where the checks of each kind are, as `CHECKS`."""


class ConformanceError(AssertionError):
    """A record does not keep the contract; the text says what it does and what it should do."""


class Skipped(Exception):
    """A check does not concern this record; the text says why."""


def require(condition: object, message: str) -> None:
    """Raise `ConformanceError` with `message` unless `condition` holds."""
    if not condition:
        raise ConformanceError(message)


@dataclass(frozen=True)
class Check:
    """One check of one record: calling it passes, or raises `ConformanceError` or `Skipped`."""

    name: str
    subject: str
    summary: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Run the check."""
        try:
            self.run()
        except (ConformanceError, Skipped):
            raise
        except Exception as error:
            raise ConformanceError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Outcome:
    """What came of one check; `expected` is a failure that was announced with its reason."""

    check: str
    subject: str
    state: Literal["passed", "failed", "skipped", "expected"]
    message: str
    seconds: float


def checks_of(subject: str | Record) -> list[Check]:
    """Return every check of a record, of the record with that name, or of a package's records.

    Raises `PluginError` when nothing of that name is installed, or the package is broken.
    """
    records = _named(subject) if isinstance(subject, str) else [subject]
    checks = []
    for record in records:
        functions = importlib.import_module(_HOMES[_kind_of(record)]).CHECKS
        for function in functions:
            summary = (function.__doc__ or "").splitlines()[0]
            run = _bound(function, record)
            checks.append(Check(function.__name__, record.name, summary, run))
    return checks


def _kind_of(record: Record) -> Kind:
    return next(kind for kind, (_, types, _) in HOOKS.items() if isinstance(record, types))


def _bound(function: Callable[[Any], None], record: Record) -> Callable[[], None]:
    return lambda: function(record)


def _named(name: str) -> list[Record]:
    host = registry()
    mine = [p for p in host.plugins if p.distribution.lower() == name.lower().replace("_", "-")]
    for plugin in mine:
        if plugin.error:
            raise PluginError(f"{plugin.origin} cannot be loaded: {plugin.error}")
    if mine:
        subjects: list[Record] = []
        for plugin in mine:
            for kind, record in plugin.records:
                if isinstance(record, BackboneFamily):
                    if record.example:
                        subjects.append(host.get("backbone", f"{record.prefix}:{record.example}"))
                else:
                    subjects.append(host.get(kind, record.name))
            if plugin.error:
                raise PluginError(f"{plugin.origin} cannot be loaded: {plugin.error}")
        return subjects
    offering = [
        kind
        for kind in KINDS
        if any(offer.answers(kind, name) for plugin in host.plugins for offer in plugin.offers)
    ]
    if not offering:
        known = {p.distribution for p in host.plugins} | {n for k in KINDS for n in host.names(k)}
        raise PluginError(
            f"No package and no record is called {name!r}.{did_you_mean(name, known)} "
            f"`allkit plugins` shows what is installed."
        )
    return [host.get(kind, name) for kind in offering]


def run_checks(
    subject: str | Record,
    *,
    expected_failures: Mapping[str, str] | None = None,
    images: Sequence[npt.NDArray[np.uint8]] = (),
    told: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run every check and return what came of each, in order; `told` is called with each.

    `expected_failures` maps the name of a check to the reason why it may fail; one that passes
    all the same has failed, so that the list stays true. An unknown name is a `PluginError`.
    The checks look at `images`, `(H, W, 3)` uint8, or at drawn smears.
    """
    from allkit.testing.examples import using_images

    checks = checks_of(subject)
    reasons = _known_reasons(checks, expected_failures)
    outcomes = []
    for check in checks:
        start = time.perf_counter()
        with using_images(images):
            state, message = _state(check, reasons.get(check.name))
        outcome = Outcome(
            check=check.name,
            subject=check.subject,
            state=state,
            message=message,
            seconds=time.perf_counter() - start,
        )
        outcomes.append(outcome)
        if told:
            told(outcome)
    return outcomes


def _state(
    check: Check, reason: str | None
) -> tuple[Literal["passed", "failed", "skipped", "expected"], str]:
    try:
        check()
    except Skipped as why:
        return "skipped", str(why)
    except ConformanceError as error:
        return ("expected", reason) if reason else ("failed", str(error))
    if reason:
        return "failed", f"It passes, but was expected to fail ({reason}). Take it off the list."
    return "passed", ""


def _known_reasons(
    checks: Iterable[Check], expected_failures: Mapping[str, str] | None
) -> dict[str, str]:
    names = {check.name for check in checks}
    for name in expected_failures or {}:
        if name not in names:
            raise PluginError(f"There is no check {name!r}.{did_you_mean(name, names)}")
    return dict(expected_failures or {})


def conformance(
    *subjects: str | Record, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrise a pytest function with one `check` for every check of the subjects.

    The function calls its argument `check`. A check in `expected_failures` (name → reason) is a
    strict expected failure.
    """
    import pytest

    parameters = []
    checks = [check for subject in subjects for check in checks_of(subject)]
    reasons = _known_reasons(checks, expected_failures)
    for check in checks:
        marks = []
        if check.name in reasons:
            marks.append(
                pytest.mark.xfail(reason=reasons[check.name], raises=ConformanceError, strict=True)
            )
        parameters.append(
            pytest.param(_skipping(check), id=f"{check.subject}-{check.name}", marks=marks)
        )
    return pytest.mark.parametrize("check", parameters)


def _skipping(check: Check) -> Callable[[], None]:
    def run() -> None:
        import pytest

        try:
            check()
        except Skipped as why:
            pytest.skip(str(why))

    return run


def line(outcome: Outcome) -> str:
    """Return one outcome as a line."""
    words = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "expected": "expected"}
    text = f"  {words[outcome.state]:<9}{outcome.check:<38}{outcome.seconds:6.2f} s"
    return f"{text}\n           {outcome.message}" if outcome.message else text


def summary(outcomes: Iterable[Outcome]) -> str:
    """Return how many checks came out how."""
    states = [outcome.state for outcome in outcomes]
    parts = [
        f"{states.count(s)} {s}" for s in ("passed", "failed", "skipped", "expected") if s in states
    ]
    return ", ".join(parts) or "Nothing to check."
