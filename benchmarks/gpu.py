"""Whether a graphics card computes what the processor computes, and how long each takes.

    python benchmarks/gpu.py --out gpu.json [--weights vgg16.safetensors]
    python benchmarks/gpu.py --device cpu --quick --out proof.json     (no card: that the script works)

Protocol. Drawn smears, so that no data are needed; efficientnet-lite0 with the weights of its package, and
vgg16 with `--weights`, else with random ones. Every check compares the device with the processor and has a
limit; `--minutes` (8) end the run, and what was not reached is listed. Exit status 1 if a check fails, 2
where there is no such device.

*features*: a frozen pass over `--images` smears in batches of 16; distance ‖device − processor in float32‖ /
‖processor‖, mean over images. *training*: each strategy in each precision on the device, and in float32 on
the processor: training loss of the last epoch, and probabilities on the test part. *answers*: the model that
the device trained, loaded on the device and on the processor; a class counts as changed where the two highest
probabilities are more than 0.05 apart. *export*: that model as ONNX, by allkit's own parity report. *memory*:
with 1.5 and 3 GB, a pass has to halve its batches with the same result, and a training has to say which
accumulation fits. Seconds are of the clock, once, with what a first call prepares; images a second are of a
second pass.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import allkit
from allkit.data.drawn import write_smears
from allkit.errors import AllkitError, ConfigError
from allkit.features import FrozenPass, native_bfloat16
from allkit.network.device import choose_device
from allkit.plugins import registry, resolve_weights

CPU = torch.device("cpu")
BATCH = 16
STRATEGIES = ("head", "last", "full", "lora")
DISTANCE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.05}
"""Limits of the distance of features: float32 is computed without TF32."""
LOSS = {"float32": 0.05, "bfloat16": 0.15, "float16": 0.15}
"""Limits of the relative difference of a training loss."""
TRAINED = {"float32": 0.1, "bfloat16": 0.25, "float16": 0.25}
"""Limits of the difference of a probability between two models, mean over images."""
SAME = 1e-3
"""Limit of the difference of a probability of one model on two devices, the largest."""
VERDICTS = 0.05
"""Share of the verdicts that may differ between two devices."""


class OutOfTime(Exception):
    """The minutes are over."""


class Checks:
    """What was found, beside its limit; what was not checked, and why."""

    def __init__(self, minutes: float) -> None:
        self.begun = time.perf_counter()
        self.minutes = minutes
        self.rows: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}
        self.skipped: dict[str, str] = {}

    def at_most(self, what: str, found: float, limit: float) -> None:
        """Compare a figure with its limit; what is no number is above it."""
        ok = bool(found <= limit)
        self.rows.append({"check": what, "found": round(float(found), 6), "limit": limit, "ok": ok})
        print(f"{'ok  ' if ok else 'FAIL'} {what}: {found:.4g}, limit {limit:g}", flush=True)

    def true(self, what: str, ok: bool, found: object) -> None:
        """Note something that holds or does not."""
        self.rows.append({"check": what, "found": str(found), "ok": bool(ok)})
        print(f"{'ok  ' if ok else 'FAIL'} {what}: {found}", flush=True)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time a step; a failure of allkit is a failed check, and what comes too late is not begun."""
        if time.perf_counter() - self.begun > 60 * self.minutes:
            raise OutOfTime(what)
        start = time.perf_counter()
        try:
            yield
        except AllkitError as error:
            self.true(what, False, error)
        self.seconds[what] = round(time.perf_counter() - start, 2)

    def skip(self, what: str, why: str) -> None:
        self.skipped[what] = why
        print(f"not checked: {what} ({why})", flush=True)

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row["ok"] for row in self.rows)


# ── the checks ────────────────────────────────────────────────────────────────────────────────


