"""`allkit plugins list`: what every plugin offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.options import AsJson, spell_out
from allkit.cli.plugins_facts import licence_of
from allkit.cli.plugins_results import in_words, kept_result
from allkit.cli.progress import put, put_all, put_json, say
from allkit.errors import PluginError
from allkit.plugins.offers import Kind

if TYPE_CHECKING:
    from allkit.plugins import Plugin, Registry
    from allkit.plugins.offers import Offer

__all__ = ["list_plugins", "offer_row"]


def list_plugins(
    as_json: AsJson = False,
    family: Annotated[str | None, typer.Option(help="every name of a family: timm")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="ask every plugin again")] = False,
    kind: Annotated[
        Kind | None, typer.Option(help="what is offered", metavar=spell_out(Kind))
    ] = None,
) -> None:
    """Show every plugin: what it offers, what is wrong with it, what its checks said.

    Example:
    allkit plugins list
    allkit plugins list --kind augmentation
    allkit plugins list --family timm
    """
    from allkit.plugins import Registry, registry

    host = Registry(fresh=True) if refresh else registry()
    if family is not None:
        _list_family(host, family)
        return
    rows = _rows(host, kind)
    for conflict in host.conflicts():
        if kind in (None, conflict.kind):
            say(f"Conflict: {conflict}")
    if host.left_out:
        say(f"Left out by ALLKIT_PLUGINS: {', '.join(host.left_out)}")
    if as_json:
        put_json(rows, indent=1)
    else:
        put(_text(rows))


def _list_family(host: Registry, prefix: str) -> None:
    family = host.family(prefix)
    if family is None:
        raise PluginError(f"No plugin offers the family {prefix!r}. `allkit plugins` shows them.")
    put_all(f"{prefix}:{name}\n" for name in family.names())


def _rows(host: Registry, kind: Kind | None) -> list[dict[str, Any]]:
    """Return what is told of each plugin, with the keys of `--json`."""
    rows = []
    licences: dict[str, str] = {}
    for plugin in host.plugins:
        offers = [offer for offer in plugin.offers if kind in (None, offer.kind)]
        if kind is not None and not offers:
            continue
        if plugin.distribution not in licences:
            licences[plugin.distribution] = licence_of(plugin.distribution)
        rows.append(_row(plugin, offers) | {"license": licences[plugin.distribution] or None})
    return rows


def _row(plugin: Plugin, offers: Sequence[Offer]) -> dict[str, Any]:
    checked = None if plugin.built_in else kept_result(plugin)
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "api_version": plugin.api_version,
        "state": "broken" if plugin.error else "ok",
        "error": plugin.error,
        "notes": list(plugin.notes),
        "milliseconds": round(plugin.seconds * 1000, 1),
        "built_in": plugin.built_in,
        "checked": checked and in_words(checked),
        "provides": [offer_row(offer) for offer in offers],
    }


def offer_row(offer: Offer) -> dict[str, Any]:
    """Return what is told of a record, as values of JSON."""
    return {
        "kind": offer.kind,
        "name": offer.name,
        "summary": offer.summary,
        "license": offer.license,
        "suffixes": list(offer.suffixes),
        "settings": [
            {
                "name": setting.name,
                "type": setting.type,
                "default": setting.default or None,
                "description": setting.description,
            }
            for setting in offer.settings
        ],
    }


def _text(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        origin = f"{row['distribution']} {row['version']}"
        lines.append(f"{origin} · {row['plugin']} · {row['milliseconds']:.0f} ms")
        if not row["built_in"]:
            licence = row["license"] or "no licence is named"
            state = f"checked: {row['checked']}" if row["checked"] else "not checked"
            lines[-1] += f" · contract {row['api_version']} · {licence} · {state}"
        if row["error"]:
            lines.append(f"  BROKEN  {row['error']}")
        lines += [f"  NOTE  {note}" for note in row["notes"]]
        for offer in row["provides"]:
            licence = f" [{offer['license']}]" if offer["license"] else ""
            lines.append(f"  {offer['kind']:<13} {offer['name']:<18} {offer['summary']}{licence}")
            settings = ", ".join(
                f"{s['name']} = {s['default'] or 'to be given'}" for s in offer["settings"]
            )
            if settings:
                lines.append(f"  {'':<13} {'':<18} settings: {settings}")
    return "".join(f"{line}\n" for line in lines)
