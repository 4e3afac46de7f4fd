"""Reading ahead in threads, and stacking images of one shape: for training and answering alike."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["by_shape", "cores", "read_ahead", "threads_named"]

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

AHEAD = 3
"""Batches that are read ahead while one is being processed."""
MEMORY = 256 * 2**20
"""Most bytes of loaded items in memory, where their size is known."""


def cores() -> int:
    """Return the number of cores that this process may use; a container may have fewer than the machine.

    `ALLKIT_CORES` sets it where several processes share a machine.
    """
    setting = os.environ.get("ALLKIT_CORES", "")
    if setting.isdigit() and int(setting):
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def threads_named(name: str, workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads for the work of a generator, and wait for them when it ends.

    A generator that was not read to its end is closed by the garbage collector. That may happen in
    a thread of the pool, which cannot wait for itself, and does not.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        yield pool
    finally:
        inside = threading.current_thread().name.startswith(name)
        pool.shutdown(wait=not inside, cancel_futures=True)


def read_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    size: int,
    *,
    workers: int | None = None,
    weigh: Callable[[Loaded], int] | None = None,
) -> Iterator[list[tuple[Item, Loaded]]]:
    """Yield `(item, load(item))` in batches of `size`, in order, while threads load what follows.

    At most `3 · size` loaded items are in memory. `weigh` returns the bytes of a loaded item; batches
    become smaller if `3 · size` items as large as the largest so far would not fit into `MEMORY`. The
    first batch then has one item. Decoders and most augmentations release Python's lock, so threads
    are enough (measured in docs/figures-former.md). An exception of `load` is raised when its batch would
    have been yielded.
    """
    remaining = iter(items)
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()
    workers = workers or cores()
    most, largest = AHEAD * size if weigh is None else min(AHEAD * size, workers), 1
    with threads_named("allkit-read", workers) as pool:

        def fill() -> None:
            following = itertools.islice(remaining, max(0, most - len(waiting)))
            waiting.extend((item, pool.submit(load, item)) for item in following)

        fill()
        while waiting:
            count = min(size, len(waiting), max(1, most // AHEAD))
            batch = [waiting.popleft() for _ in range(count)]
            ready = [(item, future.result()) for item, future in batch]
            if weigh is not None:
                largest = max(largest, *(weigh(loaded) for _, loaded in ready))
                most = max(workers, min(AHEAD * size, MEMORY // largest))
            fill()
            yield ready


def by_shape(
    images: Sequence[npt.NDArray[np.uint8]],
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    """Yield (positions in `images`, `(n, H, W, 3)` uint8) for each shape."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(index)
    for indices in shapes.values():
        yield indices, np.stack([images[i] for i in indices])
