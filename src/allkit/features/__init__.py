"""Outputs of the frozen part of a network, computed once with the fastest engine and kept on disk."""

from allkit.features.activations import ActivationStore
from allkit.features.bags import BagPass
from allkit.features.cache import FeatureCache
from allkit.features.engines import BLOCK, ENGINES, HALF, FrozenPass, native_bfloat16
from allkit.features.extract import AugmentedCopy, Extractor, row_key
from allkit.features.folder import activations_folder, cache_folder

__all__ = [
    "BLOCK",
    "ENGINES",
    "HALF",
    "ActivationStore",
    "AugmentedCopy",
    "BagPass",
    "Extractor",
    "FeatureCache",
    "FrozenPass",
    "activations_folder",
    "cache_folder",
    "native_bfloat16",
    "row_key",
]
