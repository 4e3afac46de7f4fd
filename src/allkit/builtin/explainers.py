"""The ways to explain an answer that come with allkit."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.hookspecs import hookimpl
from allkit.records import Explainer

api_version = 2


@hookimpl
def allkit_explainers() -> Iterable[Explainer]:
    """Offer the maps of where a network looks."""
    return []
