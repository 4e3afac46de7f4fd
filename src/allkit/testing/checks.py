"""Named checks, how they are run, and what came of them."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from allkit.errors import PluginError, did_you_mean
from allkit.plugins import Plugin, registry
from allkit.plugins.catalogue import plain
from allkit.plugins.guard import in_words
from allkit.plugins.offers import HOOKS, KINDS, Kind, Offer, Record
from allkit.records import BackboneFamily, Reference

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
    """One check of one record: calling it passes, or raises `ConformanceError` or `Skipped`.

    With `quotes` a failure says what an error says; without only its type, for a reader's may quote
    what stands in a file of a patient.
    """

    name: str
    subject: str
    summary: str
    run: Callable[[], None]
    quotes: bool = True

    def __call__(self) -> None:
        """Run the check."""
        try:
            self.run()
        except (ConformanceError, Skipped):
            raise
        # A plugin may also try to end the program.
        except (Exception, SystemExit) as error:
            if self.quotes:
                raise ConformanceError(in_words(error)) from error
            cause = error.__cause__ if isinstance(error, PluginError) else None
            kind = type(cause or error).__name__
            raise ConformanceError(
                f"It raised {kind}. What that says is not shown, for it may quote the file; pytest shows it."
            ) from error


@dataclass(frozen=True)
class Outcome:
    """What came of one check; `expected` is a failure that was announced with its reason."""

    check: str
    subject: str
    state: Literal["passed", "failed", "skipped", "expected"]
    message: str
    seconds: float


def checks_of(subject: str | Record, *, upcoming: bool = False) -> list[Check]:
    """Return every check of a record, of a record by its name, or of all records of a package.

    A name is that of a package, or what `Registry.get` takes as text: `NAME`, `PACKAGE/NAME`,
    `NAME{"SETTING":VALUE}`. A record whose settings have no defaults is checked with the `examples` of
    their fields. With `upcoming`, it is also checked that the package uses nothing deprecated. Raises
    `PluginError` when nothing of that name is installed, or when the package is broken or offers nothing.
    """
    if not isinstance(subject, str):
        return _checks(subject)
    plugins, found = _named(subject)
    checks = [_upcoming(plugin) for plugin in plugins] if upcoming else []
    for one in found:
        checks += [one] if isinstance(one, Check) else _checks(one)
    return checks


def _checks(record: Record) -> list[Check]:
    kind = kind_of(record)
    functions = importlib.import_module(_HOMES[kind]).CHECKS
    if getattr(record, "settings", None) is not None:
        functions = (*importlib.import_module("allkit.testing.settings").CHECKS, *functions)
    return [
        Check(
            function.__name__,
            record.name,
            (function.__doc__ or "").splitlines()[0],
            partial(function, record),
            quotes=kind != "reader",
        )
        for function in functions
    ]


def kind_of(record: Record) -> Kind:
    """Return of which kind a record is."""
    return next(kind for kind, (_, types, _) in HOOKS.items() if isinstance(record, types))


def _upcoming(plugin: Plugin) -> Check:
    def run() -> None:
        deprecated = [note for note in plugin.notes if note.startswith("Deprecated")]
        require(not deprecated, " ".join(deprecated))

    return Check(
        "uses_nothing_deprecated",
        plugin.name,
        "It will go on working with the next version of the contract.",
        run,
    )


def _named(name: str) -> tuple[list[Plugin], list[Record | Check]]:
    """Return the plugins that a name means, and the records in them that it means."""
    host = registry()
    mine = [p for p in host.plugins if plain(p.distribution) == plain(name)]
    if mine:
        return mine, _of_package(mine)
    reference = Reference.of(name)
    asked = [
        (kind, plugin)
        for kind in KINDS
        for plugin, offer in host.offers(kind)
        if offer.answers(kind, reference.name)
        and plain(reference.package) in ("", plain(plugin.distribution))
    ]
    if not asked:
        known = {p.distribution for p in host.plugins} | {n for k in KINDS for n in host.names(k)}
        raise PluginError(
            f"No package and no record is called {name!r}.{did_you_mean(name, known)} "
            f"`allkit plugins` shows what is installed."
        )
    kinds = dict.fromkeys(kind for kind, _ in asked)
    return [plugin for _, plugin in asked], [
        host.get(kind, _complete(kind, name)) for kind in kinds
    ]


def _of_package(plugins: Sequence[Plugin]) -> list[Record | Check]:
    host = registry()
    found: list[Record | Check] = []
    for plugin in plugins:
        offered = plugin.records
        if plugin.error:
            raise PluginError(f"{plugin.origin} cannot be loaded: {plugin.error}")
        for kind, record in offered:
            # In full, for others may offer the name too.
            name = f"{plugin.distribution}/{record.name}"
            if not isinstance(record, BackboneFamily):
                found.append(host.get(kind, _complete(kind, name)))
            elif record.example:
                member = f"{plugin.distribution}/{record.prefix}:{record.example}"
                found.append(host.get(kind, member))
            else:
                found.append(
                    Check("names_an_example", record.name, "A family has one.", _no_example)
                )
    if not found:
        raise PluginError(
            f"{plugins[0].origin} offers nothing that could be checked. Its hooks must return records, and "
            f"be marked with `@allkit.hookimpl`."
        )
    return found


def _no_example() -> None:
    raise Skipped("The family names no `example`, so that none of its backbones was checked.")


def _complete(kind: Kind, name: str) -> Reference:
    """Return how a record is asked for, with an example of each setting that has no default."""
    reference = Reference.of(name)
    for plugin, offer in registry().offers(kind):
        package = plain(reference.package) in ("", plain(plugin.distribution))
        if package and offer.answers(kind, reference.name) and _lacking(offer, reference):
            for _, record in plugin.records:
                if record.name == reference.name:
                    given = example_settings(record, plugin.origin)
                    return reference._replace(settings=given | dict(reference.settings))
    return reference


def _lacking(offer: Offer, reference: Reference) -> bool:
    return any(not s.default and s.name not in reference.settings for s in offer.settings)


def example_settings(record: Any, origin: str) -> dict[str, Any]:
    """Return an example of every setting of a record that has no default: the first of its `examples`."""
    found: dict[str, Any] = {}
    for name, field in record.settings.model_fields.items() if record.settings else ():
        if field.is_required():
            if not field.examples:
                raise PluginError(
                    f"{origin}: the setting {name!r} of {record.name!r} has neither default nor example. "
                    f"Write Field(examples=[…]), which the checks take."
                )
            found[name] = field.examples[0]
    return found


def run_checks(
    subject: str | Record,
    *,
    expected_failures: Mapping[str, str] | None = None,
    images: Sequence[npt.NDArray[np.uint8]] = (),
    told: Callable[[Outcome], None] | None = None,
    upcoming: bool = False,
) -> list[Outcome]:
    """Run every check and return what came of each, in order; `told` is called with each.

    `expected_failures` maps the name of a check to the reason why it may fail; one that passes
    all the same has failed, so that the list stays true. An unknown name is a `PluginError`.
    The checks look at `images`, `(H, W, 3)` uint8, or at drawn smears. `upcoming` is that of `checks_of`.
    """
    from allkit.testing.examples import using_images

    checks = checks_of(subject, upcoming=upcoming)
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
    words = {"passed": "ok", "failed": "FAILED", "skipped": "SKIPPED", "expected": "expected"}
    text = f"  {words[outcome.state]:<9}{outcome.check:<38}{outcome.seconds:6.2f} s"
    return f"{text}\n           {outcome.message}" if outcome.message else text


def summary(outcomes: Iterable[Outcome]) -> str:
    """Return in one sentence how many checks came out how: skipped ones are no successes."""
    count = Counter(outcome.state for outcome in outcomes)
    if not count:
        return "there was nothing to check"
    checks = "check" if count["passed"] == 1 else "checks"
    parts = [f"{count['passed']} {checks} passed"]
    if count["failed"]:
        parts = [f"{count['failed']} FAILED", f"{count['passed']} passed"]
    if count["skipped"]:
        were = "was" if count["skipped"] == 1 else "were"
        parts.append(f"{'' if count['failed'] else 'but '}{count['skipped']} {were} skipped")
    if count["expected"]:
        parts.append(f"{count['expected']} failed as announced")
    return ", ".join(parts)
