"""What the frozen part of a network computes: once, with the fastest engine, kept on disk."""

from allkit.features.activations import ActivationStore
from allkit.features.cache import FeatureCache
from allkit.features.engines import ENGINES, FrozenPass, native_bfloat16
from allkit.features.extract import (
    Extractor,
    Progress,
    load_augmented,
    matrix,
    row_key,
    weights_hash,
)
from allkit.features.folder import activations_folder, cache_folder

__all__ = [
    "ENGINES",
    "ActivationStore",
    "Extractor",
    "FeatureCache",
    "FrozenPass",
    "Progress",
    "activations_folder",
    "cache_folder",
    "load_augmented",
    "matrix",
    "native_bfloat16",
    "row_key",
    "weights_hash",
]
