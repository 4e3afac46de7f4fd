"""The JavaScript and CSS of a component, joined from the files beside this one."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
SHARED = (
    "shared_web/data.js",
    "shared_web/dom.js",
    "shared_web/net.js",
    "shared_web/registry.js",
    "shared_web/files.js",
)
PARTS = {
    "desk": (
        *SHARED,
        "desk_web/queue.js",
        "desk_web/reading.js",
        "desk_web/poll.js",
        "desk_web/marks.js",
        "desk_web/grid.js",
        "desk_web/stage.js",
        "desk_web/why.js",
        "desk_web/viewer.js",
        "desk_web/keys.js",
        "desk_web/dialogs.js",
        "desk_web/head.js",
        "desk_web/desk.js",
        "desk_web/main.js",
    ),
    "drop": (
        *SHARED,
        "drop_web/uploader.js",
        "drop_web/folders.js",
        "drop_web/sniff.js",
        "drop_web/main.js",
    ),
    "rows": ("shared_web/data.js", "rows.js"),
}
STYLES = {
    "desk": (
        "shared_web/base.css",
        "desk_web/desk.css",
        "desk_web/viewer.css",
        "desk_web/narrow.css",
    ),
    "drop": ("shared_web/base.css", "drop_web/drop.css"),
    "rows": ("rows.css",),
}


def script(name: str) -> str:
    """Return the one module of a component."""
    return _joined(PARTS[name])


def style(name: str) -> str:
    """Return the style sheet of a component."""
    return _joined(STYLES[name])


def _joined(files: tuple[str, ...]) -> str:
    return "\n".join((HERE / file).read_text("utf-8") for file in files)
