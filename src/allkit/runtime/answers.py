"""From images to answers: reading ahead in threads, batching, deciding.

Everything that answers (a trained classifier, an exported file) comes through here, so that the
same probabilities always become the same answer.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allkit.data.listed import zip_member
from allkit.errors import ConfigError, ImageError
from allkit.images.batches import read_ahead, threads_named
from allkit.images.decode import Decoded, decoded
from allkit.images.given import Given
from allkit.images.statistics import image_statistics, statistics_at_scale
from allkit.records import Prediction
from allkit.runtime.inputs import asked
from allkit.trust.groups import ClassGroups
from allkit.trust.reasons import (
    COLOUR_PROFILE,
    NOT_A_SMEAR,
    TILE_OF_SLIDE,
    UNKNOWN_MAGNIFICATION,
    UNLIKE_TRAINING,
    UNREADABLE,
    texts_of,
)
from allkit.trust.verdict import Decision, Outputs, Trust
from allkit.types import Floats, Pixels

if TYPE_CHECKING:
    from allkit.images.cells import Cells

__all__ = [
    "answer",
    "answers",
    "refuse",
    "stream",
    "unreadable",
    "whole_number",
    "with_notes",
]


def answer(
    image: str,
    probabilities: Floats,
    decision: Decision,
    classes: Sequence[str],
    *,
    cells: Cells | None = None,
    groups: ClassGroups | None = None,
) -> Prediction:
    """Turn one image's `(K,)` probabilities and the decision about them into its answer.

    `groups` are those of the classes, by which the coarse answer is named, and `cells` what was found
    in the image, where the model looks at cells.
    """
    best = int(np.argmax(probabilities))
    coarse = None if groups is None else decision.coarse
    return Prediction(
        image=image,
        verdict=decision.verdict,
        reasons=decision.reasons,
        reason_codes=decision.codes,
        label=classes[best],
        probability=float(probabilities[best]),
        probabilities={name: float(p) for name, p in zip(classes, probabilities, strict=True)},
        prediction_set=tuple(classes[i] for i in decision.prediction_set),
        cells=() if cells is None else cells.cells,
        coarse=None if groups is None or coarse is None else groups.names[coarse.group],
        coarse_probability=None if coarse is None else coarse.probability,
        coarse_verdict=None if coarse is None else coarse.verdict,
        coarse_evidence={}
        if groups is None or coarse is None
        else dict(zip(groups.names, coarse.evidence, strict=True)),
        ood_score=None if groups is None or coarse is None else coarse.ood_score,
        red_cell=None if cells is None else cells.red_cell,
        nucleus_ratio=None if cells is None else cells.nucleus_ratio,
        white_cells=None if cells is None else cells.count,
    )


@np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
def answers(
    named: Sequence[tuple[str, Pixels]], outputs: Outputs, trust: Trust
) -> list[Prediction]:
    """Return the answers for N images, `(name, pixels)`, from what the network gave for them."""
    if not named:
        return []
    cells: Sequence[Cells | None] = outputs.cells or [None] * len(named)
    statistics = np.stack(
        [_statistics(image, of_image) for (_, image), of_image in zip(named, cells, strict=True)]
    )
    probabilities, decisions = trust.judge(outputs, statistics)
    if outputs.cells is not None:
        from allkit.images.cells import shortcomings

        decisions = refuse(decisions, [shortcomings(of_image) for of_image in outputs.cells])
    return [
        answer(name, row, decision, trust.classes, cells=of_image, groups=trust.groups)
        for (name, _), row, decision, of_image in zip(
            named, probabilities, decisions, cells, strict=True
        )
    ]


def _statistics(image: Pixels, cells: Cells | None) -> Floats:
    """Return the statistics of an image; where its cells were found, at the scale that was found."""
    if cells is None:
        return image_statistics(image)
    from allkit.images.cells import FIRST_FINDER

    return image_statistics(image) if cells.finder == FIRST_FINDER else statistics_at_scale(cells)


def refuse(decisions: Sequence[Decision], codes: Sequence[tuple[str, ...]]) -> list[Decision]:
    """Return the decisions, but refused where there are reasons, by code, against any answer.

    What is unlike the training and also shows no red cells is not a smear.
    """
    return [
        _no_smear(decision, why).refused(why)
        for decision, why in zip(decisions, codes, strict=True)
    ]


def _no_smear(decision: Decision, shortcomings: tuple[str, ...]) -> Decision:
    """Return the decision, with `not_a_smear` in place of `unlike_training` where that is true."""
    if UNKNOWN_MAGNIFICATION not in shortcomings:
        return decision
    codes = [NOT_A_SMEAR if code == UNLIKE_TRAINING else code for code in decision.codes]
    return decision._replace(codes=tuple(codes))


def unreadable(image: str, error: ImageError) -> Prediction:
    """Return the answer for an image that cannot be read."""
    codes = (UNREADABLE,)
    return Prediction(
        image=image,
        verdict="unreadable",
        reasons=texts_of(codes),
        reason_codes=codes,
        error=str(error),
    )


def with_notes(prediction: Prediction, read: Decoded) -> Prediction:
    """Return an answer that says what has to be said of how its image was read.

    That a colour profile was not applied changes no verdict: the answer is about the numbers that are in
    the file. An answer about a tile of a whole slide is never accepted: models learnt from fields that
    people chose, and nothing was measured on tiles.
    """
    codes = (COLOUR_PROFILE,) * bool(read.profile) + (TILE_OF_SLIDE,) * read.tile
    if not codes:
        return prediction
    noted = replace(
        prediction,
        reasons=(*prediction.reasons, *texts_of(codes)),
        reason_codes=(*prediction.reason_codes, *codes),
    )
    if not read.tile:
        return noted
    verdict, coarse = noted.verdict, noted.coarse_verdict
    return replace(
        noted,
        verdict="review" if verdict == "accepted" else verdict,
        coarse_verdict="review" if coarse == "accepted" else coarse,
    )


def stream(
    images: Any,
    network: Callable[[Sequence[Pixels]], Outputs],
    trust: Trust,
    *,
    batch_size: int = 16,
) -> Iterator[Prediction]:
    """Return an iterator over one answer per image, in order; `images` may be a single one.

    What one image is, `allkit.images.given` says: a path, the bytes of an encoded file, a binary
    file object, a Pillow image, an `(H, W, 3)` uint8 array. One that is missing or damaged gets the
    answer `unreadable`. Raises `ImageError` (`array`) for what can be no image: at once, or, within
    an iterable, where its answer would be; and `ConfigError` for a batch size below 1. What stands
    for several images (a folder, a table, a zip, a data frame), `allkit.runtime.inputs` says.

    At most four batches of images are in memory; of large images batches are smaller, down to a
    single one. Threads read what follows while the model works, and the model works on the next
    batch while this one is measured, decided and used.
    """
    batch_size = whole_number(batch_size, "The batch size")
    listed = asked(images)
    return _stream(listed.images, network, trust, batch_size)


def whole_number(value: Any, what: str, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number, also one of NumPy, as an int.

    Raises `ConfigError` that names `what` and the range for anything else.
    """
    number = None
    if not isinstance(value, (bool, np.bool_)):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    if number is None or number < least or (most is not None and number > most):
        upper = "" if most is None else f" to {most}"
        raise ConfigError(f"{what} is {value!r}; it must be a whole number from {least}{upper}.")
    return number


