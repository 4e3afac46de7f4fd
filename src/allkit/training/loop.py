"""The loop: one phase of one member's training, on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from allkit.config import TrainConfig
from allkit.errors import AllkitError, PluginError
from allkit.training.averaging import Average
from allkit.training.device import autocast
from allkit.training.failures import NotANumber, explained, memory_advice
from allkit.training.loop_state import LoopState
from allkit.training.member import Member
from allkit.training.memory import out_of_memory, peak_bytes
from allkit.training.objective import Objective, class_weights, mix
from allkit.training.optimising import Schedule, optimiser_of
from allkit.training.own import NOTHING, OwnParts
from allkit.training.plan import ENDED, Epoch, History, Place, Plan, Recorder
from allkit.training.run import Saved, TrainingRun
from allkit.training.seeds import epoch_order, generator, seed_of
from allkit.training.sources import Request, Source
from allkit.types import Indices

__all__ = ["Loop"]


class Batch(NamedTuple):
    """One step: its number in the epoch, its images, and this process's part of them, in pieces."""

    step: int
    images: Indices
    parts: list[Indices]


@dataclass
class Loop:
    """Trains one member in one phase.

    The images to learn from and to judge on are positions in the set, `(N,)` int64; `labels` are
    those of the whole set.
    """

    accelerator: Accelerator
    config: TrainConfig
    plan: Plan
    member: Member
    source: Source
    learn: Indices
    check: Indices
    labels: torch.Tensor
    number: int = 0
    """Number of the member."""
    name: str = "the backbone"
    run: TrainingRun = field(default_factory=TrainingRun)
    own: OwnParts = NOTHING
    earlier: History = field(default_factory=list)
    """The history of the phases before, kept with the state."""
    recorder: Recorder | None = None
    progress: Callable[[int, int], None] = lambda done, total: None

    def __post_init__(self) -> None:
        plan, config, device = self.plan, self.config, self.accelerator.device
        self.device = device
        # torch's types lack the form with a memory format.
        self.member.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = self.labels.to(device)
        learnt = self.labels[torch.from_numpy(self.learn).to(device)].cpu()
        classes = self.member.head.linear.out_features
        weights = class_weights(learnt, classes, balanced=config.class_weights)
        self.objective = Objective.of(config, weights.to(device), self.own)
        optimiser = optimiser_of(self.member, plan, config, self.own)
        self.state = LoopState(
            self.member,
            optimiser,
            torch.amp.GradScaler(device.type, enabled=plan.precision == "float16"),
            Average(self.member, config.ema) if config.ema else None,
        )
        self.steps = -(-len(self.learn) // plan.batch_size)
        self._network: nn.Module | None = None
        self._learning = 0
        self.schedule = Schedule(optimiser, config, self.own, plan.epochs * self.steps)

    @property
    def place(self) -> Place:
        """Where the phase is."""
        return self.state.place

    # ── the loop ───────────────────────────────────────────────────────────────────────────

    def fit(self, saved: Saved | None = None) -> History:
        """Train, from the state `saved` if there is one; the member ends with the weights to keep."""
        devices = [self.device] if self.device.type == "cuda" else []
        # The loop learns by gradients, also where the caller has switched them off.
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            if saved is not None:
                self.state.take_up(saved, self.device)
                self.schedule.take_up(self.place.updates)
            elif self.plan.starts_good and self._choosing:
                self.state.remember_best(self._judge()["val_loss"], 0)
            while not self._ended():
                self._epoch()
            self._save()
        self._release()
        self.state.keep(self.config.keep)
        self.progress(self.plan.epochs, self.plan.epochs)
        return self.place.history

    def _ended(self) -> bool:
        """Return whether the phase is at its end, after the callbacks were told of the last epoch."""
        place = self.place
        if place.told < place.epoch:
            self._tell()
        return place.stopped or place.epoch >= self.plan.epochs

    def _tell(self) -> None:
        """Call the callbacks; the state is kept before they fail, and they are called again then."""
        place = self.place
        if self.own.callbacks:
            epoch = Epoch.of(
                place.history[-1],
                member=self.number,
                phase=self.plan.phase,
                place=(place.epoch, self.plan.epochs),
            )
            try:
                main = self.accelerator.is_main_process
                ended = [self.own.call_back(epoch) if main else False]
            except AllkitError as error:
                self._save()
                raise type(error)(f"{error} {self.run.where()}") from error
            if self.accelerator.num_processes > 1:
                broadcast_object_list(ended)
            if ended[0]:
                place.stopped = True
                place.history[-1][ENDED] = 1.0
        place.told = place.epoch

    def _epoch(self) -> None:
        place, plan = self.place, self.plan
        start, waited, first = time.perf_counter(), self.source.waited, place.step
        network = self._prepared(plan.unfrozen(place.epoch))
        self.member.train()
        batches = self._batches(place.epoch)
        shares = [self._share(len(images)) for images, _ in batches]
        requests = [
            Request(images[part], copies[part])
            for (images, copies), parts in zip(batches[first:], shares[first:], strict=True)
            for part in parts
        ]
        with closing(self.source.stream(requests)) as stream:
            for step in range(first, len(batches)):
                batch = Batch(step, batches[step][0], shares[step])
                try:
                    loss, hits = self._step(network, batch, stream)
                except Exception as error:
                    explanation = self._failed(error, step, shares[step])
                    if explanation is error:
                        raise
                    raise explanation from error
                place.loss += loss * len(batches[step][0])
                place.hits += hits
                place.step, place.updates = step + 1, place.updates + 1
                self.schedule.after()
                if self.run.due():
                    self._save()
        self.member.eval()
        entry = {
            "epoch": float(plan.offset + place.epoch + 1),
            "train_loss": place.loss / len(self.learn),
            "train_accuracy": place.hits / len(self.learn),
        } | self._judge()
        place.history.append(entry)
        place.epoch, place.step, place.loss, place.hits = place.epoch + 1, 0, 0.0, 0
        if self._choosing:
            self.state.remember_best(entry["val_loss"], place.epoch)
            place.stopped = place.epoch - place.best_epoch >= self.config.patience
        if self.recorder is not None and self.accelerator.is_main_process:
            seconds = time.perf_counter() - start
            images = sum(len(images) for images, _ in batches[first:])
            cost = {
                "seconds": seconds,
                "waited_seconds": self.source.waited - waited,
                "images_per_second": images / seconds,
                "memory_mb": peak_bytes(self.device) / 2**20,
                "learning_rate": self.state.optimiser.param_groups[0]["lr"],
            }
            self.recorder.log({"member": self.number, "phase": plan.phase, **entry, **cost})
        self.progress(place.epoch, plan.epochs)
        if self.run.due():
            self._save()

    def _step(
        self, network: nn.Module, batch: Batch, stream: Iterator[torch.Tensor]
    ) -> tuple[float, int]:
        """Learn from one batch; return its loss and how many images were answered rightly."""
        config, plan, place, state = self.config, self.plan, self.place, self.state
        images, parts = batch.images, batch.parts
        where = (config.seed, self.number, plan.phase, place.epoch, batch.step)
        rng = generator(*where)
        keep = self._dropout(rng, len(images))
        # For random layers of the backbone: the same in a resumed run.
        torch.manual_seed(seed_of(*where, self.accelerator.process_index))
        labels = self.labels[torch.from_numpy(images).to(self.device)]
        weights = self.objective.weights[labels]
        weights = weights / weights.sum() * self.accelerator.num_processes
        self.schedule.before(place.updates)
        state.optimiser.zero_grad()
        total, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            inputs, mixed = mix(next(stream), rng, mixup=config.mixup, cutmix=config.cutmix)
            at = torch.from_numpy(part).to(self.device)
            last = number == len(parts) - 1
            with (
                nullcontext() if last else self.accelerator.no_sync(network),
                autocast(self.device, plan.precision),
            ):
                logits = network(inputs, None if keep is None else keep[part].to(self.device))
                losses = self.objective.losses(logits, labels[at])
                if mixed is not None:
                    others = self.objective.losses(logits, labels[at][mixed.partners])
                    losses = mixed.share * losses + (1 - mixed.share) * others
                counted = weights[at] if len(images) > self.accelerator.process_index else 0.0
                loss = (losses * counted).sum()
                state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            total += loss.detach()
            if len(images) > self.accelerator.process_index:
                hits += (logits.detach().argmax(1) == labels[at]).sum()
        value = float(self.accelerator.reduce(total, "mean"))
        if not math.isfinite(value):
            raise NotANumber("loss")
        if plan.clip:
            state.scaler.unscale_(state.optimiser)
            trained = [p for g in state.optimiser.param_groups for p in g["params"]]
            norm = nn.utils.clip_grad_norm_(trained, plan.clip)
            if not state.scaler.is_enabled() and not bool(torch.isfinite(norm)):
                raise NotANumber("gradient")
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.average is not None:
            state.average.update(self.member, place.updates)
        return value, int(self.accelerator.reduce(hits, "sum"))

    def _batches(self, epoch: int) -> list[tuple[Indices, Indices]]:
        """Return (images, copies) of every batch of an epoch, the same in every process."""
        rng = generator(self.config.seed, self.number, self.plan.phase, epoch)
        learnt = self.labels.cpu().numpy()[self.learn]
        order = self.learn[epoch_order(rng, learnt, balanced=self.config.balanced_sampler)]
        if self.source.fresh:
            copies = np.full(len(order), epoch + 1, dtype=np.int64)
        else:
            copies = rng.integers(self.source.copies + 1, size=len(order))
        size = self.plan.batch_size
        return [
            (order[start : start + size], copies[start : start + size])
            for start in range(0, len(order), size)
        ]

    def _share(self, count: int) -> list[Indices]:
        """Return the positions in a batch of `count` that this process learns from, in parts.

        If there are fewer images than processes, the other processes compute one that is not used.
        """
        accelerator = self.accelerator
        mine = np.arange(count)[accelerator.process_index :: accelerator.num_processes]
        if not len(mine):
            mine = np.array([0])
        return np.array_split(mine, min(self.config.accumulation, len(mine)))

    def _dropout(self, rng: np.random.Generator, count: int) -> torch.Tensor | None:
        rate = self.config.dropout
        if not rate:
            return None
        kept = rng.random((count, len(self.member.head.mean)), dtype=np.float32) >= rate
        return torch.from_numpy(kept / np.float32(1 - rate))

    def trial(self, rates: Iterable[float]) -> Iterator[float]:
        """Take one step at each learning rate, all stages learning; yield the losses.

        For the finders, on a copy. It ends when the loss is not a finite number.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        self._unfreeze(len(self.plan.stages))
        for number, rate in enumerate(rates):
            self.schedule.fixed = rate / self.plan.learning_rate
            epoch, step = divmod(number, self.steps)
            images, copies = self._batches(epoch)[step]
            parts = self._share(len(images))
            requests = [Request(images[part], copies[part]) for part in parts]
            self.member.train()
            with torch.random.fork_rng(devices=devices):
                try:
                    stream = self.source.stream(requests)
                    loss, _ = self._step(self.member, Batch(step, images, parts), stream)
                except NotANumber:
                    loss = math.nan
            yield loss
            if not math.isfinite(loss):
                return

    def _prepared(self, count: int) -> nn.Module:
        """Return the member with `count` stages learning, as the processes train it together."""
        if self._network is None or count != self._learning:
            self._release()
            self._unfreeze(count)
            self._learning = count
            # Alone there is nothing to wrap, and nothing to collect afterwards: the collection
            # took longer than a small training.
            alone = self.accelerator.num_processes == 1
            self._network = self.member if alone else self.accelerator.prepare_model(self.member)
        return self._network

    def _release(self) -> None:
        # The wrapper for several processes listens to the member's weights as long as it exists:
        # two at once would add gradients twice.
        self._network = None
        if self.accelerator.num_processes > 1:
            self.accelerator.free_memory()

    def _unfreeze(self, count: int) -> None:
        for group in self.state.optimiser.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(group.get("stage", -1) < count)

    # ── judging ────────────────────────────────────────────────────────────────────────────

    @property
    def _choosing(self) -> bool:
        return self.plan.choosing and len(self.check) > 0

    def _judge(self) -> dict[str, float]:
        """Return loss and accuracy on the validation part, of the average where there is one."""
        if not len(self.check):
            return {}
        logits = self.outputs(self.check, self.state.judged, self.plan.precision)
        labels = self.labels.cpu()[torch.from_numpy(self.check)]
        objective = Objective(self.objective.weights.cpu())
        return {
            "val_loss": objective.judged(logits, labels),
            "val_accuracy": float((logits.argmax(1) == labels).float().mean()),
        }

    def outputs(
        self, images: Indices, network: nn.Module, precision: str = "float32"
    ) -> torch.Tensor:
        """Return the outputs of `network` for original images, `(n, …)` float32 on the CPU.

        `network` gets the same inputs as the member: the member itself gives logits, its tail features.
        """
        network = network.eval()
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        padded = np.resize(images, -(-len(images) // world) * world)
        mine = padded[rank::world]
        size = max(1, self.plan.batch_size // self.config.accumulation)
        requests = [
            Request(part, np.zeros(len(part), dtype=np.int64))
            for part in (mine[start : start + size] for start in range(0, len(mine), size))
        ]
        with torch.no_grad(), autocast(self.device, precision):
            parts = [
                network(inputs.float() if precision == "float32" else inputs)
                for inputs in self.source.stream(requests)
            ]
        own = torch.cat(parts).float()
        gathered = self.accelerator.gather(own).view(world, len(mine), -1)
        rows: torch.Tensor = gathered.transpose(0, 1).reshape(len(padded), -1)
        return rows[: len(images)].cpu()

    # ── what can go wrong ──────────────────────────────────────────────────────────────────

    def _save(self) -> None:
        self.run.save(self.snapshot)

    def snapshot(self) -> Saved:
        """Return the state of the training, everything that the next step depends on."""
        return self.state.saved(member=self.number, phase=self.plan.phase, earlier=self.earlier)

    def _failed(self, error: Exception, step: int, parts: list[Indices]) -> Exception:
        """Return the error to raise for one that ended a step; the weights are reset to before it."""
        self.state.optimiser.zero_grad()
        here = f"in epoch {self.place.epoch + 1}, step {step + 1} ({self.plan.phase}"
        here += f", member {self.number + 1})" if self.number else ")"
        if isinstance(error, AllkitError) and not isinstance(error, PluginError):
            return error
        if self.run.folder is not None:
            self._save()
        at_once = max(len(part) for part in parts)
        return explained(
            error,
            plan=self.plan,
            backbone=self.name,
            here=here,
            kept=self.run.where(),
            advice=lambda: memory_advice(
                at_once,
                accumulation=self.config.accumulation,
                device=self.device,
                fits=self.fits,
            ),
        )

    def fits(self, count: int) -> bool:
        """Return whether `count` images fit through the network and back at once; nothing is learnt."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        images = np.resize(self.learn, count)
        self.member.train()
        try:
            request = Request(images, np.zeros(count, dtype=np.int64))
            stream = self.source.stream([request])
            with autocast(self.device, self.plan.precision):
                logits = self.member(next(stream))
                self.objective.losses(
                    logits, self.labels[torch.from_numpy(images)]
                ).sum().backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        except Exception as error:
            if out_of_memory(error):
                return False
            raise
        finally:
            self.state.optimiser.zero_grad()
        return True
