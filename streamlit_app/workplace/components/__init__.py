"""The parts of the page that have to be quick: drawn in the browser, without a run of the script.

desk.py      the case at work: thumbnails, viewer, keys, and the queue of readings
drop.py      the place where files are dropped, and their way to the server
sources.py   reads the JavaScript and CSS that stand beside

The folders `desk_web`, `drop_web` and `shared_web` hold what runs in the browser: plain modules without a
build step. Each file is a part of one module, in the order that `sources.py` gives.
"""

from __future__ import annotations

from workplace.components.desk import desk
from workplace.components.drop import drop

__all__ = ["desk", "drop"]
