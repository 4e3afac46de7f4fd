"""What the frozen part of a network computes: once, with the fastest engine, kept on disk."""

from allkit.features.activations import ActivationStore
from allkit.features.cache import FeatureCache
from allkit.features.extract import Extractor, Progress, native_bfloat16, weights_hash
from allkit.features.folder import cache_folder

__all__ = [
    "ActivationStore",
    "Extractor",
    "FeatureCache",
    "Progress",
    "cache_folder",
    "native_bfloat16",
    "weights_hash",
]
