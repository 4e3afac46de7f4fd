"""What `allkit doctor` looks at."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.hookspecs import hookimpl
from allkit.records import HealthCheck

api_version = 2


@hookimpl
def allkit_health_checks() -> Iterable[HealthCheck]:
    """Offer what `allkit doctor` looks at."""
    return []