def _stream(
    images: Iterable[Given],
    network: Callable[[Sequence[Pixels]], Outputs],
    trust: Trust,
    batch_size: int,
) -> Iterator[Prediction]:
    def run(read: list[_Read]) -> Outputs | None:
        pixels = [image.read.pixels for image in read if image.read is not None]
        return network(pixels) if pixels else None

    with threads_named("allkit-model", 1) as model:
        before: tuple[list[_Read], Future[Outputs | None]] | None = None
        for batch in read_ahead(images, _read, batch_size, weigh=_weight):
            read = [image for _, image in batch]
            running = model.submit(run, read)
            if before is not None:
                yield from _decided(before[0], before[1].result(), trust)
            before = read, running
        if before is not None:
            yield from _decided(before[0], before[1].result(), trust)


class _Read(NamedTuple):
    """What reading made of an image, or the reason why not."""

    name: str
    read: Decoded | None = None
    error: ImageError | None = None
    mistake: ImageError | None = None


def _weight(image: _Read) -> int:
    return 0 if image.read is None else image.read.pixels.nbytes


def _decided(read: list[_Read], outputs: Outputs | None, trust: Trust) -> Iterator[Prediction]:
    named = [(image.name, image.read.pixels) for image in read if image.read is not None]
    answered = iter(answers(named, outputs, trust) if outputs is not None else ())
    for image in read:
        if image.mistake is not None:
            raise image.mistake
        if image.error is not None:
            yield unreadable(image.name, image.error)
        elif image.read is not None:
            yield with_notes(next(answered), image.read)


def _read(image: Given) -> _Read:
    if image.mistake is not None:
        return _Read(image.name, mistake=image.mistake)
    try:
        return _Read(image.name, _decoded(image))
    except ImageError as error:
        return _Read(image.name, error=error)


def _decoded(image: Given) -> Decoded:
    member = zip_member(image.source) if isinstance(image.source, str) else None
    if member is not None:
        return decoded(member.read(), name=image.name)
    if image.error is not None:
        raise image.error
    return decoded(image.readable(), name=image.name)
