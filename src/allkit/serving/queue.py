"""The queue of the server: what is admitted is answered, in micro-batches, by one thread.

Nobody waits for a batch to fill: while the model works, what arrives gathers, and becomes the
next batch. So a lone image is answered at once, and a crowd in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from allkit.records import Prediction, Predictor
from allkit.serving.metrics import Metrics
from allkit.serving.space import Full, Space
from allkit.types import Pixels

__all__ = ["Queue"]


class _Job(NamedTuple):
    name: str
    pixels: Pixels
    answer: asyncio.Future[Prediction]


class Queue:
    """Answers for images that arrive one by one or together.

    `limit` images and `memory` bytes (of requests and of decoded pixels) may be inside at once:
    being read, waiting, or being answered; requests take that room from `space`.
    """

    def __init__(
        self,
        predictor: Predictor,
        metrics: Metrics,
        *,
        limit: int = 256,
        memory: int = 1 << 30,
        batch: int = 16,
    ) -> None:
        self.predictor, self.metrics = predictor, metrics
        self.batch = batch
        self.space = Space(limit, memory, metrics.inside.set)
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="allkit-model", daemon=True)

    def start(self) -> None:
        """Start the thread that answers; a model that was never asked is slower the first time."""
        self.predictor.predict([np.full((64, 64, 3), 255, np.uint8)])
        self._thread.start()

    async def close(self) -> None:
        """Answer everything that was admitted, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        """Whether the thread that answers is there."""
        return self._thread.is_alive() and not self._closing

    async def answer(self, images: Sequence[tuple[str, Pixels]]) -> list[Prediction]:
        """Return the answers for images, `(name, (H, W, 3) uint8)`, in order.

        Call it on the event loop, for images that hold room in `space`. Raises what the model raised.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(name, pixels, loop.create_future()) for name, pixels in images]
        with self._changed:
            if self._closing:
                raise Full
            self._jobs.extend(jobs)
            self._changed.notify()
        return list(await asyncio.gather(*(job.answer for job in jobs)))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if not self._jobs:
                    return
                jobs = [self._jobs.popleft() for _ in range(min(self.batch, len(self._jobs)))]
            self._run(jobs)

    def _run(self, jobs: list[_Job]) -> None:
        began = time.perf_counter()
        try:
            answers: Sequence[Prediction] = self.predictor.predict([job.pixels for job in jobs])
        except Exception as error:  # noqa: BLE001 - whatever a plugin's engine raises
            if len(jobs) > 1:  # one image may be the cause: the others are still answered
                for job in jobs:
                    self._run([job])
                return
            _settle(jobs[0], error)
            return
        self.metrics.batch.observe(len(jobs))
        self.metrics.model_seconds.observe(time.perf_counter() - began)
        for job, answer in zip(jobs, answers, strict=True):
            self.metrics.images.labels(answer.verdict).inc()
            _settle(job, replace(answer, image=job.name))


def _settle(job: _Job, outcome: Any) -> None:
    def settle() -> None:
        if job.answer.done():  # whoever asked has gone
            return
        if isinstance(outcome, BaseException):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
        job.answer.get_loop().call_soon_threadsafe(settle)
