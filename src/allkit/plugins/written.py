"""What a person writes by hand: YAML of settings, and parts with their settings."""

from __future__ import annotations

from typing import Any

import yaml

from allkit.errors import ConfigError
from allkit.records import Reference

__all__ = ["parse_yaml", "part_of", "parts_of", "yaml_problem"]

DEEPEST = 12


class _Plain(yaml.SafeLoader):
    """Reads values as they stand: no references, no key twice, nothing deep."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it refers to itself (*name), which settings need not")
        # The stubs give it no types.
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) not in (None, "!"):
            raise ValueError("it holds a tag (!name), which settings need not")
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise ValueError(f"the key {twice[0]!r} is in it twice")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text of settings.

    Raises `ValueError` that says what is wrong with it, tags of other programs among it.
    """
    try:
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(yaml_problem(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a value cannot be read ({str(error)[:100]})") from None


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML text, with its line, in one sentence without its full stop."""
    problem = str(getattr(error, "problem", None) or str(error).splitlines()[0])[:150]
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return (
        problem if mark is None else f"{problem} in line {mark.line + 1}, column {mark.column + 1}"
    )


def part_of(text: str, given: str) -> Reference:
    """Return the part that a person names: `NAME`, `NAME{"SETTING":VALUE}`, `{NAME: {SETTING: VALUE}}`.

    A package may stand before the name, and what is in braces is YAML. Raises `ConfigError`, which names
    where it was `given`.
    """
    name, brace, rest = text.strip().partition("{")
    if not brace:
        return Reference.of(name)
    try:
        settings = parse_yaml(brace + rest)
    except ValueError as error:
        problem = str(error)
    else:
        whole = {name.strip(): settings} if name else settings
        inner = list(whole.values()) if isinstance(whole, dict) else []
        if len(inner) == 1 and isinstance(inner[0], dict | None):
            return Reference.of(whole)
        problem = "one name is expected, with a mapping of its settings"
    raise ConfigError(
        f'{given} {text} is neither NAME{{"SETTING": VALUE}} nor {{NAME: {{SETTING: VALUE}}}}: {problem}.'
    )


def parts_of(text: str, given: str) -> list[Reference]:
    """Return the parts in a text that has `;` between them. Raises `ConfigError`."""
    parts, begun = [], ""
    for piece in text.split(";"):
        begun += piece
        if begun.count("{") > begun.count("}"):  # it stands within a setting
            begun += ";"
        elif begun.strip():
            parts.append(part_of(begun, given))
            begun = ""
    return [*parts, *([part_of(begun, given)] if begun.strip() else [])]
