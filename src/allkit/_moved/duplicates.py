"""Moved to `allkit.images.same_field`."""

from allkit._moved import forward

_HOMES = {
    "DuplicatePair": "allkit.images.same_field.DuplicatePair",
    "Signature": "allkit.images.same_field.Signature",
    "SignatureStore": "allkit.images.same_field.SignatureStore",
    "closed_pairs": "allkit.images.same_field.closed_pairs",
    "clusters": "allkit.images.same_field.clusters",
    "find_duplicates": "allkit.images.same_field.find_duplicates",
    "match": "allkit.images.same_field.match",
    "pack": "allkit.images.same_field.pack",
    "signature": "allkit.images.same_field.signature",
    "unpack": "allkit.images.same_field.unpack",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
