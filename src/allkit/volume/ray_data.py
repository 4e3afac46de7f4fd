"""The same answers on a Ray cluster, with Ray Data: workers open the model once and stream.

The driver keeps the order, writes the parts and resumes, exactly as without Ray; a worker that
dies is replaced and its images are answered again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from allkit.errors import AllkitError, ConfigError
from allkit.records import Cell, Prediction, Predictor
from allkit.telemetry import import_silent, setting
from allkit.volume.inputs import Paths
from allkit.volume.tables import LISTS

__all__ = ["stream"]

CHUNK = 128
"""Images that a worker takes at a time."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's setting for a cluster of one machine, which talks by the loopback address only."""
CLOSED = {
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    ),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
}
"""A proxy that is not there: with its reports off Ray still asks which cloud it runs in, and has
no setting against that."""
THREADS = 4
"""Cores that a worker asks for, at most: more workers scale better than more threads."""


def stream(
    open_model: Callable[[], Predictor],
    device: str,
    images: Paths,
    *,
    chunk: int = CHUNK,
    threads: int | None = None,
) -> Iterator[Prediction]:
    """Yield one answer per image, in order.

    The cluster is that of `RAY_ADDRESS`; or one is started, which listens on this machine only,
    keeps its files in a temporary folder, and is gone afterwards. Model and images must lie under the
    same paths on every node. A worker asks for `threads` cores, and for a graphics card when
    `device` is `cuda`. Raises `ConfigError` when Ray is not installed or cannot be reached, and
    what opening the model raises on a worker.
    """
    try:
        # Ray would report the use of every cluster to its makers, and log as it goes.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        alone = {} if os.environ.get("RAY_ADDRESS") else ALONE
        with setting(alone):
            ray: Any = import_silent("ray")  # typed in parts only
            import_silent("ray.data")
    except ImportError:
        raise ConfigError("--engine ray needs Ray. Type: pip install 'allkit[ray]'") from None
    if not len(images):
        return
    with _cluster(ray):
        yield from _answers(ray, open_model, images, device=device, chunk=chunk, threads=threads)


def _answers(
    ray: Any,
    open_model: Callable[[], Predictor],
    images: Paths,
    *,
    device: str,
    chunk: int,
    threads: int | None,
) -> Iterator[Prediction]:
    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        smallest = min(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
        cores = threads or max(1, min(THREADS, int(smallest)))
        most = max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
        chunks = [
            {"start": start, "images": list(images[start : start + chunk])}
            for start in range(0, len(images), chunk)
        ]
        items = ray.data.from_items(chunks, override_num_blocks=min(len(chunks), 50_000))
        answered = items.map(
            _Worker,
            fn_constructor_args=(open_model, cores, os.getcwd()),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=cores,
            num_gpus=1 if device.startswith("cuda") else 0,
        )
        expected = 0
        for block in answered.iter_rows():
            if block["start"] != expected:
                raise RuntimeError(f"Ray gave the rows from {block['start']}, not {expected}")
            answers = _unpacked(block["answers"])
            expected += len(answers)
            yield from answers
    except ray.exceptions.RayError as error:
        raise _plain(error) from error
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
        log.setLevel(level)


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Use the cluster that is connected, else that of `RAY_ADDRESS`, else one of our own."""
    if ray.is_initialized():
        yield
    elif os.environ.get("RAY_ADDRESS"):
        _connect(ray)
        try:
            yield
        finally:
            ray.shutdown()
    else:
        with _own_cluster(ray):
            yield


@contextlib.contextmanager
def _own_cluster(ray: Any) -> Iterator[None]:
    """Start a cluster that nobody else can reach, and leave nothing of it behind."""
    # Ray's sockets lie in the folder, and their paths may have a hundred letters at most.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        # Given here, the key of the cluster is not written into the user's home.
        secret = (
            {} if os.environ.get("RAY_AUTH_MODE") else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        )
        with setting(ALONE | secret), setting(CLOSED, force=True):
            _connect(ray, include_dashboard=False, _temp_dir=folder)
            try:
                yield
            finally:
                ray.shutdown()


def _connect(ray: Any, **options: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=True, **options)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise ConfigError(
            f"Ray cannot be started or reached: {reason} RAY_ADDRESS names the cluster."
        ) from error


class _Worker:
    """Answers for a chunk of paths, in a process of its own."""

    def __init__(self, open_model: Callable[[], Predictor], cores: int, folder: str) -> None:
        os.environ["ALLKIT_CORES"] = str(cores)
        try:
            os.chdir(folder)  # paths may be relative
        except OSError:
            raise ConfigError(
                f"A Ray worker does not see the folder {folder}. Model and images must lie under "
                f"the same paths on every node."
            ) from None
        self.model = open_model()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"start": row["start"], "answers": _packed(self.model.predict(row["images"]))}


def _packed(answers: Iterable[Prediction]) -> bytes:
    return json.dumps([answer.to_dict() for answer in answers]).encode("ascii")


def _unpacked(data: bytes) -> list[Prediction]:
    rows = json.loads(data)
    for row in rows:
        row |= {name: tuple(row[name]) for name in LISTS}
        row["cells"] = tuple(Cell(**cell) for cell in row["cells"])
    return [Prediction(**row) for row in rows]


def _plain(error: BaseException) -> AllkitError:
    """Return the mistake of the user behind an error of Ray, or Ray's first words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AllkitError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    reason = str(error).strip().splitlines()[-1][:300]
    return AllkitError(f"Ray gave up: {reason} The same command goes on behind what is kept.")
