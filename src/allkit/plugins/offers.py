"""What a record is known by without the record: enough to list it, to find it and to describe it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from allkit.plugins.distributions import shown
from allkit.records import (
    Augmentation,
    Backbone,
    BackboneFamily,
    Command,
    Explainer,
    Exporter,
    Finder,
    HealthCheck,
    Reader,
    View,
)

__all__ = ["HOOKS", "KINDS", "SETTINGS_GO_TO", "Kind", "Offer", "Record", "Setting"]

Kind = Literal[
    "backbone",
    "augmentation",
    "view",
    "finder",
    "reader",
    "explainer",
    "exporter",
    "command",
    "health-check",
]
Record = (
    Backbone
    | BackboneFamily
    | Augmentation
    | View
    | Finder
    | Reader
    | Explainer
    | Exporter
    | Command
    | HealthCheck
)

HOOKS: dict[Kind, tuple[str, tuple[type, ...], int]] = {
    "backbone": ("allkit_backbones", (Backbone, BackboneFamily), 1),
    "augmentation": ("allkit_augmentations", (Augmentation,), 1),
    "view": ("allkit_views", (View,), 2),
    "finder": ("allkit_finders", (Finder,), 2),
    "reader": ("allkit_readers", (Reader,), 2),
    "explainer": ("allkit_explainers", (Explainer,), 2),
    "exporter": ("allkit_exporters", (Exporter,), 1),
    "command": ("allkit_commands", (Command,), 2),
    "health-check": ("allkit_health_checks", (HealthCheck,), 2),
}
"""Each kind of part: its hook, what that returns, and the version of the contract that brought it."""
KINDS: tuple[Kind, ...] = tuple(HOOKS)

SETTINGS_GO_TO: Mapping[type, tuple[str, ...]] = {
    Backbone: ("build",),
    Augmentation: ("apply",),
    View: ("build",),
    Finder: ("find",),
    Reader: ("read", "regions"),
    Explainer: ("explain",),
    Exporter: ("write",),
}
"""The functions of a record that are given its settings."""


MOST = 100
"""Settings, suffixes and beginnings of files that are told of one record."""
LONGEST_DEFAULT = 2000
"""Characters of a default."""


@dataclass(frozen=True)
class Setting:
    """One setting of a record; `default` is JSON, empty where a value has to be given."""

    name: str
    type: str = ""
    default: str = ""
    description: str = ""


@dataclass(frozen=True)
class Offer:
    """What a record is known by."""

    kind: str
    name: str
    summary: str = ""
    license: str | None = None
    prefix: str | None = None
    """The part before the colon, for a family."""
    settings: tuple[Setting, ...] = ()
    suffixes: tuple[str, ...] = ()
    """Of the files that an exporter writes or a reader reads."""
    magic: tuple[tuple[int, str], ...] = ()
    """Positions with bytes, as hexadecimal text, by which a reader's files are recognised."""
    precisions: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    """What else is so of the record: `needs_torch`, `regions`, `needs_layer`."""

    @classmethod
    def of(cls, kind: str, record: Record) -> Offer:
        """Return what `record` is known by."""
        suffix = getattr(record, "suffix", None)
        licence = getattr(record, "license", None)
        details = [name for name in ("needs_torch", "needs_layer") if getattr(record, name, False)]
        if getattr(record, "regions", None) is not None:
            details.append("regions")
        return cls(
            kind=kind,
            name=record.name,
            summary=shown(record.summary),
            license=None if licence is None else shown(licence, 100),
            prefix=record.prefix if isinstance(record, BackboneFamily) else None,
            settings=settings_of(getattr(record, "settings", None)),
            suffixes=_texts(getattr(record, "suffixes", (suffix,) if suffix else ())),
            magic=tuple((at, magic.hex()) for at, magic in getattr(record, "magic", ())[:MOST]),
            precisions=_texts(getattr(record, "precisions", ())),
            details=tuple(details),
        )

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Offer:
        """Return the offer that `plain` described; raise `TypeError` where it is none."""
        values = dict(values)
        values["settings"] = tuple(Setting(**setting) for setting in values["settings"])
        values["magic"] = tuple((at, text) for at, text in values["magic"])
        for name in ("suffixes", "precisions", "details"):
            values[name] = tuple(values[name])
        return cls(**values)

    @property
    def plain(self) -> dict[str, Any]:
        """The offer as values of JSON."""
        return asdict(self)

    def answers(self, kind: str, name: str) -> bool:
        """Say whether this is the record, or the family, that `name` asks for."""
        if kind != self.kind:
            return False
        prefix, colon, rest = name.partition(":")
        if self.prefix is None:
            return self.name == name
        return bool(colon and rest) and prefix == self.prefix


def settings_of(model: Any) -> tuple[Setting, ...]:
    """Return the settings that a class of pydantic describes, in their order."""
    if model is None:
        return ()
    return tuple(
        Setting(name, _type_text(field.annotation), _default(field), shown(field.description or ""))
        for name, field in list(model.model_fields.items())[:MOST]
    )


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(shown(value, 100) for value in list(values)[:MOST])


def _type_text(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return shown(annotation.__name__, 100)
    return shown(str(annotation).replace("typing.", "").replace("NoneType", "None"), 200)


def _default(field: Any) -> str:
    if field.is_required():
        return ""
    # As JSON it has no character that a terminal obeys.
    text = json.dumps(field.get_default(call_default_factory=True), default=str)
    return text if len(text) <= LONGEST_DEFAULT else json.dumps(f"{text[:100]}…")
