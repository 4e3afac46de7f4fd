"""Libraries that report their use to their makers are imported here, with the reports off.

Such a library reads a variable of the environment when it is imported, and never again. So the
variable is there during the import and gone afterwards, and `import allkit` itself sets nothing.
A value that the user has set stays.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allkit.files import cache_folder, can_write

__all__ = [
    "LIBRARIES",
    "import_silent",
    "quiet_logging",
    "reports",
    "setting",
    "silence",
    "silent_hub",
    "torch_folder",
]


@dataclass(frozen=True)
class Habit:
    """What turns the reports of a library off: `variable` set to `off`.

    `also` are other values that turn them off, in small letters. Without a variable its sender, the
    module `sender`, is not imported.
    """

    variable: str = ""
    off: str = "1"
    also: tuple[str, ...] = ("1", "true", "yes", "on")
    sender: str = ""
    asked: bool = False
    """Whether it tells of this machine only when it is asked for something (`silent_hub`)."""


LIBRARIES = {
    "albumentations": Habit("NO_ALBUMENTATIONS_UPDATE", also=("1", "true")),
    "huggingface_hub": Habit("HF_HUB_DISABLE_TELEMETRY", asked=True),
    "mlflow": Habit("MLFLOW_DISABLE_TELEMETRY", "true", ("1", "true")),
    "onnxruntime": Habit("ORT_DISABLE_TELEMETRY"),
    "openvino": Habit(sender="openvino_telemetry"),
    "ray": Habit("RAY_USAGE_STATS_ENABLED", "0", ("0",)),
}
"""By the name of the module that reads the variable."""
MODEL_RUNNER = "onnxruntime"
"""The library that goes on reporting after its import, for as long as models are open."""

SYSTEM_FONTS = Path("/etc/fonts/fonts.conf")
FONTS = """<?xml version="1.0"?>
<fontconfig><cachedir>{folder}</cachedir><include>{system}</include></fontconfig>
"""

_LOCK = threading.Lock()
_SILENCED: set[str] = set()  # imported while everything was off
_WARNED: set[str] = set()
_inside = 0  # how many imports are going on
_set: dict[str, tuple[str | None, str]] = {}  # variables that we have set: before, now
_blocked: list[str] = []


def import_silent(name: str) -> Any:
    """Import the module `name` as `importlib.import_module` does, with all reports off.

    Warns, once, when ONNX Runtime had been imported before, with its reports on.
    """
    library = name.partition(".")[0]
    if library == MODEL_RUNNER and _early(library) and library not in _WARNED:
        _WARNED.add(library)
        warnings.warn(_reason(library), UserWarning, stacklevel=2)
    if name in sys.modules:
        return importlib.import_module(name)
    with silence(), _picture_folders() if library == "matplotlib" else contextlib.nullcontext():
        return importlib.import_module(name)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Have every variable set that the user has not set, for what is imported inside.

    Several threads may be inside; the last one to leave takes the variables away.
    """
    global _inside
    with _LOCK:
        _inside += 1
        new = {name: habit for name, habit in LIBRARIES.items() if not _imported(name)}
        _put({habit.variable: habit.off for habit in new.values() if habit.variable}, _set)
        for habit in new.values():
            if habit.sender and habit.sender not in sys.modules:
                # What is None cannot be imported; OpenVINO then takes its own empty stand-in.
                sys.modules[habit.sender] = None  # type: ignore[assignment]
                _blocked.append(habit.sender)
    _bars_without_widgets()
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            _SILENCED.update(name for name in new if _imported(name))
            if not _inside:
                _take_away(_set)
                for sender in _blocked:
                    if sys.modules.get(sender) is None:
                        sys.modules.pop(sender, None)
                _blocked.clear()


def _bars_without_widgets() -> None:
    """Import tqdm's bars for notebooks, which other libraries import, without their warning.

    Where ipywidgets are not installed it warns in red of a bar that nobody asked for.
    """
    notebook = "ipykernel" in sys.modules and "tqdm.autonotebook" not in sys.modules
    if not notebook or importlib.util.find_spec("tqdm") is None:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("tqdm.auto")


