"""One training from the prepared inputs to its members and their answers on held-out images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from allkit.config import TrainConfig
from allkit.images.arrays import large_array
from allkit.network.hashes import weights_hash
from allkit.network.modules import Branches, Head, Network, joined
from allkit.training.description import HeldOut
from allkit.training.device import threads
from allkit.training.division import Division
from allkit.training.inputs import PreparedInputs
from allkit.training.logistic import LogisticHead
from allkit.training.loop import Loop
from allkit.training.member import Member, stages_in, with_adapters, without_adapters
from allkit.training.memory import peak_bytes
from allkit.training.own import NOTHING, OwnParts
from allkit.training.plan import Epoch, History, Plan, Recorder
from allkit.training.run import Saved, TrainingRun, taking_up
from allkit.training.seeds import seed_of
from allkit.training.sources import Source
from allkit.types import Doubles, Indices, Progress

__all__ = ["Session", "Teaching"]

ROWS = 4096
"""Number of features that are processed at once."""


class Trained(NamedTuple):
    """The results of all divisions: members, histories, and the held-out answers of each division."""

    members: list[Member]
    histories: list[History]
    held_out: list[HeldOut]


class Teaching(Protocol):
    """Gives what heads learn in place of the labels: `allkit.training.teacher.Teacher`."""

    @property
    def independent(self) -> bool:
        """Whether what heads learn from knows nothing of the images that are held out from them."""

    def answers(self, learn: Indices, check: Indices) -> Doubles:
        """Return probabilities `(V, n, K)` of the images `learn`, for a head judged on `check`."""


@dataclass
class Session:
    """Trains the members, one after another; each is a function of the settings and its number."""

    config: TrainConfig
    accelerator: Accelerator
    division: Division
    prepared: PreparedInputs
    run: TrainingRun
    progress: Progress | None = None
    recorder: Recorder | None = None
    teacher: Teaching | None = None
    own: OwnParts = NOTHING
    aside: bool = False
    """Whether only the answers of the members are wanted, and not how their training went."""

    def __post_init__(self) -> None:
        self.features = self.prepared.features()
        self.labels = torch.from_numpy(self.division.dataset.labels)

    @property
    def tuned(self) -> bool:
        """Whether stages are trained beside the head."""
        return self.prepared.backbone.cut is not None

    # ── training ───────────────────────────────────────────────────────────────────────────

    def train(self, number: int) -> tuple[Member, History]:
        """Train member `number`, from the saved state if an earlier run was interrupted."""
        finished, state = self.run.member(number), self.run.state()
        if state is not None:
            with taking_up():
                of_this = {"head", self.config.strategy} >= {state.facts["phase"]}
                if not of_this or not isinstance(state.facts["earlier"], list):
                    raise ValueError(f"a phase {str(state.facts['phase'])[:40]!r}")
                state = state if state.facts["member"] == number else None
        # All processes have read before any writes.
        self.accelerator.wait_for_everyone()
        if finished is not None:
            tail = (
                copy.deepcopy(self.prepared.backbone.halves()[1]) if self.tuned else nn.Identity()
            )
            member = Member(tail, self.empty_head(number)).to(self.accelerator.device)
            with taking_up():
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
        # The initial weights use torch's global generator: the user's state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed_of(self.config.seed, number, "head"))
            return Head(self.prepared.backbone.width, classes)

    def _train_head(self, number: int, head: Head, state: Saved | None) -> tuple[Member, History]:
        self._fit_scale(number, head)
        if self.config.head_solver == "lbfgs":
            return self._solve_head(number, head)
        loop = self.head(number, head)
        # A step of the head takes a fraction of a millisecond: threads that wait for each other
        # made it seven times slower (4 against 37 s of processor time for 40 epochs of 1,526).
        with threads(1 if self.accelerator.device.type == "cpu" else None):
            history = loop.fit(state)
        return loop.member, history

    def _solve_head(self, number: int, head: Head) -> tuple[Member, History]:
        """Give a head the weights of the smallest loss. It takes a second: no state is kept."""
        learn, check = self.parts(number)
        images = len(learn) * len(self.features.views)
        # One piece: how many iterations it takes shows at the end.
        report = self._reporter("head", number)
        report(0, 1)

        def note(entry: dict[str, float], seconds: float) -> None:
            if self.recorder is not None and self.accelerator.is_main_process:
                cost = {
                    "seconds": seconds,
                    "waited_seconds": 0.0,
                    "images_per_second": images / seconds,
                    "memory_mb": peak_bytes(self.accelerator.device) / 2**20,
                }
                self.recorder.log({"member": number, "phase": "head", **entry, **cost})

        history = LogisticHead(
            config=self.config,
            head=head,
            source=self.features,
            learn=learn,
            check=check,
            labels=self.labels,
            targets=None if self.teacher is None else self.teacher.answers(learn, check),
            report=None if self.aside else note,
        ).fit()
        report(1, 1)
        if self.accelerator.is_main_process:
            told = Epoch.of(history[-1], member=number, phase="head", place=(1, 1))
            self.own.call_back(told)
        return Member(nn.Identity(), head).to(self.accelerator.device), history

    def _fit_scale(self, number: int, head: Head) -> None:
        learn, _ = self.parts(number)
        head.fit_scale(self._blocks(learn), self.prepared.backbone.input.bag)

    def parts(self, number: int) -> tuple[Indices, Indices]:
        """Return the images that a member learns from, and those on which it is judged."""
        return self.division.trainings[number // self.config.members]

    def head(self, number: int, head: Head) -> Loop:
        """Return the loop that trains a head on features."""
        config = self.config
        plan = Plan(
            phase="head",
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            choosing=not config.folds,
        )
        return self._loop(number, plan, Member(nn.Identity(), head), self.features)

    def tuning(self, number: int, head: Head, earlier: History) -> Loop:
        """Return the loop that trains the last stages, or adapters in them, with a head."""
        config, backbone, stages_source = self.config, self.prepared.backbone, self.prepared.stages
        if stages_source is None:
            raise ValueError("no stages are trained beside the head")
        tail = copy.deepcopy(backbone.halves()[1])
        if config.strategy == "lora":
            tail = with_adapters(tail, config.lora_rank, seed_of(config.seed, number, "lora"))
            stages: tuple[nn.Module, ...] = (tail,)
        else:
            tail.requires_grad_(True)
            stages = tuple(stages_in(tail, backbone.record))
        plan = Plan(
            phase=config.strategy,
            epochs=config.finetune_epochs,
            batch_size=config.finetune_batch_size,
            learning_rate=config.finetune_learning_rate,
            precision=backbone.precision,
            clip=config.clip,
            stages=stages,
            progressive=config.strategy == "full",
            choosing=not config.folds,
            starts_good=True,
            offset=len(earlier),
        )
        return self._loop(number, plan, Member(tail, head), stages_source, earlier=earlier)

    def _loop(
        self,
        number: int,
        plan: Plan,
        member: Member,
        source: Source,
        *,
        earlier: History | None = None,
    ) -> Loop:
        learn, check = self.parts(number)
        return Loop(
            accelerator=self.accelerator,
            config=self.config,
            plan=plan,
            member=member,
            source=source,
            learn=learn,
            check=check,
            labels=self.labels,
            number=number,
            name=self.prepared.backbone.record.name,
            run=self.run,
            own=self.own,
            earlier=list(earlier or []),
            recorder=self.recorder,
            progress=self._reporter(plan.phase, number),
        )

    def _reporter(self, phase: str, number: int) -> Callable[[int, int], None]:
        """Return what reports the progress of one member as a part of that of all members."""
        total = len(self.division.trainings) * self.config.members

        def report(done: int, epochs: int) -> None:
            if self.progress:
                self.progress(phase, number * epochs + done, total * epochs)

        return report

    def _blocks(self, learn: Indices) -> Iterator[torch.Tensor]:
        for number in range(len(self.features.views)):
            for start in range(0, len(learn), ROWS):
                yield torch.from_numpy(self.features.rows(learn[start : start + ROWS], number))

    def all_divisions(self) -> Trained:
        """Train the members of every division, and let them answer on their held-out images."""
        members: list[Member] = []
        histories: list[History] = []
        held_out: list[HeldOut] = []
        for part in range(len(self.division.parts)):
            numbers = [part * self.config.members + seed for seed in range(self.config.members)]
            trained = [self.train(number) for number in numbers]
            of_division = [member for member, _ in trained]
            held_out.append(self.held_out(numbers, of_division))
            members += of_division
            histories += [history for _, history in trained]
        return Trained(members, histories, held_out)

    def refitted(self) -> list[Member]:
        """Train members on all images, to answer in place of those that were judged."""
        first = len(self.division.parts) * self.config.members
        return [self.train(first + seed)[0] for seed in range(self.config.members)]

    # ── what came out ──────────────────────────────────────────────────────────────────────

    def held_out(self, numbers: list[int], members: list[Member]) -> HeldOut:
        """Return the answers of the members of one division on their held-out images."""
        check = self.parts(numbers[0])[1]
        classes = len(self.division.dataset.classes)
        if not len(check):
            empty = np.empty((0, self.prepared.backbone.width), np.float32)
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
            backbone = self.prepared.backbone.module
            if self.tuned:
                backbone = joined(self.prepared.backbone.halves()[0], member.tail)
            return self.prepared.over_orientations(backbone, check, weights_hash(backbone))
        if not self.tuned:
            rows = large_array((len(check), self.prepared.backbone.width), np.float32)
            for start in range(0, len(check), ROWS):
                rows[start : start + ROWS] = self.features.rows(check[start : start + ROWS], 0)
            return rows
        loop = self.tuning(number, member.head, [])
        return loop.outputs(check, member.tail).numpy()

    def network(self, members: list[Member]) -> Network:
        """Return the network that answers: the mean of the members, on their common trunk."""
        module = self.prepared.backbone.module
        if self.tuned:
            trunk = self.prepared.backbone.halves()[0]
            tails = [member.tail for member in members]
            module = joined(trunk, tails[0]) if len(tails) == 1 else Branches(trunk, tails)
        return Network(module, [m.head for m in members], orientations=self.config.tta)
