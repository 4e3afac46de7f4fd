"""Groups that are part of the images' names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from allkit.errors import DatasetError

__all__ = ["groups_of"]


def groups_of(images: Sequence[str], pattern: str) -> list[str]:
    """Return what the first pair of brackets of a regular expression matches in each name.

    Raises `DatasetError` when the expression is broken or does not match every name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"{pattern!r} is not a regular expression: {error}.") from None
    if compiled.groups < 1:
        raise DatasetError(f"{pattern!r} has no brackets around the part that names the group.")
    found = [compiled.search(image) for image in images]
    strange = [
        image for image, match in zip(images, found, strict=True) if not match or not match[1]
    ]
    if strange:
        raise DatasetError(
            f"{pattern!r} finds no group in {len(strange)} of {len(images)} names, first "
            f"{strange[0]!r}. Fix the pattern, or give a column `group`."
        )
    return [match[1] for match in found if match]
