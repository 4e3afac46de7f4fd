"""Which images of a set belong together: of one slide or patient, byte-identical, or of one field."""

from __future__ import annotations

from collections.abc import Sequence

from allkit.data.allocation import joined_units, torn
from allkit.data.passes import Frame, ImagePasses, Measure
from allkit.data.rows import Sample
from allkit.images.same_field import (
    DuplicatePair,
    ReducedStore,
    Signature,
    SignatureStore,
    as_vector,
    clusters,
    find_duplicates,
    of_vector,
    reduced,
    signature,
)
from allkit.types import Bytes, Ints

__all__ = [
    "REDUCED",
    "SAME_FIELD",
    "SIGNATURE",
    "duplicates_of",
    "fields_of",
    "leaks_of",
    "units_of",
]


def _signature(frame: Frame) -> Signature:
    return signature(frame.pixels, frame.sha256)


SIGNATURE = Measure(
    "signature/1",
    _signature,
    cached=True,
    store=SignatureStore,
    as_vector=as_vector,
    of_vector=of_vector,
)
"""The signature of an image, by which its field is recognised; 3.5 KB."""


def _reduced(frame: Frame) -> Bytes:
    return reduced(frame.pixels)


REDUCED = Measure("reduced image", _reduced, store=ReducedStore, aside=True)
"""The reduced image that is laid over another one, to see whether they show the same field. It is not
worth a pass of its own: few images are candidates, and these can be read again."""
SAME_FIELD = (SIGNATURE, REDUCED)
"""What has to be measured before it can be said which images show the same field."""


def units_of(samples: Sequence[Sample], hashes: Sequence[str]) -> Ints:
    """Return `(N,)`: images with the same number share a group or a case, or are byte-identical."""
    return joined_units(len(samples), [s.group for s in samples], [s.case for s in samples], hashes)


def fields_of(samples: Sequence[Sample], units: Ints, duplicates: Sequence[DuplicatePair]) -> Ints:
    """Return `(N,)`: images with the same number are of one unit, or show the same field.

    The same field is known from the column `near_duplicate_of` or from `duplicates`.
    """
    groups = clusters(len(samples), duplicates)
    field_of = {index: number for number, members in enumerate(groups) for index in members}
    stated = [s.columns.get("near_duplicate_of") for s in samples]
    seen = [field_of.get(index) for index in range(len(samples))]
    return joined_units(len(samples), units.tolist(), stated, seen)


def duplicates_of(passes: ImagePasses) -> tuple[DuplicatePair, ...]:
    """Return the pairs of images that show the same field, or part of it; searched for once."""
    if passes.measured.duplicates is None:
        signatures = passes.measure(SAME_FIELD)[0]
        stored = passes.measured.column(REDUCED.name)

        def image(index: int) -> Bytes:
            grey: Bytes | None = stored[index]
            return passes.load(index)[0] if grey is None or not grey.size else grey

        found = find_duplicates(signatures, image)
        passes.measured.duplicates = tuple(found)
    return passes.measured.duplicates


def leaks_of(
    parts: Sequence[str | None], units: Ints, fields: Ints, slides: Ints | None = None
) -> list[str]:
    """Return what is on two sides of a division, in sentences; empty if nothing is.

    `slides` `(N,)` are the slides, where they are known.
    """
    # Images of one group are mostly of one field too: once is enough.
    for numbers, what in ((units, "groups or cases"), (fields, "fields")):
        count, images = torn(numbers, parts)
        if count:
            return [
                f"{count:,} {what} ({images:,} images) lie on two sides of the division: "
                f"figures on it are too high. Divide again with `allkit split`."
            ]
    count, images = (0, 0) if slides is None else torn(slides, parts)
    if count:
        return [
            f"{count:,} slides ({images:,} images) lie on two sides of the division: figures on it say "
            f"nothing about new slides. `allkit split --by slide` keeps slides whole."
        ]
    return []
