"""The checks of a health check."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import cache

from allkit.records import Finding, HealthCheck
from allkit.testing.checks import require
from allkit.testing.surroundings import changed, global_state, no_network

__all__ = ["CHECKS"]

SECONDS = 5.0


@cache
def _found(record: HealthCheck) -> tuple[Finding, ...]:
    """Return what it found; the first call may import libraries."""
    returned = record.run()
    require(
        isinstance(returned, Iterable) and not isinstance(returned, (str, bytes)),
        f"It returned {returned!r:.200}; it must return a list of findings, empty where all is well.",
    )
    return tuple(returned)


def returns_findings(record: HealthCheck) -> None:
    """`run` returns findings, or none where all is well."""
    for finding in _found(record):
        require(isinstance(finding, Finding), f"It returned {finding!r:.200}, which is no Finding.")


def a_problem_has_a_way_out(record: HealthCheck) -> None:
    """Each finding says what is so, and each problem what to do."""
    for finding in _found(record):
        require(finding.message.strip(), "A finding says nothing.")
        require(
            finding.state == "note" or finding.fix.strip(),
            f"{finding.message!r:.200} has no `fix`: say what to do.",
        )


def finds_the_same_twice(record: HealthCheck) -> None:
    """It looks and changes nothing: the second time it finds what it found the first time."""
    _found(record)
    before, files = global_state(), sorted(os.listdir())
    again = tuple(record.run())
    different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(files == sorted(os.listdir()), "It left a file in the working folder.")
    require(
        again == _found(record), f"First it found {_found(record)!r:.200}, then {again!r:.200}."
    )


def needs_no_network(record: HealthCheck) -> None:
    """It reaches for no other machine."""
    with no_network() as attempts:
        tuple(record.run())
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")


def is_quick(record: HealthCheck) -> None:
    """It takes at most five seconds, once what it needs is imported."""
    _found(record)
    start = time.perf_counter()
    tuple(record.run())
    seconds = time.perf_counter() - start
    require(seconds <= SECONDS, f"It takes {seconds:.1f} s; at most {SECONDS:g} s is fair.")


CHECKS = (
    returns_findings,
    a_problem_has_a_way_out,
    finds_the_same_twice,
    needs_no_network,
    is_quick,
)
