"""Finding images that show the same field: byte-identical, or photographed again.

Every image is read once and gives a `Signature` of 3.5 KB. Three steps, each stricter and more
expensive than the one before, lead from signatures to pairs:

1. *Candidates*: keypoints whose descriptors agree in a random subset of bits meet in a sorted
   table; two images that are moved alike by two meetings are a candidate. Each keypoint meets at
   most 16 others per table, so the work grows as n log n.
2. *Geometry*: one shift, rotation and scaling (mirrored or not) has to carry several keypoints of
   the one image onto keypoints of the other.
3. *Pixels*: the two reduced images are laid over each other, and the detail in the overlap,
   without light and background, has to correlate. `match` has no pixels and requires more
   keypoints instead.

Two images are *near-duplicates* when their centres lie at most 35 % of the longer side apart: most
of what the one shows, the other shows too. Further apart they *overlap*: some cells are in both.

The lower right corner, where microscopes burn in a scale bar, takes no part in any of them.
"""

from allkit.images.same_field.reduction import ReducedStore, reduced
from allkit.images.same_field.search import (
    DuplicatePair,
    closed_pairs,
    clusters,
    find_duplicates,
    match,
)
from allkit.images.same_field.signatures import (
    Signature,
    SignatureStore,
    as_vector,
    of_vector,
    pack,
    signature,
    unpack,
)

__all__ = [
    "DuplicatePair",
    "ReducedStore",
    "Signature",
    "SignatureStore",
    "as_vector",
    "closed_pairs",
    "clusters",
    "find_duplicates",
    "match",
    "of_vector",
    "pack",
    "reduced",
    "signature",
    "unpack",
]
