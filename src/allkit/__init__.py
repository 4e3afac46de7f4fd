"""allkit: classifiers of acute lymphoblastic leukaemia in blood-smear images that tell the truth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allkit.adaptation.adapt import adapt as adapt
    from allkit.config import TrainConfig as TrainConfig
    from allkit.data.dataset import Dataset as Dataset
    from allkit.data.dataset import Split as Split
    from allkit.data.rows import Sample as Sample
    from allkit.errors import AllkitError as AllkitError
    from allkit.errors import CheckpointError as CheckpointError
    from allkit.errors import ConfigError as ConfigError
    from allkit.errors import DatasetError as DatasetError
    from allkit.errors import ExportError as ExportError
    from allkit.errors import ImageError as ImageError
    from allkit.errors import PluginError as PluginError
    from allkit.evaluation.compare import Comparison as Comparison
    from allkit.evaluation.confusion import Confusion as Confusion
    from allkit.evaluation.judged_images import JudgedImage as JudgedImage
    from allkit.evaluation.judged_images import JudgedImages as JudgedImages
    from allkit.evaluation.parity import ParityReport as ParityReport
    from allkit.evaluation.result import Evaluation as Evaluation
    from allkit.evaluation.shortcuts import Probe as Probe
    from allkit.features.cache import FeatureCache as FeatureCache
    from allkit.hookspecs import hookimpl as hookimpl
    from allkit.images.cells import find_cells as find_cells
    from allkit.images.decode import read_image as read_image
    from allkit.images.decode import read_raster as read_raster
    from allkit.model.adaptation import Adaptation as Adaptation
    from allkit.model.classifier import Classifier as Classifier
    from allkit.model.distillation import Distillation as Distillation
    from allkit.model.explanation import Explanation as Explanation
    from allkit.model.explanation import Faithfulness as Faithfulness
    from allkit.network.weights import load_weights as load_weights
    from allkit.quality.audit import Audit as Audit
    from allkit.quality.audit import audit as audit
    from allkit.quality.check import Check as Check
    from allkit.quality.check import check as check
    from allkit.quality.clean import clean as clean
    from allkit.quality.cleaned import Cleaned as Cleaned
    from allkit.records import Augmentation as Augmentation
    from allkit.records import Backbone as Backbone
    from allkit.records import BackboneFamily as BackboneFamily
    from allkit.records import CasePrediction as CasePrediction
    from allkit.records import Cell as Cell
    from allkit.records import Command as Command
    from allkit.records import Explainer as Explainer
    from allkit.records import Exporter as Exporter
    from allkit.records import Finder as Finder
    from allkit.records import Finding as Finding
    from allkit.records import Found as Found
    from allkit.records import HealthCheck as HealthCheck
    from allkit.records import InputSpec as InputSpec
    from allkit.records import MapRequest as MapRequest
    from allkit.records import Prediction as Prediction
    from allkit.records import Predictor as Predictor
    from allkit.records import Raster as Raster
    from allkit.records import Reader as Reader
    from allkit.records import Region as Region
    from allkit.records import View as View
    from allkit.runtime.cases import combine as combine
    from allkit.runtime.opening import load as load
    from allkit.runtime.predictions import Predictions as Predictions
    from allkit.shown.progress import progress_bar as progress_bar
    from allkit.training import Trainer as Trainer
    from allkit.training.distilling import distil as distil
    from allkit.training.plan import Epoch as Epoch
    from allkit.trust.reasons import reason_sentence as reason_sentence

__version__ = "0.3.0"

_HOME = {
    "Adaptation": "allkit.model.adaptation",
    "AllkitError": "allkit.errors",
    "Audit": "allkit.quality.audit",
    "Augmentation": "allkit.records",
    "Backbone": "allkit.records",
    "BackboneFamily": "allkit.records",
    "CasePrediction": "allkit.records",
    "Cell": "allkit.records",
    "Check": "allkit.quality.check",
    "CheckpointError": "allkit.errors",
    "Classifier": "allkit.model.classifier",
    "Cleaned": "allkit.quality.cleaned",
    "Command": "allkit.records",
    "Comparison": "allkit.evaluation.compare",
    "ConfigError": "allkit.errors",
    "Confusion": "allkit.evaluation.confusion",
    "Dataset": "allkit.data.dataset",
    "DatasetError": "allkit.errors",
    "Distillation": "allkit.model.distillation",
    "Epoch": "allkit.training.plan",
    "Evaluation": "allkit.evaluation.result",
    "Explainer": "allkit.records",
    "Explanation": "allkit.model.explanation",
    "ExportError": "allkit.errors",
    "Exporter": "allkit.records",
    "Faithfulness": "allkit.model.explanation",
    "FeatureCache": "allkit.features.cache",
    "Finder": "allkit.records",
    "Finding": "allkit.records",
    "Found": "allkit.records",
    "HealthCheck": "allkit.records",
    "ImageError": "allkit.errors",
    "InputSpec": "allkit.records",
    "JudgedImage": "allkit.evaluation.judged_images",
    "JudgedImages": "allkit.evaluation.judged_images",
    "MapRequest": "allkit.records",
    "ParityReport": "allkit.evaluation.parity",
    "PluginError": "allkit.errors",
    "Prediction": "allkit.records",
    "Predictions": "allkit.runtime.predictions",
    "Predictor": "allkit.records",
    "Probe": "allkit.evaluation.shortcuts",
    "Raster": "allkit.records",
    "Reader": "allkit.records",
    "Region": "allkit.records",
    "Sample": "allkit.data.rows",
    "Split": "allkit.data.dataset",
    "TrainConfig": "allkit.config",
    "Trainer": "allkit.training",
    "View": "allkit.records",
    "adapt": "allkit.adaptation.adapt",
    "audit": "allkit.quality.audit",
    "check": "allkit.quality.check",
    "clean": "allkit.quality.clean",
    "combine": "allkit.runtime.cases",
    "distil": "allkit.training.distilling",
    "find_cells": "allkit.images.cells",
    "hookimpl": "allkit.hookspecs",
    "load": "allkit.runtime.opening",
    "load_weights": "allkit.network.weights",
    "progress_bar": "allkit.shown.progress",
    "read_image": "allkit.images.decode",
    "read_raster": "allkit.images.decode",
    "reason_sentence": "allkit.trust.reasons",
}
__all__ = sorted([*_HOME, "__version__"])
_MODULES = (
    "config",
    "errors",
    "exporting",
    "hookspecs",
    "plugins",
    "sklearn",
    "telemetry",
    "testing",
    "training",
)
"""Modules that the documentation names; they need no import of their own."""


def __getattr__(name: str) -> Any:
    # Names are imported when they are first used, so that `import allkit` stays quick and free
    # of torch.
    if name in _MODULES:
        return importlib.import_module(f"allkit.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'allkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
