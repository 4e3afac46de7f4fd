"""One training from the prepared inputs to its members and what they say of held-out images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from allkit.config import TrainConfig
from allkit.images.arrays import large_array
from allkit.images.cells import FINDER
from allkit.model.info import BackboneInfo
from allkit.network.hashes import weights_hash
from allkit.network.modules import Branches, Head, Network, fingerprint, joined
from allkit.training.description import HeldOut
from allkit.training.device import threads
from allkit.training.division import Division
from allkit.training.inputs import PreparedInputs
from allkit.training.loop import Loop
from allkit.training.member import Member, stages_in, with_adapters, without_adapters
from allkit.training.plan import History, Plan, Recorder
from allkit.training.run import Run, Saved
from allkit.training.seeds import seed_of
from allkit.training.sources import FeatureSource, Source
from allkit.types import Indices, Progress

__all__ = ["Session"]

ROWS = 4096
"""Features that are in hand at once."""


@dataclass
class Session:
    """Trains the members, one after another; each is a function of the settings and its number.

    `features` are those of the whole frozen backbone, computed before.
    """

    config: TrainConfig
    accelerator: Accelerator
    division: Division
    prepared: PreparedInputs
    features: FeatureSource
    run: Run
    progress: Progress | None = None
    recorder: Recorder | None = None

    @cached_property
    def inputs(self) -> Source:
        """What the trained stages are given; only asked for when there are some."""
        return self.prepared.inputs()

    @cached_property
    def labels(self) -> torch.Tensor:
        """The labels `(N,)` int64 of the whole set."""
        return torch.from_numpy(self.division.dataset.labels)

    @property
    def tuned(self) -> bool:
        """Whether stages are trained beside the head."""
        return self.prepared.cut is not None

    # ── training ───────────────────────────────────────────────────────────────────────────

    def train(self, number: int) -> tuple[Member, History]:
        """Train member `number`, from where an earlier run was killed if there is a state of it."""
        finished, state = self.run.member(number), self.run.state()
        if state is not None and state.facts["member"] != number:
            state = None
        # All have read before anybody writes.
        self.accelerator.wait_for_everyone()
        if finished is not None:
            tail = copy.deepcopy(self.prepared.halves()[1]) if self.tuned else nn.Identity()
            member = Member(tail, self.empty_head(number)).to(self.accelerator.device)
            member.load_state_dict(finished.part("member"))
            return member.eval(), list(finished.facts["history"])
        head = self.empty_head(number)
        history: History
        if state is None or state.facts["phase"] == "head":
            member, history = self._train_head(number, head, state)
            state = None
        else:
            member, history = Member(nn.Identity(), head), list(state.facts["earlier"])
        if self.tuned:
            loop = self.tuning(number, member.head, history)
            history = history + loop.fit(state)
            member = loop.member
            if self.config.strategy == "lora":
                member.tail = without_adapters(member.tail)
        tensors = {f"member.{k}": v for k, v in member.state_dict().items()}
        self.run.finish(number, lambda: Saved(tensors, {"history": history}))
        return member.eval(), history

    def last_loop(self) -> Loop:
        """Return the loop of the first member's last phase, ready to begin; for the finders."""
        head = self.empty_head(0)
        if not self.tuned:
            self._fit_scale(0, head)
            return self.head(0, head)
        member, history = self._train_head(0, head, None)
        return self.tuning(0, member.head, history)

    def empty_head(self, number: int) -> Head:
        """Return the head of a member before its training."""
        classes = len(self.division.dataset.classes)
        # The first weights draw from torch's own generator: the user's is put back.
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed_of(self.config.seed, number, "head"))
            return Head(self.prepared.width, classes)

    def _train_head(self, number: int, head: Head, state: Saved | None) -> tuple[Member, History]:
        self._fit_scale(number, head)
        loop = self.head(number, head)
        # A step of the head takes a fraction of a millisecond: threads that wait for each other
        # made it seven times slower (4 against 37 s of processor time for 40 epochs of 1,526).
        with threads(1 if self.accelerator.device.type == "cpu" else None):
            history = loop.fit(state)
        return loop.member, history

    def _fit_scale(self, number: int, head: Head) -> None:
        head.fit_scale(self._blocks(self.parts(number)[0]), self.prepared.record.input.bag)

    def parts(self, number: int) -> tuple[Indices, Indices]:
        """Return the images that a member learns from, and those it is checked on."""
        return self.division.trainings[number // self.config.members]

    def head(self, number: int, head: Head) -> Loop:
        """Return the loop that trains a head on features."""
        config = self.config
        plan = Plan(
            "head", config.epochs, config.batch_size, config.learning_rate,
            choosing=not config.folds,
        )  # fmt: skip
        return self._loop(number, plan, Member(nn.Identity(), head), self.features)

    def tuning(self, number: int, head: Head, earlier: History) -> Loop:
        """Return the loop that trains the last stages, or adapters in them, with a head."""
        config, prepared = self.config, self.prepared
        tail = copy.deepcopy(prepared.halves()[1])
        if config.strategy == "lora":
            tail = with_adapters(tail, config.lora_rank, seed_of(config.seed, number, "lora"))
            stages: tuple[nn.Module, ...] = (tail,)
        else:
            tail.requires_grad_(True)
            stages = tuple(stages_in(tail, prepared.record))
        plan = Plan(
            config.strategy, config.finetune_epochs, config.finetune_batch_size,
            config.finetune_learning_rate, prepared.precision, config.clip, stages,
            progressive=config.strategy == "full", choosing=not config.folds, starts_good=True,
            offset=len(earlier),
        )  # fmt: skip
        return self._loop(number, plan, Member(tail, head), self.inputs, earlier)

    def _loop(
        self,
        number: int,
        plan: Plan,
        member: Member,
        source: Source,
        earlier: History | None = None,
    ) -> Loop:
        learn, check = self.parts(number)
        total = len(self.division.trainings) * self.config.members

        def report(done: int, epochs: int) -> None:
            if self.progress:
                self.progress(plan.phase, number * epochs + done, total * epochs)

        return Loop(
            self.accelerator, self.config, plan, member, source, learn, check, self.labels, number,
            self.prepared.record.name, self.run, list(earlier or []), self.recorder, report,
        )  # fmt: skip

    def _blocks(self, learn: Indices) -> Iterator[torch.Tensor]:
        for number in range(len(self.features.views)):
            for start in range(0, len(learn), ROWS):
                yield torch.from_numpy(self.features.rows(learn[start : start + ROWS], number))

    # ── what came out ──────────────────────────────────────────────────────────────────────

    def held_out(self, numbers: list[int], members: list[Member]) -> HeldOut:
        """Return what the members of one division say of the images they did not learn from."""
        check = self.parts(numbers[0])[1]
        classes = len(self.division.dataset.classes)
        if not len(check):
            empty = np.empty((0, self.prepared.width), np.float32)
            return HeldOut(check, empty, np.empty((0, classes), np.float32))
        features: list[npt.NDArray[np.float32]] = []
        logits = []
        for number, member in zip(numbers, members, strict=True):
            if self.tuned or not features:
                features.append(self._features(number, member, check))
            with torch.inference_mode():
                head = copy.deepcopy(member.head).cpu()
                blocks = torch.split(torch.from_numpy(features[-1]), ROWS)
                logits.append(torch.cat([head(block) for block in blocks]).numpy())
        joint = features[0] if len(features) == 1 else np.concatenate(features, axis=1)
        return HeldOut(check, joint, np.mean(logits, axis=0))

    def _features(self, number: int, member: Member, check: Indices) -> npt.NDArray[np.float32]:
        if self.config.tta:
            backbone = self.prepared.backbone
            if self.tuned:
                backbone = joined(self.prepared.halves()[0], member.tail)
            return self.prepared.over_orientations(backbone, check, weights_hash(backbone))
        if not self.tuned:
            rows = large_array((len(check), self.prepared.width), np.float32)
            for start in range(0, len(check), ROWS):
                rows[start : start + ROWS] = self.features.rows(check[start : start + ROWS], 0)
            return rows
        loop = self.tuning(number, member.head, [])
        return loop.outputs(check, member.tail).numpy()

    def network(self, members: list[Member]) -> Network:
        """Return the network that answers: the mean of the members, on their common trunk."""
        backbone = self.prepared.backbone
        if self.tuned:
            trunk = self.prepared.halves()[0]
            tails = [member.tail for member in members]
            backbone = joined(trunk, tails[0]) if len(tails) == 1 else Branches(trunk, tails)
        return Network(backbone, [m.head for m in members], orientations=self.config.tta)

    def backbone_info(self, network: Network) -> BackboneInfo:
        """Return the description of the backbone as it answers."""
        prepared, record = self.prepared, self.prepared.record
        trained: tuple[str, ...] = ()
        if self.tuned:
            names = [name for name, _ in prepared.halves()[1].named_children()]
            trained = tuple(n for n in record.stages if n in names) or ("all",)
        return BackboneInfo(
            name=record.name, distribution=prepared.provider.distribution,
            version=prepared.provider.version, width=prepared.width,
            members=len(network.heads), license=record.license,
            weights_sha256=weights_hash(network.backbone) if self.tuned else prepared.fingerprint,
            pretrained_sha256=prepared.fingerprint,
            cut=prepared.cut if isinstance(network.backbone, Branches) else None,
            trained=trained, orientations=self.config.tta,
            input=record.input,
            finder="" if record.input.bag == "field" else FINDER,
            fingerprint=fingerprint(network.backbone, record.input),
        )  # fmt: skip
