"""What names of plugins' records look like, and how a record is asked for: name, package, settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from allkit.errors import PluginError

__all__ = [
    "API_VERSION",
    "OLDEST_API_VERSION",
    "Reference",
    "require_callable",
    "require_name",
    "require_settings",
    "require_strict_name",
    "to_install",
    "valid_package",
]

API_VERSION = 2
"""Version of the extension contract (the hooks and the records they return)."""
OLDEST_API_VERSION = 1
"""The oldest version of the contract whose plugins still load."""

LONGEST = 100
"""Characters of a name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]*")
_STRICT = re.compile(r"[a-z0-9][a-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Reference(NamedTuple):
    """How a record is asked for, in settings and in models.

    As text: `hed`, `allkit-stain/hed`, `timm:resnet18`, and with settings of its own
    `hed{"sigma":0.1}`: JSON with sorted keys, so that equal references are equal texts.
    """

    name: str
    package: str = ""
    settings: Mapping[str, Any] = {}

    @classmethod
    def of(cls, value: object) -> Reference:
        """Take a reference, its text, or a mapping of one name to its settings: `{hed: {sigma: 0.1}}`.

        Raises `PluginError` for anything else.
        """
        if isinstance(value, Reference):
            return value
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, settings),) = value.items()
            if isinstance(name, str) and isinstance(settings, Mapping | None):
                return cls.of(name)._replace(settings=dict(settings or {}))
        if not isinstance(value, str):
            raise PluginError(
                f"{value!r:.200} names no part. Give a name, or one name with its settings: "
                "{NAME: {SETTING: VALUE}}."
            )
        named, brace, rest = value.partition("{")
        package, slash, name = (part.strip() for part in named.partition("/"))
        if slash and not package:
            raise PluginError(
                f"{value!r:.200} has no package before its slash. Write PACKAGE/NAME."
            )
        if not slash or not valid_package(
            package
        ):  # `timm:hf-hub:owner/model` is a member of a family
            name, package = named.strip(), ""
        return cls(name, package, _settings(brace + rest, value) if brace else {})

    @property
    def qualified(self) -> str:
        """The name with its package, where that is said, and without settings."""
        return f"{self.package}/{self.name}" if self.package else self.name

    @property
    def text(self) -> str:
        """The reference as text; two that mean the same have the same."""
        return self.qualified + self.settings_text

    @property
    def settings_text(self) -> str:
        """The settings as JSON with sorted keys; empty where there are none."""
        if not self.settings:
            return ""
        try:
            return json.dumps(
                dict(self.settings), sort_keys=True, separators=(",", ":"), allow_nan=False
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginError(
                f"The settings of {self.qualified!r} cannot be written as JSON ({error}). Give finite "
                f"numbers, texts, true, false, lists, and mappings of texts to such."
            ) from None

    @property
    def plain(self) -> str | dict[str, dict[str, Any]]:
        """The reference as a value of YAML: the name, or a mapping of it to its settings."""
        return {self.qualified: dict(self.settings)} if self.settings else self.qualified


def _settings(text: str, whole: str) -> dict[str, Any]:
    try:
        values = json.loads(text, parse_constant=_refused, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise PluginError(
            f"The settings in {whole!r:.200} are not JSON. In YAML write {{NAME: {{SETTING: VALUE}}}}."
        )
    return values


def valid_package(name: str) -> bool:
    """Say whether `name` may be that of a package: what names none is never said to be installed."""
    return len(name) <= LONGEST and _PACKAGE.fullmatch(name) is not None


def to_install(package: str, version: str) -> str:
    """Return what is to be installed, `PACKAGE==VERSION`; a version that is none is left out."""
    return f"{package}=={version}" if _VERSION.fullmatch(version) else package


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a mapping; of a name that is there twice one value would be lost."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is there twice")
    return values


def require_name(kind: str, name: object) -> None:
    """Raise `PluginError` unless `name` is one that every version of the contract takes."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST:
        shown = repr(name)
        raise PluginError(
            f"A {kind} record has the name {shown if len(shown) <= 120 else shown[:120] + '…'}. Give it a "
            f"name of letters, digits and . _ -, without spaces, of at most {LONGEST} characters."
        )


def require_strict_name(kind: str, name: str) -> None:
    """Raise `PluginError` unless `name` is one that version 2 of the contract takes."""
    if not _STRICT.fullmatch(name):
        raise PluginError(
            f"The {kind} {name!r} has a name that is not taken since version 2 of the plugin contract. Use "
            f"small letters, digits and . _ -, beginning with a letter or a digit."
        )


def require_callable(kind: str, name: str, field_name: str, value: object) -> None:
    """Raise `PluginError` unless the field of a record is callable."""
    if not callable(value):
        raise PluginError(
            f"The {kind} {name!r} has a {field_name!r} that is not callable: {value!r:.200}."
        )


def require_settings(kind: str, name: str, settings: object) -> None:
    """Raise `PluginError` unless `settings` is None or a model class of pydantic."""
    if settings is not None and not (
        isinstance(settings, type) and hasattr(settings, "model_validate")
    ):
        raise PluginError(
            f"The {kind} {name!r} has the settings {settings!r:.200}. Give a class that is derived from "
            f"pydantic.BaseModel, whose fields are the settings with their defaults."
        )
