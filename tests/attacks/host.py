"""The state of the program around, and arguments of every kind: the same answer, or one error."""

# ruff: noqa: BLE001, S301, TID251 - any exception is counted, and what is unpickled is our own

from __future__ import annotations

import contextlib
import copy
import decimal
import io
import locale
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageFile

from attacks import Counts, Scale

TITLE = "The host program"


@contextlib.contextmanager
def _changed(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, _changed(os.getcwd, os.chdir, folder):
        yield


@contextlib.contextmanager
def _errors_of_numpy() -> Iterator[None]:
    before = np.seterr(all="raise")
    try:
        yield
    finally:
        np.seterr(**before)


@contextlib.contextmanager
def _no_streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = None
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _decimals() -> Iterator[None]:
    with decimal.localcontext() as context:
        context.prec = 1
        context.traps[decimal.Inexact] = True
        yield


@contextlib.contextmanager
def _warnings_raise() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _set(module: Any, name: str, value: Any) -> Callable[[], Any]:
    return lambda: _changed(
        lambda: getattr(module, name), lambda put: setattr(module, name, put), value
    )


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


STATES: dict[str, Callable[[], Any]] = {
    "float64": lambda: _changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "float16": lambda: _changed(torch.get_default_dtype, torch.set_default_dtype, torch.float16),
    "device_meta": lambda: torch.device("meta"),
    "default_device": lambda: _changed(lambda: None, torch.set_default_device, "meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients_off": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "matmul": lambda: _changed(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "deterministic": lambda: _changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "errstate": lambda: np.errstate(all="raise"),
    "seterr": _errors_of_numpy,
    "warnings_raise": _warnings_raise,
    "decimals": _decimals,
    "locale": lambda: _changed(
        lambda: locale.setlocale(locale.LC_ALL), lambda to: locale.setlocale(locale.LC_ALL, to), ""
    ),
    "folder": _elsewhere,
    "no_streams": _no_streams,
    "stdout_text": lambda: contextlib.redirect_stdout(io.StringIO()),
    "logging_off": lambda: _changed(lambda: logging.root.manager.disable, logging.disable, 100),
    "pillow_limit": _set(Image, "MAX_IMAGE_PIXELS", 1),
    "pillow_no_limit": _set(Image, "MAX_IMAGE_PIXELS", None),
    "opencv_threads": lambda: _changed(cv2.getNumThreads, cv2.setNumThreads, 1),
    "opencv_plain": lambda: _changed(cv2.useOptimized, cv2.setUseOptimized, False),
    "recursion": lambda: _changed(
        sys.getrecursionlimit, sys.setrecursionlimit, min(sys.getrecursionlimit(), 400)
    ),
    "umask": lambda: _changed(_umask, os.umask, 0),
}
"""By name, what the program has set: each gives a context."""


def seen() -> dict[str, Any]:
    """What a program finds again, as it is now."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "numpy": np.geterr(),
        "decimals": decimal.getcontext().prec,
        "locale": locale.setlocale(locale.LC_ALL),
        "folder": os.getcwd(),
        "streams": (sys.stdout is None, sys.stderr is None),
        "logging": (logging.root.manager.disable, logging.root.level, len(logging.root.handlers)),
        "warnings": len(warnings.filters),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "opencv": (cv2.getNumThreads(), cv2.useOptimized()),
        "recursion": sys.getrecursionlimit(),
        "umask": _umask(),
        "signals": (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)),
        "environment": {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"},
    }


def _same_in_every_state(
    predictor: Any, pixels: list[Any], expected: list[Any], names: list[str]
) -> Counts:
    counts = Counts()
    for name in names:
        try:
            with STATES[name]():
                before = seen()
                found = predictor.predict(pixels)
                after = seen()
        except Exception as error:
            counts.failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if found != expected:
            counts.failed.append(f"{name}: another answer")
        elif before != after:
            counts.failed.append(f"{name}: not as it was: {_difference(before, after)}")
        else:
            counts.right += 1
    return counts


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    return ", ".join(f"{k} {before[k]!r} → {after[k]!r}" for k in before if before[k] != after[k])


# ── arguments ──────────────────────────────────────────────────────────────────────────────────


class _Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise OSError("the drive is gone")


def _images(path: Path) -> list[tuple[str, Any, str]]:
    """By name, what is given as an image, and what has to come: its verdicts' number, or an error."""
    content, array = path.read_bytes(), np.asarray(Image.open(path).convert("RGB"))
    tensor = torch.from_numpy(array.copy())
    first = tensor.permute(2, 0, 1)
    folder = path.parent
    one = [
        ("a path", path), ("a text", str(path)), ("bytes", content), ("bytearray", bytearray(content)),
        ("memoryview", memoryview(content)), ("BytesIO", io.BytesIO(content)), ("a file", path.open("rb")),
        ("Pillow", Image.open(path)), ("an array", array), ("a grey array", array[:, :, 0]),
        ("an array that cannot be written", np.frombuffer(array.tobytes(), np.uint8).reshape(array.shape)),
        ("a turned array", array[::-1, ::-1]), ("a tensor (H, W, 3)", tensor),
        ("a tensor (3, H, W)", first), ("a grey tensor", tensor[:, :, 0]),
        ("a tensor with gradient", first.clone()),
    ]  # fmt: skip
    unreadable = [
        ("half a file", content[: len(content) // 2]), ("half a file in a file", io.BytesIO(content[:500])),
        ("500 bytes", bytearray(content[:500])), ("no bytes", b""), ("a broken file", _Broken()),
        ("a missing path", folder / "missing.png"), ("text", b"text"),
    ]  # fmt: skip
    refused = [
        ("None", None), ("a number", 5), ("a set", {str(path)}), ("a frozenset", frozenset([path])),
        ("a dict", {"image": path}), ("a float tensor", first / 255), ("a float64 array", array / 255.0),
        ("an array of int64", array.astype(np.int64)), ("an array of bool", array > 9),
        ("an array (3, H, W)", array.transpose(2, 0, 1)), ("an array of 4 channels", np.dstack([array, array[:, :, 0]])),
        ("a tensor of 3 by 3 by 3", torch.zeros(3, 5, 3, dtype=torch.uint8)), ("a tensor of one axis", tensor[0, 0]),
        ("a text file", io.StringIO("x")), ("a list in a list", [[path]]), ("[None]", [None]), ("[5]", [5]),
        ("a structured array", np.zeros(3, "i4,f4")), ("a complex array", array.astype(complex)),
        ("an object", object()), ("a class", Path), ("a function", len), ("True", True), ("an empty text", ""),
        ("a closed file", _closed(path)), ("a memoryview of an array", memoryview(array)),
    ]  # fmt: skip
    several = [
        ("a list", [path, content]), ("a tuple", (path, array)), ("a generator", (p for p in [path, path])),
        ("an iterator", iter([path, path])), ("an array of two", np.stack([array, array])),
        ("a tensor of two", torch.stack([first, first])), ("an array of paths", np.array([str(path)] * 2)),
        ("an object array", np.array([str(path), content], dtype=object)), ("two keys", {str(path): 1, str(folder): 2}.keys()),
    ]  # fmt: skip
    return [
        *((name, value, "1") for name, value in one),
        *((name, value, "unreadable") for name, value in unreadable),
        *((name, value, "error") for name, value in refused),
        *((name, value, "2") for name, value in several[:-1]),
        ("keys", several[-1][1], "error"),
        ("an empty list", [], "0"),
        ("an empty generator", iter(()), "0"),
    ]


def _closed(path: Path) -> Any:
    file = path.open("rb")
    file.close()
    return file


SLOW = ("warnings_raise", "anomalies", "pillow_no_limit", "float16", "device_meta")
NUMBERS = (0, -1, 1.5, "8", True, None, float("nan"), np.float64(4), 10**400, [1], np.array([1, 2]))
GOOD_NUMBERS = (1, 3, 10**6, np.int64(2), np.uint8(4), np.array(2))


def _arguments(predictor: Any, path: Path, opener: Callable[..., Any]) -> Counts:
    from allkit.errors import AllkitError

    counts = Counts()

    def attempt(name: str, wanted: str, work: Callable[[], list[Any]]) -> None:
        try:
            answers = work()
        except AllkitError as error:
            if wanted == "error" and len(str(error)) < 500:
                counts.refused += 1
            else:
                counts.failed.append(f"{name}: refused: {error}")
        except Exception as error:
            counts.failed.append(f"{name}: {type(error).__name__}: {error}")
        else:
            verdicts = [answer.verdict for answer in answers]
            came = "unreadable" if verdicts == ["unreadable"] else str(len(verdicts))
            if came == wanted:
                counts.right += 1
            else:
                counts.failed.append(f"{name}: {came} in place of {wanted}")

    for name, value, wanted in _images(path):
        attempt(name, wanted, lambda value=value: predictor.predict(value))
        if isinstance(value, io.IOBase | Image.Image):
            value.close()
    for number in NUMBERS[:8] + NUMBERS[9:]:
        attempt(
            f"batch_size={number!r}",
            "error",
            lambda n=number: predictor.predict(path, batch_size=n),
        )
    for number in GOOD_NUMBERS:
        attempt(
            f"batch_size={number!r}", "1", lambda n=number: predictor.predict(path, batch_size=n)
        )
    for number in (0, -1, 1.5, "8", True, 10**9):
        attempt(f"threads={number!r}", "error", lambda n=number: opener(threads=n).predict(path))
    attempt("threads=np.int64(2)", "1", lambda: opener(threads=np.int64(2)).predict(path))
    return counts


# ── copies ─────────────────────────────────────────────────────────────────────────────────────


_inherited: dict[str, Any] = {}
"""What a forked process finds as its parent has used it."""


def _answers_of_inherited(name: str) -> list[Any]:
    torch.set_num_threads(2)
    predictor, pixels = _inherited[name]
    return predictor.predict(pixels)


def _answers_of(sent: tuple[Any, list[Any]]) -> list[Any]:
    predictor, pixels = sent
    return predictor.predict(pixels)


def _copies(predictors: dict[str, Any], pixels: list[Any], *, spawned: bool) -> Counts:
    counts = Counts()
    ways: dict[str, Callable[[Any], Any]] = {
        "copy": copy.copy, "deepcopy": copy.deepcopy,
        **{
            f"pickle {n}": lambda it, n=n: pickle.loads(pickle.dumps(it, n))
            for n in range(2, pickle.HIGHEST_PROTOCOL + 1)
        },
    }  # fmt: skip
    for name, predictor in predictors.items():
        expected = predictor.predict(pixels)
        for way, make in ways.items():
            _compare(
                counts, f"{name}, {way}", lambda m=make, p=predictor: m(p).predict(pixels), expected
            )
        if spawned:
            _compare(
                counts,
                f"{name}, spawned",
                lambda p=predictor: _elsewhere_of("spawn", p, pixels),
                expected,
            )
        _compare(
            counts,
            f"{name}, forked",
            lambda p=predictor: _elsewhere_of("fork", p, pixels),
            expected,
        )
        _compare(
            counts,
            f"{name}, its answers",
            lambda e=expected: pickle.loads(pickle.dumps(e)),
            expected,
        )
    return counts


def _elsewhere_of(method: str, predictor: Any, pixels: list[Any]) -> list[Any]:
    """Return the answers of another process: it is sent the predictor, or, forked, has it already."""
    context = multiprocessing.get_context(method)
    _inherited[method] = predictor, pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        with context.Pool(1) as pool:
            if method == "fork":
                return pool.apply_async(_answers_of_inherited, [method]).get(timeout=120)
            return pool.apply_async(_answers_of, [(predictor, pixels)]).get(timeout=120)


def _compare(counts: Counts, name: str, work: Callable[[], Any], expected: Any) -> None:
    try:
        found = work()
    except Exception as error:
        counts.failed.append(f"{name}: {type(error).__name__}: {error}")
        return
    if found == expected:
        counts.right += 1
    else:
        counts.failed.append(f"{name}: other answers")


def run(
    scale: Scale,
    folder: Path,
    model: Path | None = None,
    exported: Path | None = None,
    pixels: list[Any] | None = None,
) -> dict[str, Counts]:
    """Try every state, argument and copy on a model folder and on its exported file."""
    import allkit
    from allkit.runtime.onnx import OnnxPredictor
    from allkit.testing.examples import sample_images, tiny_model

    if model is None or exported is None:
        model, exported = folder / "model", folder / "model.onnx"
        tiny_model().save(model)
        tiny_model().export(exported)
    pixels = list(sample_images()[:3]) if pixels is None else pixels
    image = folder / "image.png"
    Image.fromarray(pixels[0]).save(image)
    classifier = allkit.Classifier.load(model)
    onnx = OnnxPredictor(exported)
    predictors = {"model": classifier, "exported file": onnx}
    names = list(STATES) if scale == "long" else [n for n in STATES if n not in SLOW]
    states = {
        f"`predict` of the {name} in a program that has set something": _same_in_every_state(
            predictor, pixels, predictor.predict(pixels), names
        )
        for name, predictor in predictors.items()
    }

    def opener(**options: Any) -> Any:
        return OnnxPredictor(exported, **options)

    return states | {
        "arguments of `predict`": _arguments(classifier, image, opener),
        "pickled, copied, forked, spawned": _copies(predictors, pixels, spawned=scale == "long"),
    }