@contextlib.contextmanager
def silent_hub() -> Iterator[Any]:
    """Yield `huggingface_hub`, the library that fetches weights, with its reports off.

    Otherwise each of its requests also tells which versions are installed here. It reads the
    setting at every request, so it does not matter who imported it, and when.
    """
    hub = import_silent("huggingface_hub")
    constants = import_silent("huggingface_hub.constants")
    before = constants.HF_HUB_DISABLE_TELEMETRY
    if not os.environ.get(LIBRARIES["huggingface_hub"].variable):
        constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield hub
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


@contextlib.contextmanager
def setting(variables: Mapping[str, str], *, force: bool = False) -> Iterator[None]:
    """Have those variables set that the user has not set; with `force` the others too."""
    changed: dict[str, tuple[str | None, str]] = {}
    _put(variables, changed, force=force)
    try:
        yield
    finally:
        _take_away(changed)


def torch_folder() -> contextlib.AbstractContextManager[None]:
    """Have the folder that torch makes when it is used made inside allkit's own.

    For a process that is allkit's; in others torch makes it among the temporary ones.
    """
    folder = cache_folder()
    return setting({"TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")} if can_write(folder) else {})


def reports() -> dict[str, str]:
    """Return for each library that is installed `off`, or why it may report its use."""
    states = {}
    for name, habit in LIBRARIES.items():
        if not _imported(name) and importlib.util.find_spec(name) is None:
            continue
        value = os.environ.get(habit.variable) if habit.variable else None
        if value and value.lower() not in habit.also:
            states[name] = f"may report: {habit.variable} is {value!r}, and stays as you set it"
        else:
            states[name] = f"may report: {_reason(name)}" if _early(name) else "off"
    return states


def _imported(name: str) -> bool:
    return sys.modules.get(name) is not None


def _early(name: str) -> bool:
    """Say whether a library was imported with its reports on, though the user did not ask for it."""
    habit = LIBRARIES[name]
    if habit.asked or not _imported(name) or name in _SILENCED:
        return False
    return not (habit.variable and os.environ.get(habit.variable))


def _reason(name: str) -> str:
    habit = LIBRARIES[name]
    way_out = f"Set {habit.variable}={habit.off} before that, or let" if habit.variable else "Let"
    return (
        f"{name} was imported before allkit, with its reports to its makers on. {way_out} allkit "
        f"import it, by allkit.telemetry.import_silent({name!r})."
    )


@contextlib.contextmanager
def _picture_folders() -> Iterator[None]:
    """Have matplotlib keep its list of fonts in allkit's folder, unless it has one of the user's.

    It asks a program of fontconfig, which may write a cache; for that there is a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="allkit-") as folder:
        wanted = _matplotlib_folder()
        if SYSTEM_FONTS.is_file():
            fonts = Path(folder) / "fonts.conf"
            fonts.write_text(FONTS.format(folder=folder, system=SYSTEM_FONTS), encoding="utf-8")
            wanted["FONTCONFIG_FILE"] = str(fonts)
        with setting(wanted):
            importlib.import_module("matplotlib.font_manager")
            yield


def _matplotlib_folder() -> dict[str, str]:
    wanted = {"MPLCONFIGDIR": str(cache_folder() / "matplotlib")}
    try:
        home = Path.home()
    except RuntimeError:  # a user without one, who has no styles either
        return wanted
    if sys.platform.startswith(("linux", "freebsd")):
        base = os.environ.get("XDG_CONFIG_HOME") or str(home / ".config")
        theirs = Path(base) / "matplotlib"
    else:
        local = os.environ.get("LOCALAPPDATA")
        theirs = Path(local) / "matplotlib" if local else home / ".matplotlib"
    if (theirs / "stylelib").is_dir():  # the user's styles are found by this folder only
        return {}
    if (theirs / "matplotlibrc").is_file():
        wanted["MATPLOTLIBRC"] = str(theirs / "matplotlibrc")
    return wanted


def _put(
    variables: Mapping[str, str],
    changed: dict[str, tuple[str | None, str]],
    *,
    force: bool = False,
) -> None:
    for name, value in variables.items():
        if force or not os.environ.get(name):
            changed[name] = os.environ.get(name), value
            os.environ[name] = value


def _take_away(changed: dict[str, tuple[str | None, str]]) -> None:
    for name, (before, now) in changed.items():
        if os.environ.get(name) != now:
            continue  # what was imported has set it itself
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    changed.clear()


@contextlib.contextmanager
def quiet_logging(level: int) -> Iterator[None]:
    """Let no message of `level` or below be logged for a while; what goes wrong is still raised."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