class Card:
    """The device, the smears, and the checks."""

    def __init__(self, options: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self.options, self.device, self.folder = options, device, folder
        self.checks = Checks(options.minutes)
        table = write_smears(
            folder / "smears", options.images, groups=max(12, options.images // 8), seed=0
        )
        self.split = allkit.Dataset.open(table).split(test=0.3, seed=0)
        self.train, self.test = self.split.train, self.split.test
        self.images = [self.split.whole.read(i) for i in range(options.images)]
        self.precisions = ["float32"]
        if native_bfloat16(device) or device.type == "cpu":
            self.precisions.append("bfloat16")
        if device.type != "cpu":
            self.precisions.append("float16")

    def weights(self, name: str) -> str:
        if name == "efficientnet-lite0":
            return "default"
        return self.options.weights if name == "vgg16" and self.options.weights else "none"

    def settings(self, name: str, **more: Any) -> dict[str, Any]:
        return {
            "backbone": name, "weights": self.weights(name), "cache": None, "engine": "torch",
            "finetune_epochs": 2, "finetune_batch_size": BATCH, "val": 0.3, "calibration_folds": 2,
        } | more  # fmt: skip

    def features(self, name: str) -> None:
        """Compare the features of a backbone in every precision, and time them."""
        record = registry().get("backbone", name)
        weights = resolve_weights(name, self.weights(name))
        with torch.random.fork_rng():
            torch.random.manual_seed(0)
            module = record.build(weights)

        def frozen(device: torch.device, precision: str) -> FrozenPass:
            return FrozenPass(copy.deepcopy(module), record.input, device, precision=precision)

        def passed(run: FrozenPass) -> torch.Tensor:
            parts = [self.images[i : i + BATCH] for i in range(0, len(self.images), BATCH)]
            return torch.cat([run(part, block=BATCH) for part in parts])

        with self.checks.step(f"{name}, features, processor"):
            run = frozen(CPU, "float32")
            exact = passed(run)
            self.pace(f"{name}, features, processor", lambda: passed(run))
        for precision in self.precisions:
            what = f"{name}, features, {precision}"
            with self.checks.step(what):
                run = frozen(self.device, precision)
                rows = passed(run)
                far = ((rows - exact).norm(dim=1) / exact.norm(dim=1)).mean()
                self.checks.at_most(what, float(far), DISTANCE[precision])
                self.pace(what, lambda run=run: passed(run))

    def pace(self, what: str, again: Any) -> None:
        start = time.perf_counter()
        again()
        seconds = time.perf_counter() - start
        self.checks.seconds[f"{what}, images a second"] = round(len(self.images) / seconds, 1)

    def training(self, name: str, strategy: str) -> allkit.Classifier | None:
        """Train a strategy on both devices; return the last model that the device trained."""
        if strategy == "lora" and not _installed("peft"):
            self.checks.skip(f"{name}, training, lora", "peft is not installed")
            return None
        reference = model = None
        what = f"{name}, training, {strategy}"
        with self.checks.step(f"{what}, processor"):
            reference = self.trained(name, strategy, CPU, "float32")
        for precision in self.precisions:
            if reference is None:
                break
            with self.checks.step(f"{what}, {precision}"):
                model = self.trained(name, strategy, self.device, precision)
                self.compare(f"{what}, {precision}", model, reference, precision)
        return model

    def trained(
        self, name: str, strategy: str, device: torch.device, precision: str
    ) -> allkit.Classifier:
        settings = self.settings(name, strategy=strategy, precision=precision, device=str(device))
        return allkit.Trainer(**settings).fit(self.train)

    def compare(
        self, what: str, model: allkit.Classifier, reference: allkit.Classifier, precision: str
    ) -> None:
        ours, theirs = (m.info.history[0][-1]["train_loss"] for m in (model, reference))
        self.checks.at_most(f"{what}, loss", abs(ours - theirs) / theirs, LOSS[precision])
        images = [self.test.read(i) for i in range(len(self.test))]
        far = np.abs(model.probabilities(images) - reference.probabilities(images))
        self.checks.at_most(f"{what}, answers", far.max(axis=1).mean(), TRAINED[precision])

    def answers(self, name: str, model: allkit.Classifier) -> None:
        """Compare the answers of one model on the device and on the processor."""
        what = f"{name}, answers"
        images = [self.test.read(i) for i in range(len(self.test))]
        with self.checks.step(what):
            folder = model.save(self.folder / f"model-{len(self.checks.rows)}")
            on_card = allkit.Classifier.load(folder, device=self.device)
            on_processor = allkit.Classifier.load(folder)
            ours, theirs = on_card.predict(images), on_processor.predict(images)
            p, q = (
                np.array([list(a.probabilities.values()) for a in answers])
                for answers in (ours, theirs)
            )
            self.checks.at_most(f"{what}, probabilities", np.abs(p - q).max(), SAME)
            top = np.sort(q, axis=1)
            clear = top[:, -1] - top[:, -2] > 0.05
            changed = (p.argmax(axis=1) != q.argmax(axis=1)) & clear
            self.checks.at_most(f"{what}, classes changed", int(changed.sum()), 0)
            verdicts = np.mean([a.verdict != b.verdict for a, b in zip(ours, theirs, strict=True)])
            self.checks.at_most(f"{what}, share of verdicts changed", verdicts, VERDICTS)
            for label, answering in (("device", on_card), ("processor", on_processor)):
                start = time.perf_counter()
                answering.predict(images)
                per_second = len(images) / (time.perf_counter() - start)
                self.checks.seconds[f"{what}, {label}, images a second"] = round(per_second, 1)

    def export(self, name: str, model: allkit.Classifier) -> None:
        """Export a model that lies on the device, and compare the file with it."""
        what = f"{name}, export to ONNX"
        with self.checks.step(what):
            parity = model.export(self.folder / f"{name.replace(':', '-')}.onnx", check=self.test)
            self.checks.at_most(what, parity.difference, SAME)
            self.checks.true(f"{what}, parity", not parity.shortfalls(), parity.lines()[0])

    def memory(self, name: str) -> None:
        """Halve what does not fit; say what fits in a training that does not."""
        if self.device.type != "cuda":
            self.checks.skip(f"{name}, memory", "only a graphics card has a limit that can be set")
            return
        record = registry().get("backbone", name)
        module = record.build(resolve_weights(name, self.weights(name)))
        run = FrozenPass(module, record.input, self.device)
        many = (self.images * -(-256 // len(self.images)))[:256]
        with self.checks.step(f"{name}, memory, features"):
            whole = run(many)
            with _few_megabytes(self.device, 1500), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                halved = run(many)
            said = [str(w.message) for w in caught if "computed in halves" in str(w.message)]
            self.checks.true(f"{name}, memory, halved", bool(said), said[:1])
            far = ((halved - whole).norm(dim=1) / whole.norm(dim=1)).max()
            self.checks.at_most(f"{name}, memory, same result", float(far), DISTANCE["float32"])
        with self.checks.step(f"{name}, memory, training"):
            message = "it fitted: nothing was seen"
            settings = self.settings(
                name, strategy="full", precision="float32", device=str(self.device), copies=0,
                finetune_batch_size=len(self.train), val=0.0,
            )  # fmt: skip
            try:
                with _few_megabytes(self.device, 3000):
                    allkit.Trainer(**settings).fit(self.train)
            except AllkitError as error:
                message = str(error)
            advice = "accumulation=" in message and "Out of memory" in message
            self.checks.true(f"{name}, memory, advice", advice, message)


@contextlib.contextmanager
def _few_megabytes(device: torch.device, megabytes: int) -> Iterator[None]:
    """Let this process have only so much of the card's memory beyond what it holds."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    wanted = torch.cuda.memory_reserved(device) + megabytes * 2**20
    torch.cuda.set_per_process_memory_fraction(min(1.0, wanted / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


# ── the run ───────────────────────────────────────────────────────────────────────────────────


def run(card: Card) -> None:
    """Do every check that the minutes allow, what matters most first."""
    backbones = card.options.backbones
    for name in backbones:
        card.features(name)
    first = backbones[0]
    for strategy in STRATEGIES:
        model = card.training(first, strategy)
        if model is not None and strategy in ("head", "last"):
            card.answers(f"{first}, {strategy}", model)
        if model is not None and strategy == "last":
            card.export(first, model)
    card.memory(backbones[-1])
    for name in backbones[1:]:
        for strategy in ("head", "last"):
            model = card.training(name, strategy)
            if model is not None:
                card.answers(f"{name}, {strategy}", model)


def about(device: torch.device) -> dict[str, Any]:
    """Return the machine and its versions."""
    facts: dict[str, Any] = {
        "device": str(device), "torch": torch.__version__, "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(), "allkit": allkit.__version__,
        "bfloat16": native_bfloat16(device),
    }  # fmt: skip
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"name": properties.name, "memory_gb": round(properties.total_memory / 2**30, 1)}
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def main() -> int:
    """Check, time, and write the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small network, few smears")
    parser.add_argument("--weights", help="for vgg16; random ones otherwise")
    parser.add_argument("--backbones", nargs="+")
    parser.add_argument("--images", type=int, help="drawn smears, 24 or more")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.images = options.images or (24 if options.quick else 128)
    quick = ["timm:test_resnet"] if options.quick else ["efficientnet-lite0", "vgg16"]
    options.backbones = options.backbones or quick
    try:
        device = choose_device(options.device)
    except ConfigError as error:
        print(f"{error}\nNothing was checked. `--device cpu --quick` shows that the script works.")
        return 2
    warnings.filterwarnings("ignore", category=UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        card = Card(options, device, Path(folder))
        checks = card.checks
        try:
            run(card)
        except OutOfTime as late:
            checks.skip(f"{late} and what follows", f"the {options.minutes:g} minutes were over")
    seconds = round(time.perf_counter() - checks.begun, 1)
    failed = [row for row in checks.rows if not row["ok"]]
    figures = {
        "about": about(device), "passed": checks.passed, "checks": checks.rows,
        "not_checked": checks.skipped, "seconds": checks.seconds, "seconds_in_all": seconds,
    }  # fmt: skip
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(
        f"{len(checks.rows)} checks, {len(failed)} failed, {len(checks.skipped)} not made, "
        f"{seconds:g} s on {device}. Saved {options.out}."
    )
    return 0 if checks.passed else 1


if __name__ == "__main__":
    sys.exit(main())
