"""The list of plugins, made when the site is built from their metadata and from what their checks said.

`<!-- plugins -->` in a page becomes a section for every package in `plugins/`: its metadata is in its
`pyproject.toml`, and what came of its checks in `docs/plugin-checks/PACKAGE.json`, which
`allkit plugins check PACKAGE --out FILE` writes. What was skipped is told as loudly as what failed.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MARK = "<!-- plugins -->"
CHECKS = "plugin-checks"
ORDER = ("failed", "skipped", "expected")
WORDS = {"failed": "FAILED", "skipped": "SKIPPED", "expected": "failed, as announced"}
HOOKS = {
    "allkit_backbones": "backbones",
    "allkit_augmentations": "augmentations",
    "allkit_views": "views",
    "allkit_finders": "finders",
    "allkit_readers": "readers",
    "allkit_explainers": "explainers",
    "allkit_exporters": "exporters",
    "allkit_commands": "commands",
    "allkit_health_checks": "health checks",
}


def on_config(config: Any) -> Any:
    """Watch the results and the packages too while the site is served; MkDocs calls it."""
    root = Path(config["docs_dir"]).parent
    files = [*root.glob("plugins/*/pyproject.toml"), *root.glob(f"docs/{CHECKS}/*.json")]
    config["watch"] = [*config["watch"], *map(str, files)]
    return config


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Return the text of a page with the list in place of its mark; MkDocs calls it."""
    return markdown.replace(MARK, listed(Path(config["docs_dir"]).parent))


def listed(root: Path) -> str:
    """Return the whole list as Markdown: a table, and a section for each package."""
    packages = [
        _package(root, path.parent) for path in sorted(root.glob("plugins/*/pyproject.toml"))
    ]
    rows = ["| package | version | licence | offers | checks |", "|---|---|---|---|---|"]
    for one in packages:
        offers = ", ".join(one["offers"])
        cells = (f"[{one['name']}](#{one['name']})", one["version"], one["license"], offers)
        rows.append(f"| {' | '.join(cells)} | {_brief(one)} |")
    return "\n".join([*rows, "", *(line for one in packages for line in _section(one))])


def _package(root: Path, folder: Path) -> dict[str, Any]:
    """Return what is told of one package."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = project.get("entry-points", {}).get("allkit", {})
    return {
        "name": project["name"],
        "version": project["version"],
        "summary": project.get("description", ""),
        "license": project.get("license", "none is named"),
        "requires": project.get("dependencies", []),
        "offers": list(_offers(folder, entries.values())),
        "result": _result(root / "docs" / CHECKS / f"{project['name']}.json"),
    }


def _offers(folder: Path, modules: Any) -> Iterator[str]:
    """Yield the kinds of parts, by the hooks in the sources, which are not imported."""
    found = set()
    for module in modules:
        name = module.partition(":")[0].replace(".", "/")
        for file in (folder / f"{name}.py", folder / name / "__init__.py"):
            if file.is_file():
                body = ast.parse(file.read_text(encoding="utf-8")).body
                found |= {node.name for node in body if isinstance(node, ast.FunctionDef)}
    yield from (kind for hook, kind in HOOKS.items() if hook in found)


def _result(file: Path) -> dict[str, Any] | None:
    """Return what came of the checks of a package; `None` where there is no file of results."""
    if not file.is_file():
        return None
    (result,) = json.loads(file.read_text(encoding="utf-8"))["packages"]
    found: dict[str, Any] = result
    return found


def _count(result: Mapping[str, Any], state: str) -> int:
    return sum(check["state"] == state for check in result["checks"])


def _brief(one: Mapping[str, Any]) -> str:
    result = one["result"]
    if result is None:
        return "not checked"
    told = [f"{_count(result, 'passed')} passed"]
    told += [f"**{_count(result, s)} {WORDS[s]}**" for s in ORDER if _count(result, s)]
    if result["version"] != one["version"]:
        told.append(f"of version {result['version']}")
    return ", ".join(told)


def _section(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {one['name']}"
    yield ""
    yield f"{one['summary']}. Version {one['version']}, licence {one['license']}."
    yield ""
    requires = ", ".join(f"`{text}`" for text in one["requires"])
    yield f"Offers {', '.join(one['offers']) or 'nothing'}. Requires {requires or 'nothing'}."
    yield ""
    result = one["result"]
    if result is None:
        yield f"Not checked: there are no results of `allkit plugins check {one['name']}`."
        yield ""
        return
    which = "also against the next version of the contract, " if result.get("next") else ""
    yield (
        f"Checked on {result['date']}, {which}version {result['version']} with allkit {result['allkit']} and "
        f"Python {result['python']}: {_brief(one)}."
    )
    yield ""
    for state in ORDER:
        for check in result["checks"]:
            if check["state"] == state:
                message = " ".join(check["message"].split()).replace("<", "&lt;")
                yield f"- **{WORDS[state]}** `{check['subject']}` `{check['check']}`: {message}"
    yield ""
