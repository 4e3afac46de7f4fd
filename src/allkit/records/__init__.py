"""The records that travel between allkit's parts, and between allkit and its plugins.

answers   what is answered, and by what
naming    names, and how a record is asked for
network   backbones, views, the input of a network
images    readers, augmentations, finders of cells
tools     exporters, explainers, commands, health checks
"""

from allkit.records.answers import CasePrediction, Cell, Prediction, Predictor, Verdict
from allkit.records.images import Augmentation, Finder, Found, Raster, Reader, Region
from allkit.records.naming import API_VERSION, OLDEST_API_VERSION, Reference
from allkit.records.network import (
    CELL_SPAN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    RED_CELL,
    SCALE_BAR,
    Backbone,
    BackboneFamily,
    Bag,
    InputSpec,
    View,
    Weights,
)
from allkit.records.tools import (
    Command,
    Explainer,
    Exporter,
    Finding,
    HealthCheck,
    MapRequest,
)

__all__ = [
    "API_VERSION",
    "CELL_SPAN",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "OLDEST_API_VERSION",
    "RED_CELL",
    "SCALE_BAR",
    "Augmentation",
    "Backbone",
    "BackboneFamily",
    "Bag",
    "CasePrediction",
    "Cell",
    "Command",
    "Explainer",
    "Exporter",
    "Finder",
    "Finding",
    "Found",
    "HealthCheck",
    "InputSpec",
    "MapRequest",
    "Prediction",
    "Predictor",
    "Raster",
    "Reader",
    "Reference",
    "Region",
    "Verdict",
    "View",
    "Weights",
]
