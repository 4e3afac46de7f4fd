"""`allkit plugins show`: everything about a package, or about one part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.options import AsJson
from allkit.cli.plugins_examples import defaults_of, examples_of
from allkit.cli.plugins_facts import Facts, facts_of
from allkit.cli.plugins_list import offer_row
from allkit.cli.plugins_results import in_words, kept_result
from allkit.cli.progress import put, put_json
from allkit.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from allkit.plugins import Plugin, Registry
    from allkit.plugins.offers import Offer

__all__ = ["show_plugin"]

_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} of them"),
    ("maxItems", "at most {} of them"),
    ("pattern", "of the form {}"),
)

_NOUNS = {
    "number": "numbers",
    "integer": "whole numbers",
    "string": "texts",
    "boolean": "yes or no",
}
"""What a list of a fixed length holds, by the type of JSON."""


def show_plugin(
    name: Annotated[str, typer.Argument(help="a package, a part, or PACKAGE/PART", metavar="NAME")],
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a package or a part, with its settings and an example.

    Example:
    allkit plugins show allkit-stain
    allkit plugins show vgg16
    """
    from allkit.plugins import registry

    host = registry()
    chosen = _chosen(host, name)
    packages: dict[str, dict[str, Any]] = {}
    for plugin, offers in chosen:
        shown = packages.setdefault(plugin.distribution, _package(plugin))
        shown["notes"] += [note for note in plugin.notes if note not in shown["notes"]]
        shown["errors"] += [plugin.error] if plugin.error else []
        shown["parts"] += [_part(plugin, offer) for offer in offers]
    mine = {plugin.origin for plugin, _ in chosen}
    conflicts = [c for c in host.conflicts() if mine & set(c.origins)]
    for shown in packages.values():
        origin = f"{shown['package']} {shown['version']}"
        shown["conflicts"] = [str(c) for c in conflicts if origin in c.origins]
    if as_json:
        put_json(list(packages.values()), indent=1)
    else:
        put("\n".join(_text(shown) for shown in packages.values()))


def _chosen(host: Registry, name: str) -> list[tuple[Plugin, list[Offer]]]:
    """Return the plugins that a name means, each with what it means of them."""
    from allkit.plugins.catalogue import plain
    from allkit.records import Reference

    whole = [p for p in host.plugins if plain(p.distribution) == plain(name)]
    if whole:
        return [(plugin, list(plugin.offers)) for plugin in whole]
    asked = Reference.of(name)
    chosen = []
    for plugin in host.plugins:
        if plain(asked.package) not in ("", plain(plugin.distribution)):
            continue
        offers = [
            offer
            for offer in plugin.offers
            if asked.name in (offer.name, offer.prefix) or offer.answers(offer.kind, asked.name)
        ]
        if offers:
            chosen.append((plugin, offers))
    if not chosen:
        known = {p.distribution for p in host.plugins}
        known |= {offer.name for plugin in host.plugins for offer in plugin.offers}
        raise PluginError(
            f"No package and no part is called {name!r}.{did_you_mean(name, known)} `allkit plugins` "
            f"shows what is installed."
        )
    return chosen


def _package(plugin: Plugin) -> dict[str, Any]:
    facts: Facts = facts_of(plugin.distribution)
    checked = None if plugin.built_in else kept_result(plugin)
    return {
        "package": plugin.distribution,
        "version": plugin.version,
        "summary": facts.summary,
        "license": facts.license or None,
        "home_page": facts.home_page or None,
        "api_version": plugin.api_version,
        "milliseconds": round(plugin.seconds * 1000, 1),
        "requirements": [asdict(need) for need in facts.needs],
        "checked": checked and in_words(checked),
        "not_passed": [c for c in checked["checks"] if c["state"] != "passed"] if checked else [],
        "errors": [],
        "notes": [],
        "conflicts": [],
        "parts": [],
    }


def _part(plugin: Plugin, offer: Offer) -> dict[str, Any]:
    from allkit.records import Reference

    record = _record(plugin, offer)
    schema, examples = _schema(record)
    rows = offer_row(offer)
    for setting in rows["settings"]:
        setting["allowed"] = _allowed(schema.get(setting["name"], {}))
    name = offer.name
    if offer.prefix and getattr(record, "example", ""):
        name = f"{offer.prefix}:{record.example}"
    settings = defaults_of(offer, examples)
    reference = Reference(name, "" if plugin.built_in else plugin.distribution, settings)
    rows |= {"precisions": list(offer.precisions), "details": list(offer.details)}
    return rows | {"examples": examples_of(offer, reference)}


