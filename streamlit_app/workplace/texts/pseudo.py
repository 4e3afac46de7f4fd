"""A language made from English, in which texts that are cut or written into the code are seen.

Letters have accents, so that a text without them is one that stands in the code. Texts are longer by 40 %,
as those of other languages are, and stand between marks, so that a missing end is seen.
"""

from __future__ import annotations

import math
import re

__all__ = ["pseudo"]

PLACE = re.compile(r"\{[^{}]*\}")
ACCENTS = str.maketrans(
    "ACDEGHIJKLNORSTUWYZacdeghijklnorstuwyz",
    "ÅÇĎÉĜĤÎĴĶĻÑÖŔŠŤÛŴÝŽåçďéĝĥîĵķļñöŕšťûŵýž",
)
FILL = "õñê ťŵö ťĥŕéé ƒöûŕ ƒîṽé "


def pseudo(text: str) -> str:
    """Return a text in the made language; what stands in braces stays as it is."""
    places = PLACE.findall(text)
    between = PLACE.split(text)
    said = between[0].translate(ACCENTS)
    for place, part in zip(places, between[1:], strict=True):
        said += place + part.translate(ACCENTS)
    more = math.ceil(0.4 * sum(len(part) for part in between))
    fill = (FILL * (more // len(FILL) + 1))[:more].strip()
    return f"⟦{said} {fill}⟧" if fill else f"⟦{said}⟧"
