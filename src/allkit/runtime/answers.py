"""From images to answers: reading ahead in threads, batching, deciding.

Everything that answers (a trained classifier, an exported file) comes through here, so that the
same probabilities always become the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.batches import read_ahead
from allkit.errors import ImageError
from allkit.images import read_image
from allkit.records import Prediction

__all__ = ["answer", "stream", "unreadable"]

Images = npt.NDArray[np.uint8]
NOT_CALIBRATED = "not calibrated"


def answer(
    image: str, probabilities: npt.NDArray[np.floating[Any]], classes: Sequence[str]
) -> Prediction:
    """Turn one image's `(K,)` probabilities into its answer.

    A model without calibration cannot say how sure it is, so its answers are for review.
    """
    best = int(np.argmax(probabilities))
    return Prediction(
        image=image,
        verdict="review",
        reasons=(NOT_CALIBRATED,),
        label=classes[best],
        probability=float(probabilities[best]),
        probabilities={name: float(p) for name, p in zip(classes, probabilities, strict=True)},
    )


def unreadable(image: str, error: ImageError) -> Prediction:
    """Return the answer for an image that cannot be read."""
    return Prediction(image=image, verdict="unreadable", reasons=("unreadable",), error=str(error))


def stream(
    images: Iterable[Any],
    probabilities: Callable[[Sequence[Images]], npt.NDArray[np.float32]],
    classes: Sequence[str],
    *,
    batch_size: int = 16,
) -> Iterator[Prediction]:
    """Yield one answer per image, in order, with at most three batches of images in memory.

    An image is a path, the bytes of an encoded file, or an `(H, W, 3)` uint8 array. Reading goes
    on in threads while the model works. An unreadable image is an answer too.
    """
    for batch in read_ahead(enumerate(images), _read, batch_size):
        read = [named for _, named in batch]
        readable = [image for _, image in read if not isinstance(image, ImageError)]
        rows = iter(probabilities(readable)) if readable else iter(())
        for name, image in read:
            if isinstance(image, ImageError):
                yield unreadable(name, image)
            else:
                yield answer(name, next(rows), classes)


def _read(numbered: tuple[int, Any]) -> tuple[str, Images | ImageError]:
    number, image = numbered
    name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
    try:
        return name, read_image(image, name=name)
    except ImageError as error:
        return name, error
