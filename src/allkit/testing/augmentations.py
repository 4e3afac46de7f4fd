"""The checks of an augmentation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from allkit.records import Augmentation
from allkit.testing.alone import imports_quickly
from allkit.testing.checks import require
from allkit.testing.examples import sample_images
from allkit.testing.surroundings import changed, global_state, no_network
from allkit.types import Pixels

__all__ = ["CHECKS"]

SECONDS = 0.25  # for one field of 224 × 224 pixels
SIZES = ((32, 32), (33, 47), (96, 64), (224, 224))


def _run(record: Augmentation, image: Pixels, seed: int) -> Pixels:
    return record.apply(image.copy(), np.random.default_rng(seed))


def keeps_shape_and_type(record: Augmentation) -> None:
    """Square or not, small or large: the result has the image's shape, and is uint8."""
    for height, width in SIZES:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        result = _run(record, image, 1)
        kind = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}"
        require(
            isinstance(result, np.ndarray)
            and result.shape == image.shape
            and result.dtype == np.uint8,
            f"For an image of {image.shape} uint8 it returned {kind}.",
        )


def takes_blank_images(record: Augmentation) -> None:
    """An all-black, an all-white and a grey image are images too."""
    for value in (0, 128, 255):
        result = _run(record, np.full((64, 64, 3), value, np.uint8), 1)
        require(result.shape == (64, 64, 3), f"For a blank image it returned {result.shape}.")


def same_seed_gives_same_image(record: Augmentation) -> None:
    """The same image and the same state of `rng` give the same result, also after other calls."""
    for image in sample_images()[:4]:
        first = _run(record, image, 5)
        for seed in (1, 2, 3):
            _run(record, sample_images()[0], seed)
        require(
            np.array_equal(first, _run(record, image, 5)),
            "Twice the same seed gave two images. `rng` must be the only source of chance.",
        )


def other_seeds_give_other_images(record: Augmentation) -> None:
    """It is a random change: among sixteen seeds, some results differ."""
    image = sample_images()[0]
    results = {_run(record, image, seed).tobytes() for seed in range(16)}
    require(len(results) > 1, "Sixteen seeds gave one and the same image.")


def leaves_its_input_untouched(record: Augmentation) -> None:
    """The image that is given stays as it is, and may be one that cannot be written to."""
    image = sample_images()[0].copy()
    before = image.copy()
    result = record.apply(image, np.random.default_rng(0))
    require(np.array_equal(image, before), "It changed the image it was given.")
    require(not np.shares_memory(result, image), "Its result shares memory with its input.")
    image.flags.writeable = False
    record.apply(image, np.random.default_rng(0))


def threads_do_not_disturb_each_other(record: Augmentation) -> None:
    """Eight threads at once get what each would get alone."""
    image = sample_images()[0]
    alone = [_run(record, image, seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: _run(record, image, seed), range(16)))
    require(
        all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True)),
        "In threads it gave other images than alone: it keeps state between calls.",
    )


def goes_to_worker_processes(record: Augmentation) -> None:
    """`apply` can be sent to a worker process, and does the same there."""
    from multiprocessing.reduction import ForkingPickler

    try:
        sent: Callable[..., Pixels] = ForkingPickler.loads(
            bytes(ForkingPickler.dumps(record.apply))
        )
    except Exception as error:  # noqa: BLE001 - pickling raises whatever the object raises
        require(False, f"`apply` cannot be sent: {error}. Make it a function of the module.")
    image = sample_images()[0]
    there = sent(image.copy(), np.random.default_rng(3))
    require(
        np.array_equal(there, _run(record, image, 3)), "After being sent it gave another image."
    )


def ignores_and_keeps_global_state(record: Augmentation) -> None:
    """Global seeds do not matter, and nothing of the process is changed; no network is used."""
    image = sample_images()[0]
    _run(record, image, 0)  # the first call may import libraries
    with no_network() as attempts:
        before = global_state()
        first = _run(record, image, 7)
        different = changed(before, global_state())
        states = random.getstate(), np.random.get_state()
        try:
            random.seed(1)
            np.random.seed(1)  # noqa: TID251 - to show that it does not matter; put back
            second = _run(record, image, 7)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
    require(not different, f"It changed: {', '.join(different)}.")
    require(np.array_equal(first, second), "A global seed changed its result: use `rng` only.")
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")


def is_quick(record: Augmentation) -> None:
    """One field of 224 × 224 pixels takes at most a quarter of a second."""
    image = sample_images()[0]
    _run(record, image, 0)
    start = time.perf_counter()
    for seed in range(3):
        _run(record, image, seed)
    seconds = (time.perf_counter() - start) / 3
    require(seconds <= SECONDS, f"One field takes {seconds:.2f} s; at most {SECONDS} s is fair.")


CHECKS = (
    imports_quickly,
    keeps_shape_and_type,
    takes_blank_images,
    same_seed_gives_same_image,
    other_seeds_give_other_images,
    leaves_its_input_untouched,
    threads_do_not_disturb_each_other,
    goes_to_worker_processes,
    ignores_and_keeps_global_state,
    is_quick,
)
