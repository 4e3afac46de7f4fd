"""What the frozen part of a network computes: once, with the fastest engine, kept on disk.

extract      features of a set, and augmented copies
bags         a field, its cells, or both
engines      PyTorch or OpenVINO, whichever agrees and is faster
cache        feature vectors on disk
activations  activations at the cut, on disk
folder       where the caches lie, and their limits
"""

from allkit.features.activations import ActivationStore
from allkit.features.bags import BagPass
from allkit.features.cache import FeatureCache
from allkit.features.engines import (
    BLOCK,
    ENGINES,
    HALF,
    WORTH_AN_ENGINE,
    FrozenPass,
    describe_engine,
    native_bfloat16,
)
from allkit.features.extract import AugmentedCopy, Extractor, row_key
from allkit.features.folder import activations_folder, cache_folder

__all__ = [
    "BLOCK",
    "ENGINES",
    "HALF",
    "WORTH_AN_ENGINE",
    "ActivationStore",
    "AugmentedCopy",
    "BagPass",
    "Extractor",
    "FeatureCache",
    "FrozenPass",
    "activations_folder",
    "cache_folder",
    "describe_engine",
    "native_bfloat16",
    "row_key",
]
