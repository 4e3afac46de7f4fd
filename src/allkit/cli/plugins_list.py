"""`allkit plugins list`: what every plugin offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.options import AsJson
from allkit.cli.progress import put, put_all, put_json, say
from allkit.errors import PluginError

if TYPE_CHECKING:
    from allkit.plugins import Registry

__all__ = ["list_plugins"]


def list_plugins(
    as_json: AsJson = False,
    family: Annotated[str | None, typer.Option(help="every name of a family: timm")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="ask every plugin again")] = False,
) -> None:
    """Show every plugin, what it offers, and what is wrong with it.

    Example:
    allkit plugins list
    allkit plugins list --family timm
    """
    from allkit.plugins import Registry, registry

    host = Registry(fresh=True) if refresh else registry()
    if family is not None:
        _list_family(host, family)
        return
    rows = _rows(host)
    for clash in _clashes(rows):
        say(f"Conflict: {clash}")
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


def _rows(host: Registry) -> list[dict[str, Any]]:
    """Return what is told of each plugin, with the keys of `--json`."""
    return [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "api_version": plugin.api_version,
            "state": "broken" if plugin.error else "ok",
            "error": plugin.error,
            "milliseconds": round(plugin.seconds * 1000, 1),
            "provides": [
                {
                    "kind": offer.kind,
                    "name": offer.name,
                    "summary": offer.summary,
                    "license": offer.license,
                }
                for offer in plugin.offers
            ],
        }
        for plugin in host.plugins
    ]


def _clashes(rows: Sequence[dict[str, Any]]) -> list[str]:
    owners: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for offer in row["provides"]:
            origin = f"{row['distribution']} {row['version']}"
            owners.setdefault((offer["kind"], offer["name"]), []).append(origin)
    return [
        f"the {kind} {name!r} is claimed by {' and '.join(who)}; it cannot be used until one goes"
        for (kind, name), who in owners.items()
        if len(who) > 1
    ]


def _text(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        origin = f"{row['distribution']} {row['version']}"
        lines.append(f"{origin} · {row['plugin']} · {row['milliseconds']:.0f} ms")
        if row["error"]:
            lines.append(f"  BROKEN  {row['error']}")
        for offer in row["provides"]:
            licence = f" [{offer['license']}]" if offer["license"] else ""
            lines.append(f"  {offer['kind']:<13} {offer['name']:<18} {offer['summary']}{licence}")
    return "".join(f"{line}\n" for line in lines)
