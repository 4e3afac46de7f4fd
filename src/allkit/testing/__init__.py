"""Published conformance checks for plugins, and what their tests stand on.

    from allkit.testing import conformance

    @conformance("allkit-mine")
    def test_conformance(check):
        check()

`allkit plugins check NAME` runs the same checks. The fixtures `allkit_registry`, `allkit_images`,
`allkit_model` and `allkit_no_network` are there wherever pytest runs beside allkit.
"""

from __future__ import annotations

from allkit.testing.checks import (
    Check,
    ConformanceError,
    Outcome,
    Skipped,
    checks_of,
    conformance,
    run_checks,
)

__all__ = [
    "Check",
    "ConformanceError",
    "Outcome",
    "Skipped",
    "checks_of",
    "conformance",
    "run_checks",
]
