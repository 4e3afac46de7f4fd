"""The same image, asked in every way: the same bits on one machine and engine, and how far others are."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks import Counts, Scale

TITLE = "Determinism"
CLOSE = 1e-4
"""Largest difference of a probability that is no failure across batches, threads and engines."""


def _bits(answers: Sequence[Any]) -> list[Any]:
    return [
        (a.verdict, a.label, a.probability, tuple(a.probabilities.items()), a.reason_codes)
        for a in answers
    ]


def _tables(answers: Sequence[Any]) -> np.ndarray:
    return np.array([list(a.probabilities.values()) for a in answers])


def _same(counts: Counts, what: str, found: Any, expected: Any) -> None:
    if found == expected:
        counts.right += 1
    else:
        counts.failed.append(f"{what}: other bits")


def _near(counts: Counts, what: str, found: Sequence[Any], expected: Sequence[Any]) -> None:
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        far = float(np.abs(_tables([one]) - _tables([other])).max())
        most = counts.measured.get("largest difference of a probability", 0.0)
        counts.measured["largest difference of a probability"] = max(most, far)
        counts.measured["other verdicts"] = counts.measured.get("other verdicts", 0.0) + (
            one.verdict != other.verdict
        )
        if far <= CLOSE:
            counts.right += 1
        else:
            counts.failed.append(f"{what}, image {number}: {far:.2g} apart")


def opened(path: Path, engine: str = "torch", threads: int | None = None) -> Any:
    """Open a model folder with an engine, or an ONNX file."""
    import allkit
    from allkit.runtime.onnx import OnnxPredictor

    if path.is_dir():
        return allkit.Classifier.load(path, engine=engine)
    return OnnxPredictor(path, threads=threads)


def _in_a_process(job: tuple[str, list[Any]]) -> list[Any]:
    torch.set_num_threads(1)
    return _bits(opened(Path(job[0]), threads=1).predict(job[1]))


def run(
    scale: Scale,
    folder: Path,
    model: Path | None = None,
    exported: Path | None = None,
    images: list[Any] | None = None,
) -> dict[str, Counts]:
    """Ask a model folder and its ONNX file again, in other orders, batches, threads and processes.

    In the long run `ALLKIT_DEMO` may name the folder of `allkit demo`: then its model is asked.
    """
    from allkit.testing.examples import sample_images, tiny_model

    demo = os.environ.get("ALLKIT_DEMO")
    if scale == "long" and demo:
        model, exported = Path(demo) / "model", Path(demo) / "model.onnx"
        images = sorted((Path(demo) / "smears").rglob("*.png"))[:40]
    if model is None or exported is None:
        model, exported = folder / "model", folder / "model.onnx"
        tiny_model().save(model)
        tiny_model().export(exported)
    images = list(sample_images()) if images is None else images
    times = 20 if scale == "long" else 2
    again, near, engines = Counts(), Counts(), Counts()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        usual: dict[str, list[Any]] = {}
        for name, path in (("PyTorch", model), ("ONNX Runtime", exported)):
            predictor = opened(path, threads=1)
            usual[name] = expected = predictor.predict(images)
            for number in range(times):
                _same(
                    again,
                    f"{name}, asked again {number}",
                    _bits(predictor.predict(images)),
                    _bits(expected),
                )
            _same(
                again,
                f"{name}, opened again",
                _bits(opened(path, threads=1).predict(images)),
                _bits(expected),
            )
            alone = [predictor.predict([image])[0] for image in images]
            turned = [predictor.predict([image])[0] for image in reversed(images)][::-1]
            _same(again, f"{name}, one by one in another order", _bits(turned), _bits(alone))
            if scale == "long":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found = pool.map(_in_a_process, [(str(path), images)])[0]
                _same(again, f"{name}, in another process", found, _bits(expected))
            _near(near, f"{name}, one by one", alone, expected)
            for size in (2, 3, 7) if scale == "long" else (3,):
                _near(
                    near,
                    f"{name}, batches of {size}",
                    predictor.predict(images, batch_size=size),
                    expected,
                )
            _near(near, f"{name}, reversed", predictor.predict(images[::-1])[::-1], expected)
            torch.set_num_threads(2)
            _near(near, f"{name}, two threads", opened(path, threads=2).predict(images), expected)
            torch.set_num_threads(1)
        _near(engines, "ONNX Runtime", usual["ONNX Runtime"], usual["PyTorch"])
        if scale == "long":
            found = opened(model, "openvino").predict(images)
            _near(engines, "OpenVINO", found, usual["PyTorch"])
    finally:
        torch.set_num_threads(threads)
    return {
        "asked again: the same bits": again,
        f"other batches, orders and threads: a probability within {CLOSE:g}": near,
        f"another engine: a probability within {CLOSE:g}": engines,
    }
