"""The run folder: what is needed to resume a training, beside the model that it makes.

run.json               settings, data, versions: what a resumed training must share
state.safetensors      weights, optimiser, moving average, best weights; its header says where
member-N.safetensors   a member of the ensemble that is finished
lock                   held by the training that writes here

Each file is written whole or not at all, and the state is one file, so that a process may be
killed at any moment. Nothing in it can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from allkit.config import OLDER_HEAD, TrainConfig
from allkit.config.spelling import argument, flag
from allkit.errors import AllkitError, CheckpointError, ConfigError
from allkit.files import clear_stale, held, write_whole
from allkit.network.hashes import tensor_bytes
from allkit.runtime.reading import parse_json, read_plain

__all__ = ["Saved", "TrainingRun", "open_run", "taking_up"]

FACTS, STATE, LOCK = "run.json", "state.safetensors", "lock"
AGAIN = "threads_again"
"""The number of threads a second time, since it decides the last bits and is not compared."""
FOREIGN = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, MemoryError)
"""What a state that was made to harm leads to; `RecursionError` is a `RuntimeError`."""
SAVE_SECONDS = 30.0
"""Seconds between two saves of the state; it is also saved when a phase ends."""


@dataclass(frozen=True)
class Saved:
    """Tensors by name, and the facts that belong to them, as plain values of JSON."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors whose names begin with `prefix.`, without it."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