def _record(plugin: Plugin, offer: Offer) -> Any:
    """Return the record itself, which is imported for this; `None` where that fails."""
    for kind, record in plugin.records:
        if (kind, record.name) == (offer.kind, offer.name):
            return record
    return None


def _schema(record: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the schema of each setting, and an example of those that have no default."""
    model = getattr(record, "settings", None)
    if model is None:
        return {}, {}
    described = model.model_json_schema()
    found = {
        name: _resolved(value, described.get("$defs", {}))
        for name, value in described.get("properties", {}).items()
    }
    fields = model.model_fields.items()
    return found, {name: field.examples[0] for name, field in fields if field.examples}


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without references, and without the choice of nothing."""
    whole = dict(schema)
    if "$ref" in whole:
        whole |= definitions.get(whole["$ref"].rpartition("/")[2], {})
    for one in whole.pop("anyOf", ()):
        if one.get("type") != "null":
            whole = _resolved(one, definitions) | whole
    return whole


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return in words what a setting takes, where its type does not say it."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return f"only {schema['const']}"
    if counted := _counted(schema):
        return counted
    return ", ".join(words.format(schema[key]) for key, words in _BOUNDS if key in schema)


def _counted(schema: Mapping[str, Any]) -> str:
    """Return "3 numbers" for a list of a fixed length; empty for any other."""
    count = schema.get("minItems")
    if count is None or count != schema.get("maxItems"):
        return ""
    each = schema.get("prefixItems") or [schema.get("items") or {}]
    kinds = {one.get("type", "") for one in each}
    noun = _NOUNS.get(kinds.pop(), "values") if len(kinds) == 1 else "values"
    return f"{count} {noun}"


def _text(shown: Mapping[str, Any]) -> str:
    return "".join(f"{line}\n" for line in _lines(shown))


def _lines(shown: Mapping[str, Any]) -> Iterator[str]:
    yield f"{shown['package']} {shown['version']}"
    yield from (f"  {'BROKEN':<13} {error}" for error in shown["errors"])
    yield f"  {'summary':<13} {shown['summary'] or 'none is given'}"
    yield f"  {'licence':<13} {shown['license'] or 'none is named: ask its author'}"
    yield f"  {'home page':<13} {shown['home_page'] or 'none is named'}"
    yield f"  {'contract':<13} version {shown['api_version']}"
    yield f"  {'import':<13} {shown['milliseconds']:.0f} ms"
    yield from _under("needs", [_need(need) for need in shown["requirements"]])
    yield f"  {'checked':<13} {shown['checked'] or 'not here: allkit plugins check ' + shown['package']}"
    for check in shown["not_passed"]:
        yield f"  {'':<13} {check['state'].upper()}  {check['subject']} {check['check']}: {check['message']}"
    yield from (f"  {'NOTE':<13} {note}" for note in shown["notes"])
    yield from (f"  {'CONFLICT':<13} {conflict}" for conflict in shown["conflicts"])
    for part in shown["parts"]:
        yield ""
        yield from _part_lines(part)


def _need(need: Mapping[str, Any]) -> str:
    if need["met"]:
        return f"{need['text']} ({need['there']} is installed)"
    there = f"{need['there']} is" if need["there"] else "it is not"
    return f"{need['text']}: NOT MET, {there} installed"


def _part_lines(part: Mapping[str, Any]) -> Iterator[str]:
    yield f"{part['kind']} {part['name']}"
    if part["summary"]:
        yield f"  {part['summary']}"
    if part["license"]:
        yield f"  {'weights':<13} licence: {part['license']}"
    for key, label in (("suffixes", "files"), ("precisions", "precisions")):
        if part[key]:
            yield f"  {label:<13} {', '.join(part[key])}"
    yield from _under("settings", [_setting(setting) for setting in part["settings"]])
    for label, text in part["examples"].items():
        yield from _under(label, text.splitlines())


def _setting(setting: Mapping[str, Any]) -> str:
    default = f"default {setting['default']}" if setting["default"] else "has to be given"
    allowed = setting["allowed"]
    type_ = (
        "" if allowed.startswith(("one of ", "only ")) or allowed[:1].isdigit() else setting["type"]
    )
    facts = ", ".join(text for text in (type_, allowed, default) if text)
    return f"{setting['name']}: {setting['description'] or 'not described'} ({facts})"


def _under(label: str, texts: Sequence[str]) -> Iterator[str]:
    for place, text in enumerate(texts):
        yield f"  {'' if place else label:<13} {text}"
