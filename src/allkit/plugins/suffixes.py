"""Suffixes and first bytes of files that more than one part claims: who then gets the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

__all__ = ["Claim", "own_suffix", "suffix_conflicts"]


Offered = Iterable[tuple[Any, Any]]
"""Plugins with what they offer."""
Claims = dict[tuple[Any, bool], dict[str, str]]
"""What is claimed → the full names of the parts that claim it, with their packages."""


class Claim(NamedTuple):
    """What is claimed twice, as a sentence; `state` is that of the `Problem` that it is."""

    origins: tuple[str, ...]
    sentence: str
    state: Literal["problem", "conflict", "note"]

    def __str__(self) -> str:
        return self.sentence


def own_suffix(host: Any, name: str) -> str:
    """Return the format of allkit's own that a file of this name has, `allkit/onnx`; empty where none.

    No plugin is looked for.
    """
    for plugin, offer in host.offers("exporter", own=True):
        if name.endswith(offer.suffixes):
            return f"{plugin.distribution}/{offer.name}"
    return ""


def suffix_conflicts(host: Any) -> Iterator[Claim]:
    """Yield what is claimed twice by exporters and readers of a `Registry`; nothing is imported."""
    for kind in ("exporter", "reader"):
        offered = host.offers(kind)
        own = [(plugin, offer) for plugin, offer in offered if plugin.built_in]
        others = [(plugin, offer) for plugin, offer in offered if not plugin.built_in]
        yield from _against_own(kind, own, others)
        yield from _among(kind, _claims(others, "suffixes"))
    # By the bytes files of readers are known; those of allkit's own formats never come to a plugin.
    yield from _among("reader", _claims(others, "magic"))


def _against_own(kind: str, own: Offered, others: Offered) -> Iterator[Claim]:
    taken = tuple(suffix for _, offer in own for suffix in offer.suffixes)
    for plugin, offer in others:
        called = f"The {kind} {plugin.distribution}/{offer.name} claims"
        if kind == "exporter" and offer.suffixes and offer.suffixes[0].endswith(taken):
            what = (
                f"{called} {offer.suffixes[0]}, which is the suffix of a format of allkit's own: that would "
                f"open its files, so that nothing can be exported with it. Its author chooses another suffix."
            )
            yield Claim((plugin.origin,), what, "problem")
        elif mine := [suffix for suffix in offer.suffixes if suffix in taken]:
            what = (
                f"{called} {', '.join(mine)}: such files are read by allkit itself, and never come to it. "
                f"Its author takes that off the list."
            )
            yield Claim((plugin.origin,), what, "note")


def _claims(offered: Offered, field: Literal["suffixes", "magic"]) -> Claims:
    found: Claims = {}
    for plugin, offer in offered:
        for claimed in dict.fromkeys(getattr(offer, field)):
            # A slide is asked for apart from images.
            key = (claimed, "regions" in offer.details)
            found.setdefault(key, {})[f"{plugin.distribution}/{offer.name}"] = plugin.origin
    return found


def _among(kind: str, claims: Claims) -> Iterator[Claim]:
    """Yield what several packages claim; all that the same ones claim is one sentence."""
    together: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for (claimed, _), parts in claims.items():
        if len(set(parts.values())) > 1:
            together.setdefault(tuple(parts.items()), []).append(_shown(claimed))
    for claimants, several in together.items():
        names = [name for name, _ in claimants]
        then = (
            "Each file says by which it was written; an older one that does not cannot be opened while both "
            "are installed."
            if kind == "exporter"
            else f"Such a file is refused until one is chosen: --reader {names[0]}."
        )
        what = f"The {kind}s {' and '.join(names)} claim {', '.join(several)}. {then}"
        yield Claim(tuple(dict.fromkeys(origin for _, origin in claimants)), what, "conflict")


def _shown(claimed: Any) -> str:
    if isinstance(claimed, str):
        return claimed
    at, magic = claimed
    return f"files with {magic} at byte {at}"
