"""How much memory this process has taken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["peak_bytes"]


def peak_bytes() -> int:
    """Return the largest memory of this process so far; 0 where the system does not say."""
    try:
        # Not `getrusage`: it counts the parent's memory from before the program was started.
        line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    except OSError:
        line = None
    if line:
        return int(line[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
