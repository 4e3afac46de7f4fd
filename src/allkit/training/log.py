"""The metrics of a training as it goes on: one line of JSON each, and the chosen trackers.

metrics.jsonl is in the run folder. A line is complete or missing; when a training is resumed, the
epochs after its last saved state appear twice, and the later line counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from allkit.config.spelling import flag
from allkit.errors import AllkitError, ConfigError
from allkit.files import on_disk
from allkit.telemetry import import_silent

__all__ = ["METRICS", "MetricsLog", "open_log", "read_metrics", "require_trackers"]

METRICS = "metrics.jsonl"
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
Value = float | int | str


class _Tracker(Protocol):
    def store_init_configuration(self, values: dict[str, Any]) -> None: ...
    def log(self, values: dict[str, Any], step: int | None) -> None: ...
    def finish(self) -> None: ...


class MetricsLog:
    """Writes lines of metrics, and sends them to trackers; see `open_log`."""

    def __init__(self, path: Path | None, trackers: Sequence[_Tracker] = ()) -> None:
        self.path = path
        self.trackers = trackers
        self._start = time.time()
        self._step = len(read_metrics(path)) if path else 0
        if path:
            _mend(path)

    def log(self, values: Mapping[str, Value]) -> None:
        """Write one line of metrics; `seconds_since_start` and `time` are added to it."""
        now = time.time()
        line = {"time": round(now, 3), "seconds_since_start": round(now - self._start, 3)} | {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in values.items()
        }
        if self.path:
            try:
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
                    stream.flush()
                    on_disk(stream)
            except OSError as error:
                raise AllkitError(
                    f"Cannot write {self.path}: {error.strerror or error}. The lines before are "
                    f"whole; free some space and go on with {flag('resume')}."
                ) from error
        self._step += 1
        # Curves of several members and phases lie beside each other.
        where = "/".join(str(values[name]) for name in ("member", "phase") if name in values)
        figures = {
            f"{where}/{name}" if where else name: value
            for name, value in values.items()
            if isinstance(value, (int, float)) and name != "member"
        }
        for tracker in self.trackers:
            tracker.log(figures, step=self._step)  # rises, as some of them want


@contextlib.contextmanager
def open_log(
    folder: Path | None, trackers: Sequence[str], *, name: str, config: Mapping[str, Any]
) -> Iterator[MetricsLog]:
    """Open the log of one training in its run folder, and close it when the training ends.

    Without a folder, only the trackers get the metrics. `name` names the run to them, `config`
    holds its settings. Raises `ConfigError` when one is not installed or does not start.
    """
    require_trackers(trackers)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    opened: list[_Tracker] = []
    try:
        for kind in trackers:
            opened.append(_started(kind, folder or Path.cwd(), name, config))
        yield MetricsLog(folder / METRICS if folder else None, opened)
    finally:
        for tracker in opened:
            tracker.finish()


def require_trackers(trackers: Sequence[str]) -> None:
    """Raise `ConfigError` that names the first tracker which is not installed."""
    import importlib.util

    for kind in trackers:
        if importlib.util.find_spec(PACKAGES[kind]) is None:
            raise ConfigError(
                f"trackers names {kind}, which is not installed. Type: pip install {PACKAGES[kind]}"
            )


def _started(kind: str, folder: Path, name: str, config: Mapping[str, Any]) -> _Tracker:
    from accelerate import PartialState, tracking

    PartialState()  # accelerate's trackers ask it which process is the main one
    flat = {
        key: value if isinstance(value, (int, float, str)) else str(value)
        for key, value in config.items()
    }
    try:
        tracker: Any
        if kind == "tensorboard":
            tracker = tracking.TensorBoardTracker(name, logging_dir=str(folder))
        elif kind == "mlflow":
            mlflow = import_silent("mlflow")
            if "MLFLOW_TRACKING_URI" not in os.environ:
                # Without a server of the user's: beside the training, not in the current folder.
                mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.sqlite').resolve()}")
            tracker = tracking.MLflowTracker(name, logging_dir=str(folder))
        else:
            tracker = tracking.WandBTracker(name)
        if hasattr(tracker, "start"):
            tracker.start()
        tracker.store_init_configuration(flat)
    except Exception as error:
        raise ConfigError(
            f"The tracker {kind} does not start: {type(error).__name__}: {str(error)[:200]}. Fix "
            f"it, or leave it out of trackers."
        ) from error
    started: _Tracker = tracker
    return started


def read_metrics(path: Path) -> list[dict[str, Value]]:
    """Return the whole lines of a metrics file, in order; none when there is no file."""
    lines: list[dict[str, Value]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(text))
    return lines


def _mend(path: Path) -> None:
    """Cut off a last line that was not written whole."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