@dataclass
class TrainingRun:
    """An open run folder. With `folder=None` nothing is kept."""

    folder: Path | None = None
    resumed: bool = False
    """Whether there was something to resume."""
    facts: dict[str, Any] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)
    _known: set[str] = field(default_factory=lambda: {AGAIN})

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Compare `facts` with those of the resumed run, or record them for a new one.

        Raises `ConfigError` that names the first difference.
        """
        self.facts = dict(facts)
        if "threads" in facts:
            self.facts[AGAIN] = facts["threads"]
        if self.folder is None:
            return
        if self.resumed:
            before = _facts(self.folder / FACTS)
            difference = _difference(before, facts)
            if difference:
                raise self._other_start(difference)
            self._known |= set(facts)
            self.facts = before
        else:
            self.done()
            self._note(json.dumps(self.facts, indent=1) + "\n")

    def add(self, facts: Mapping[str, Any]) -> None:
        """Do the same with facts that are known only after the images were read."""
        if self.folder is not None and self.resumed:
            difference = _difference(self.facts, facts)
            if difference:
                raise self._other_start(difference)
            others = self.facts.keys() - self._known - facts.keys()
            if others:
                raise CheckpointError(
                    f"{self.folder / FACTS} is damaged: it holds {sorted(others)[0][:80]!r}. Start the "
                    f"training again with {flag('overwrite')}."
                )
            return
        self.facts |= facts
        if self.folder is not None:
            self._note(json.dumps(self.facts, indent=1) + "\n")

    def _other_start(self, difference: str) -> ConfigError:
        return ConfigError(
            f"The training in {self.folder} was started with {difference}. Give the same, "
            f"or start again with {flag('overwrite')}."
        )

    def _note(self, text: str) -> None:
        if self.folder is not None:
            write_whole(self.folder / FACTS, text)

    def state(self) -> Saved | None:
        """Return where the training was when its state was last saved, if it was."""
        return self._read(STATE)

    def member(self, number: int) -> Saved | None:
        """Return a member of the ensemble that is finished, if it is."""
        return self._read(f"member-{number}.safetensors")

    def due(self) -> bool:
        """Return whether it is time to save the state again."""
        return self.folder is not None and time.monotonic() - self._last >= SAVE_SECONDS

    def save(self, make: Callable[[], Saved]) -> None:
        """Save the state in place of the one before."""
        self._write(STATE, make)
        self._last = time.monotonic()

    def finish(self, number: int, make: Callable[[], Saved]) -> None:
        """Save a finished member; the state of its training is no longer needed."""
        self._write(f"member-{number}.safetensors", make)
        if self.folder is not None:
            (self.folder / STATE).unlink(missing_ok=True)
        self._last = time.monotonic()

    def where(self) -> str:
        """Return a sentence for an error: what is kept, and how to go on."""
        if self.folder is None:
            return "Nothing of it was kept."
        try:
            kept = self.state()
        except CheckpointError as error:
            return str(error)
        if kept is None:
            return self._finished_members()
        facts = kept.facts
        return (
            f"The state before is kept in {self.folder} ({facts['phase']}, epoch "
            f"{facts['epoch'] + 1}, step {facts['step'] + 1}); {flag('resume')} goes on from there."
        )

    def _finished_members(self) -> str:
        count = 0 if self.folder is None else len(list(self.folder.glob("member-*.safetensors")))
        if not count:
            return "No state of the training was saved yet; the same command begins it again."
        members = "1 trained member is" if count == 1 else f"{count} trained members are"
        return f"{members} kept in {self.folder}; {flag('resume')} goes on from there."

    def done(self) -> None:
        """Delete the state, because the model is written. Other files in the folder stay."""
        if self.folder is None:
            return
        # The facts first: without them the training counts as finished, whatever else is left.
        (self.folder / FACTS).unlink(missing_ok=True)
        for path in [*self.folder.glob("member-*.safetensors"), self.folder / STATE]:
            path.unlink(missing_ok=True)

    def _write(self, name: str, make: Callable[[], Saved]) -> None:
        if self.folder is None:
            return
        from safetensors.torch import save

        saved = make()
        tensors = {k: v.detach().cpu().contiguous() for k, v in saved.tensors.items()}
        facts = json.dumps(saved.facts)
        metadata = {"allkit": facts, "sha256": _digest(tensors, facts)}
        try:
            write_whole(self.folder / name, save(tensors, metadata))
        except AllkitError as error:
            raise AllkitError(f"{error} {self.where()}") from error

    def _read(self, name: str) -> Saved | None:
        if self.folder is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            data = read_plain(self.folder / name, CheckpointError)
        except FileNotFoundError:
            return None
        try:
            size = int.from_bytes(data[:8], "little")
            about = json.loads(data[8 : 8 + size])["__metadata__"]
            tensors, text = load(data), about["allkit"]
            # Those of versions that kept no hash have nothing else.
            if len(about) > 1 and about["sha256"] != _digest(tensors, text):
                raise ValueError("its hash is another")
            facts = json.loads(text)
            if not isinstance(facts, dict):
                raise ValueError("it holds no facts")
            return Saved(tensors, facts)
        except (SafetensorError, *FOREIGN) as error:
            raise CheckpointError(
                f"{self.folder / name} is damaged ({str(error)[:200]}). Start the training again with "
                f"{flag('overwrite')}."
            ) from None


@contextlib.contextmanager
def taking_up() -> Iterator[None]:
    """Raise `CheckpointError` where a saved state is not one of this training, whatever is wrong."""
    try:
        yield
    except FOREIGN as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"The saved state does not fit this training ({type(error).__name__}: {reason}). Start the "
            f"training again with {flag('overwrite')}."
        ) from None


@contextlib.contextmanager
def open_run(
    folder: Path | None, *, resume: bool, overwrite: bool, main: bool = True
) -> Iterator[TrainingRun]:
    """Open the run folder for one training, and close it when the training ends.

    Only the main process of several locks and writes. Raises `ConfigError` at once when another
    training has the folder open, and when it holds an unfinished run that is neither resumed nor
    overwritten. Call `begin` before anything else.
    """
    if folder is None or not main:
        there = folder is not None and resume and _begun(folder)
        yield TrainingRun() if folder is None else _Reader(folder, there)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = held(folder / LOCK, folder)
    except OSError as error:
        raise AllkitError(
            f"Cannot write {folder}: {error.strerror or error}. Choose another place."
        ) from error
    if lock is None:
        raise ConfigError(
            f"Another training is writing to {folder}. Wait for it, or choose another {argument('out')}."
        )
    try:
        for name in (FACTS, STATE):
            clear_stale(folder / name)
        for path in folder.glob(".member-*.part*"):
            path.unlink(missing_ok=True)
        there = _begun(folder)
        if there and not resume and not overwrite:
            raise ConfigError(
                f"{folder} holds a training that was not finished. Give {flag('resume')} to go on with "
                f"it, or {flag('overwrite')} to start again."
            )
        run = TrainingRun(folder, there and resume)
        try:
            yield run
        except (KeyboardInterrupt, SystemExit) as stop:
            stop.add_note(run.where())  # whoever tells of the end tells what is kept
            raise
    finally:
        if not _begun(folder):
            with contextlib.suppress(OSError):
                (folder / FACTS).unlink(missing_ok=True)
        # Removed while the lock is held: no other process can have opened it in between.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        lock.close()
        with contextlib.suppress(OSError):
            folder.rmdir()  # only when nothing is left in it


class _Reader(TrainingRun):
    """The run of a process that does not write: it resumes the same state as the main process."""

    def _write(self, name: str, make: Callable[[], Saved]) -> None:
        pass

    def finish(self, number: int, make: Callable[[], Saved]) -> None:
        pass

    def _note(self, text: str) -> None:
        pass

    def due(self) -> bool:
        return False

    def done(self) -> None:
        pass


def _begun(folder: Path) -> bool:
    """Say whether there is anything to go on with."""
    kept = [folder / STATE, *folder.glob("member-*.safetensors")]
    return (folder / FACTS).exists() and any(path.exists() for path in kept)


def _digest(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """Return the hash of a state, by which a changed bit is noticed."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = parse_json(read_plain(path, CheckpointError, most=2**26))
        # Everything else is compared with what is given now.
        threads = facts["threads"]
        if type(threads) is not int or facts.get(AGAIN, threads) != threads or threads < 1:
            facts = None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        facts = None
    if not isinstance(facts, dict):
        raise CheckpointError(
            f"{path} is damaged. Start the training again with {flag('overwrite')}."
        )
    return facts


OTHER = {
    "images": "images",
    "relations": "groups, cases or repeated fields of the images",
    "validation": "validation",
    "backbone": "weights of the backbone",
    "own": "own parts",
}


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first difference in words, or an empty string; threads are not compared."""
    new = now.get("config", {})
    old = {}
    if "config" in now:
        old = {**OLDER_HEAD, **TrainConfig.with_names_of_today(before.get("config", {}))}
    for key in [*new, *(k for k in old if k not in new)]:
        if old.get(key) != new.get(key):
            return f"{key} = {old.get(key)!r}, not {new.get(key)!r}"
    for key, value in now.items():
        if key not in ("config", "threads") and before.get(key) != value:
            if key in OTHER:
                return f"other {OTHER[key]}"
            return f"{key} {before.get(key)}, not {value}"
    return ""
