"""From images to answers: reading ahead in threads, batching, deciding.

Everything that answers (a trained classifier, an exported file) comes through here, so that the
same probabilities always become the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.batches import read_ahead
from allkit.errors import ImageError
from allkit.images import read_image
from allkit.records import Prediction
from allkit.runtime.smear import image_statistics
from allkit.runtime.trust import Decision, Outputs, Trust

if TYPE_CHECKING:
    from allkit.runtime.cells import Cells

__all__ = ["answer", "answers", "refuse", "stream", "unreadable"]

Images = npt.NDArray[np.uint8]


def answer(
    image: str,
    probabilities: npt.NDArray[np.floating[Any]],
    decision: Decision,
    classes: Sequence[str],
    cells: Cells | None = None,
) -> Prediction:
    """Turn one image's `(K,)` probabilities and the decision about them into its answer."""
    best = int(np.argmax(probabilities))
    return Prediction(
        image=image,
        verdict=decision.verdict,
        reasons=decision.reasons,
        label=classes[best],
        probability=float(probabilities[best]),
        probabilities={name: float(p) for name, p in zip(classes, probabilities, strict=True)},
        prediction_set=tuple(classes[i] for i in decision.prediction_set),
        cells=() if cells is None else cells.places(),
    )


def answers(
    named: Sequence[tuple[str, Images]], outputs: Outputs, trust: Trust
) -> list[Prediction]:
    """Return the answers for N images, `(name, pixels)`, from what the network gave for them."""
    if not named:
        return []
    statistics = [image_statistics(image) for _, image in named]
    probabilities, decisions = trust.judge(outputs, np.stack(statistics))
    found: Sequence[Cells | None] = outputs.cells or [None] * len(named)
    if outputs.cells is not None:
        from allkit.runtime.cells import shortcomings

        decisions = refuse(decisions, [shortcomings(cells) for cells in outputs.cells])
    return [
        answer(name, row, decision, trust.classes, cells)
        for (name, _), row, decision, cells in zip(
            named, probabilities, decisions, found, strict=True
        )
    ]


def refuse(decisions: Sequence[Decision], reasons: Sequence[tuple[str, ...]]) -> list[Decision]:
    """Return the decisions, but refused where there are reasons against any answer."""
    return [
        Decision("refused", (*why, *decision.reasons), decision.prediction_set) if why else decision
        for decision, why in zip(decisions, reasons, strict=True)
    ]


def unreadable(image: str, error: ImageError) -> Prediction:
    """Return the answer for an image that cannot be read."""
    return Prediction(image=image, verdict="unreadable", reasons=("unreadable",), error=str(error))


def stream(
    images: Iterable[Any],
    network: Callable[[Sequence[Images]], Outputs],
    trust: Trust,
    *,
    batch_size: int = 16,
) -> Iterator[Prediction]:
    """Yield one answer per image, in order, with at most three batches of images in memory.

    An image is a path, the bytes of an encoded file, or an `(H, W, 3)` uint8 array. Reading goes
    on in threads while the model works. An unreadable image is an answer too.
    """
    for batch in read_ahead(enumerate(images), _read, batch_size):
        read = [named for _, named in batch]
        readable = [(name, image) for name, image in read if not isinstance(image, ImageError)]
        outputs = network([image for _, image in readable]) if readable else None
        found = iter(answers(readable, outputs, trust) if outputs is not None else ())
        for name, image in read:
            yield unreadable(name, image) if isinstance(image, ImageError) else next(found)


def _read(numbered: tuple[int, Any]) -> tuple[str, Images | ImageError]:
    number, image = numbered
    name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
    try:
        return name, read_image(image, name=name)
    except ImageError as error:
        return name, error
