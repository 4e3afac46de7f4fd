"""The process that answers: it takes a job, answers field by field, and is safe to kill at any time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allkit.clinic import asked, jobs
from allkit.clinic.access import User
from allkit.clinic.cases import MOVES, SIGNED, move, raise_priority, row_of
from allkit.clinic.erasure import sweep
from allkit.clinic.jobs import Job
from allkit.clinic.models import malignant
from allkit.clinic.records import canonical
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.view import answer_of, fields_hash, recount
from allkit.errors import AllkitError, StoreError
from allkit.files import model_hash
from allkit.records import CasePrediction, Prediction, Predictor
from allkit.runtime.cases import combine

__all__ = ["Worker"]

BATCH = 4
"""Images that are answered at once: few, so that the first answer comes soon."""
POLL = 0.1
"""Seconds between two looks at an empty queue."""


class _Lost(Exception):
    """Somebody else holds the job by now."""


class _ModelError(AllkitError):
    """The model is not what was added; to try again does not help."""


class Worker:
    """Answers the jobs of a store; `open_model` opens a model folder or an exported file by its path.

    Explanations that readers asked for are made where no case waits to be answered.
    One model at a time is held in memory. Answers are written one by one: what was written before the
    process was killed is not computed again.
    """

    def __init__(self, user: User, open_model: Callable[[Path], Predictor]) -> None:
        self.user, self.open_model = user, open_model
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.done = self.failed = 0
        self.why: dict[str, None] = {}
        """Why attempts failed, each sentence once, in order."""
        self._opened: tuple[str, Predictor] | None = None

    def run(self, stop: threading.Event | None = None, *, poll: float = POLL) -> None:
        """Answer jobs until `stop` is set. While the database is away it waits and tries again."""
        stop = stop or threading.Event()
        begun = False
        while not stop.is_set():
            try:
                if not begun:
                    self._warm()
                    sweep(self.user)
                    begun = True
                busy = jobs.any_wait(self.user) and self.step()
            except StoreError:
                busy = False
            if not busy:
                stop.wait(poll)

    def _warm(self) -> None:
        """Open the model that answers, so that the first case does not wait for it."""
        with self.user.read("system") as connection:
            model = self.user.store.setting("default_model", connection)
        if model is not None:
            with contextlib.suppress(AllkitError):  # the first job says what is wrong with it
                self._model(model)

    def drain(self) -> tuple[int, int]:
        """Answer jobs and make explanations until none waits; return how many were done, and how many
        attempts failed."""
        before = self.done, self.failed
        while self.step():
            pass
        return self.done - before[0], self.failed - before[1]

    def step(self) -> bool:
        """Take one job and end it; return whether there was one."""
        job = jobs.claim(self.user, self.name)
        if job is not None:
            self._attempt(lambda: self._answer(job), partial(self._failed, job))
            return True
        task = asked.claim(self.user, self.name)
        if task is None:
            return False
        self._attempt(lambda: self._explain(task), partial(asked.fail, self.user, task))
        return True

    def _attempt(self, work: Callable[[], None], failed: Callable[[str, bool], None]) -> None:
        """Do a piece of work; `failed` is told why it did not go, and whether to try again may help."""
        try:
            work()
            self.done += 1
        except _Lost:
            pass
        except StoreError:
            raise  # the database is away: the job's lease runs out, and it is taken again
        except AllkitError as error:
            self._note(str(error))
            failed(str(error), not isinstance(error, _ModelError))
        except Exception as error:  # noqa: BLE001 - a plugin's model may raise anything
            message = f"The model failed ({type(error).__name__}: {str(error)[:200]})."
            self._note(message)
            failed(message, True)

    def _note(self, why: str) -> None:
        self.failed += 1
        self.why[why] = None

    def _failed(self, job: Job, message: str, again: bool) -> None:
        again = again and job.attempts < jobs.ATTEMPTS
        with self.user.change("system") as change:
            if jobs.renew(change, job, self.name):
                jobs.end(change, job, "queued" if again else "failed", error=message)

    def _explain(self, task: asked.Task) -> None:
        predictor, groups = self._model(task.model)
        made = asked.make(self.user, task, predictor, groups)
        if not asked.keep(self.user, task, made):
            raise _Lost

    def _model(self, id: str) -> tuple[Predictor, dict[str, str]]:
        """Return the model of a job, and the group of each of its classes."""
        with self.user.read("system") as connection:
            row = connection.execute(sa.select(t.models).where(t.models.c.id == id)).one()
        groups = jobs.groups_of_model(row)
        if self._opened is not None and self._opened[0] == row.sha256:
            return self._opened[1], groups
        path = Path(row.path)
        if not path.exists():
            raise _ModelError(
                f"The model's file or folder {path} is gone. Put it back, or add it again from where it is."
            )
        if model_hash(path) != row.sha256:
            raise _ModelError(
                f"The model's file or folder {path} was changed since it was added. Add it as a new model."
            )
        self._opened = None  # the old one's memory is free before the new one takes its own
        predictor = self.open_model(path)
        self._opened = (row.sha256, predictor)
        return predictor, groups

    def _answer(self, job: Job) -> None:
        predictor, groups = self._model(job.model)
        with self.user.change("system") as change:  # to open a model takes its time
            if not jobs.renew(change, job, self.name):
                raise _Lost
            change.log("job.opened", job.id)
        with self.user.read("system") as connection:
            fields = connection.execute(
                sa.select(t.fields)
                .where(t.fields.c.case_id == job.case)
                .order_by(t.fields.c.number)
            ).all()
            known = self._known(connection, job, [f.id for f in fields])
        answered = dict(known)
        left = [f for f in fields if f.id not in known]
        paths = [self.user.store.blobs.path(f.sha256) for f in left]
        for field, prediction in zip(left, predictor.stream(paths, batch_size=BATCH), strict=True):
            prediction = replace(prediction, image=field.name)
            answered[field.id] = prediction
            with self.user.change("system") as change:
                self._renew(change, job, len(answered), len(fields))
                row = self._open_case(change, job)
                if row is None:
                    return
                if self._keep(change, job, field.id, prediction) and malignant(prediction, groups):
                    raise_priority(change, row, "accepted malignant field")
        with self.user.change("system") as change:
            self._renew(change, job, len(fields), len(fields))
            row = self._open_case(change, job)
            if row is None:
                return
            if fields:
                trust = getattr(predictor, "trust", None)
                slide = combine([answered[f.id] for f in fields], job.case, trust=trust)
                self._conclude(change, job, row, slide=slide, of=[f.sha256 for f in fields])
                # Also by fields that were answered in another case, from which they were moved here.
                if malignant(slide, groups) or any(malignant(p, groups) for p in answered.values()):
                    raise_priority(change, row, "accepted malignant slide")
            jobs.end(change, job, "done")
            recount(change, job.case)

    def _open_case(self, change: Change, job: Job) -> sa.Row[Any] | None:
        """Return the row of the job's case; of one that was signed or erased end the job instead."""
        row = row_of(change.connection, job.case)
        if row.status not in SIGNED and MOVES[row.status]:
            return row
        jobs.end(change, job, "cancelled")
        return None

    def _known(
        self, connection: sa.Connection, job: Job, ids: Sequence[str]
    ) -> dict[str, Prediction]:
        rows = connection.execute(
            sa.select(t.answers.c.field_id, t.answers.c.data).where(
                t.answers.c.model_id == job.model, t.answers.c.field_id.in_(ids)
            )
        )
        return {row.field_id: answer_of(row.data) for row in rows}

    def _renew(self, change: Change, job: Job, done: int, total: int) -> None:
        if not jobs.renew(change, job, self.name, done=done, total=total):
            raise _Lost

    def _keep(self, change: Change, job: Job, field: str, prediction: Prediction) -> bool:
        """Write the answer for a field; return whether it is new."""
        there = sa.select(t.answers.c.id).where(
            t.answers.c.field_id == field, t.answers.c.model_id == job.model
        )
        if change.first(there) is not None:
            return False
        id = new_id()
        change.insert(
            t.answers,
            id=id,
            field_id=field,
            model_id=job.model,
            verdict=prediction.verdict,
            label=prediction.label,
            probability=prediction.probability,
            data=canonical(prediction.to_dict()),
            at=change.now,
        )
        change.log("answer.made", id, of=job.case, field=field, verdict=prediction.verdict)
        return True

    def _conclude(
        self,
        change: Change,
        job: Job,
        row: sa.Row[Any],
        *,
        slide: CasePrediction,
        of: Sequence[str],
    ) -> None:
        """Write the answer for all fields together; `of` are the hashes of their images."""
        before = change.connection.scalar(
            sa.select(t.slide_answers.c.model_id)
            .where(t.slide_answers.c.case_id == job.case)
            .order_by(t.slide_answers.c.id.desc())
            .limit(1)
        )
        change.insert(
            t.slide_answers,
            id=new_id(),
            case_id=job.case,
            model_id=job.model,
            verdict=slide.verdict,
            label=slide.label,
            fields_sha256=fields_hash(of),
            data=canonical(slide.to_dict()),
            at=change.now,
        )
        if row.status == "second" and before not in (None, job.model):
            move(change, row, "reading", because="new model")
