"""Groups and slides that are part of the images' names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from allkit.data.rows import Sample
from allkit.data.slides import SLIDE_SOURCE
from allkit.errors import DatasetError

__all__ = ["Kind", "compiled_pattern", "origins_of", "with_origins"]

Kind = Literal["group", "slide"]
"""What a part of a name says about an image."""


def compiled_pattern(pattern: str, kind: Kind) -> re.Pattern[str]:
    """Return a regular expression that names groups or slides; raise `DatasetError` for no such."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"{pattern!r} is not a regular expression: {error}.") from None
    if compiled.groups < 1:
        raise DatasetError(f"{pattern!r} has no brackets around the part that names the {kind}.")
    return compiled


def origins_of(images: Sequence[str], pattern: str, kind: Kind) -> list[str]:
    """Return what the first pair of brackets of a regular expression matches in each name.

    Raises `DatasetError` when the expression is broken or does not match every name.
    """
    compiled = compiled_pattern(pattern, kind)
    found = [compiled.search(image) for image in images]
    strange = [
        image for image, match in zip(images, found, strict=True) if not match or not match[1]
    ]
    if strange:
        first = "" if len(strange) == 1 else "first "
        raise DatasetError(
            f"{pattern!r} finds no {kind} in {len(strange)} of {len(images)} names, {first}"
            f"{', '.join(repr(image) for image in strange[:3])}. Fix the pattern, or give a column "
            f"`{kind}`."
        )
    return [match[1] for match in found if match]


def with_origins(samples: Sequence[Sample], pattern: str, kind: Kind) -> list[Sample]:
    """Return the samples with the groups or slides that `origins_of` takes from their names."""
    origins = origins_of([s.image for s in samples], pattern, kind)
    named = zip(samples, origins, strict=True)
    if kind == "group":
        return [replace(sample, group=origin) for sample, origin in named]
    # What names say is no suggestion, whatever the table said of slides before.
    return [
        replace(
            sample,
            slide=origin,
            columns={k: v for k, v in sample.columns.items() if k != SLIDE_SOURCE},
        )
        for sample, origin in named
    ]
