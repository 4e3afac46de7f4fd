"""Packages with a plugin, put on the path as if they were installed."""

import importlib
import sys


def put(site, distribution, source, *, version="1.2", metadata=""):
    """Write a package with one module into the folder `site`, which is on the path."""
    module = distribution.lower().replace("-", "_")
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    head = f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n{metadata}"
    (info / "METADATA").write_text(f"{head}\nThe description.\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[allkit]\n{module} = {module}\n", encoding="utf-8")
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    return module
