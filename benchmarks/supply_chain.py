#!/usr/bin/env python
"""The audit and the bill of materials (SBOM) of an installation.

    python benchmarks/supply_chain.py audit               known holes in what is installed, with counts
    python benchmarks/supply_chain.py sbom --out FILE     CycloneDX 1.6: the core and all extras for users

`pip-audit` says "No known vulnerabilities" also when it could ask nobody. So the audit counts: it
ends with 0 only when every distribution that comes from a package index was audited, and none has
a known hole.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["audit", "sbom"])
    parser.add_argument("--report", type=Path, help="a report of pip-audit, instead of a new one")
    parser.add_argument("--environment", type=Path, help="an SBOM of everything installed")
    parser.add_argument("--out", type=Path, default=Path("allkit.cdx.json"))
    asked = parser.parse_args()
    if asked.what == "audit":
        return audit(json.loads(asked.report.read_text()) if asked.report else audited())
    whole = json.loads(asked.environment.read_text()) if asked.environment else environment()
    made = sbom(whole)
    asked.out.write_text(json.dumps(made, indent=1) + "\n")
    print(f"Wrote {asked.out}: {len(made['components'])} components.")
    return 0


def audited() -> dict[str, Any]:
    """Return the report of pip-audit on this environment."""
    site = sysconfig.get_path("purelib")
    command = [sys.executable, "-m", "pip_audit", "--path", site, "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def audit(report: dict[str, Any]) -> int:
    """Print what was audited and what was found; return the exit status."""
    editable = {
        d.name.lower()
        for d in distributions()
        if '"editable": true' in (d.read_text("direct_url.json") or "")
    }
    wanted = [d for d in report["dependencies"] if d["name"].lower() not in editable]
    holes = [d for d in wanted if d.get("vulns")]
    left = [d for d in wanted if "vulns" not in d]
    print(
        f"{len(wanted)} installed, {len(wanted) - len(left)} audited, {len(holes)} with known holes"
    )
    for found in holes:
        for hole in found["vulns"]:
            fixed = ", ".join(hole.get("fix_versions") or []) or "no release"
            print(f"  {found['name']} {found['version']}: {hole['id']}, closed by {fixed}")
    for skipped in left:
        print(f"  {skipped['name']} {skipped.get('version', '')}: {skipped.get('skip_reason')}")
    return 1 if holes or left or not wanted else 0


def environment() -> dict[str, Any]:
    """Return a CycloneDX document of everything that is installed here."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.json"
        command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
        subprocess.run(
            [*command, "--spec-version", "1.6", "--output-format", "JSON", "-o", str(out)],
            check=True,
        )
        return dict(json.loads(out.read_text()))


def sbom(whole: dict[str, Any]) -> dict[str, Any]:
    """Return `whole` with the components that a user gets: the core required, extras optional."""
    from attacks.supply_chain import brought, normal

    core, extras = brought()
    components = []
    for component in whole["components"]:
        name = normal(component["name"])
        if name in core | extras and name != "allkit":
            scope = "required" if name in core else "optional"
            components.append(component | {"scope": scope})
    kept = {component.get("bom-ref") for component in components}
    relations = [
        relation | {"dependsOn": [ref for ref in relation.get("dependsOn", ()) if ref in kept]}
        for relation in whole.get("dependencies", ())
        if relation["ref"] in kept
    ]
    this = {
        "type": "library",
        "name": "allkit",
        "version": version("allkit"),
        "purl": f"pkg:pypi/allkit@{version('allkit')}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    metadata = whole.get("metadata", {}) | {"component": this}
    return whole | {"metadata": metadata, "components": components, "dependencies": relations}


if __name__ == "__main__":
    sys.exit(main())
